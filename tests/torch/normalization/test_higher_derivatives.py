"""Derivatives of higher order, and batched gradients."""

import copy

import pytest
import torch
import torch.nn.functional as F
from support.norm_layers import SHAPES, data, make
from torch import nn

from leakyrelu.torch import NormLeakyReLU


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("weights", ["none", "ordinary", "mixed"])
@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_numerical_derivatives_of_first_and_second_order(implementation, kind, weights, training):
    norm = make(kind, 1, weights).double().train(training)
    if weights == "mixed":
        with torch.no_grad():
            norm.weight[4] = 0.0  # a step of the numerical derivative is larger than the tiny one
    layer = NormLeakyReLU(norm, 0.3)
    x = data((2, 6, 3)).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def function(x, *params):
        state = {name: buffer.clone() for name, buffer in layer.named_buffers()}
        swapped = dict(zip(names, params, strict=True))
        y = torch.func.functional_call(layer, {**swapped, **state}, (x,))
        assert "_NormLeakyReLU" in type(y.grad_fn).__name__
        return y

    inputs = (x, *(p.detach().clone().requires_grad_() for p in layer.parameters()))
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_third_derivatives(implementation):
    norm = make("batch", 1).double()

    def by_hand(x):  # PyTorch's own third derivative of nn.BatchNorm takes 1 / std for a constant
        var, mean = torch.var_mean(x, (0, 2), correction=0, keepdim=True)
        v = (x - mean) / (var + norm.eps).sqrt() * norm.weight[:, None] + norm.bias[:, None]
        return F.leaky_relu(v, 0.3)

    results = []
    for module in (by_hand, NormLeakyReLU(norm, 0.3)):
        x = data((3, 6, 5)).requires_grad_()
        g = module(x).square().sum()
        for _ in range(3):
            (d,) = torch.autograd.grad(g, x, create_graph=True)
            g = d.square().sum()
        results.append(d)
    torch.testing.assert_close(results[1], results[0], rtol=1e-8, atol=1e-8)


def test_gradient_checkpoint_penalty_trains_the_weights(implementation):
    """A gradient penalty: second derivatives with respect to weights and bias."""
    norm = make("batch", 2).double()
    pair = nn.Sequential(copy.deepcopy(norm), nn.LeakyReLU(0.3))
    grads = []
    for module in (pair, NormLeakyReLU(norm, 0.3)):
        x = data(SHAPES[2]).requires_grad_()
        (d,) = torch.autograd.grad(module(x).pow(3).sum(), x, create_graph=True)
        d.square().sum().backward()
        grads.append([x.grad, *(p.grad for p in module.parameters())])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-8, atol=1e-8 * a.abs().max().item())


def test_batched_gradients(implementation):
    norm = make("batch", 2).double()
    pair = nn.Sequential(copy.deepcopy(norm), nn.LeakyReLU(0.3))
    rows = torch.randn(3, *SHAPES[2], dtype=torch.float64)
    results = []
    for module in (pair, NormLeakyReLU(norm, 0.3)):
        x = data(SHAPES[2]).requires_grad_()
        results.append(torch.autograd.grad(module(x), [x, *module.parameters()], rows, is_grads_batched=True))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a)
