"""The bounds of the three gradients that the documentation states, against the pair in float64."""

import copy
import itertools
import random

import pytest
import torch
from support.norm_layers import KINDS
from torch import nn

from leakyrelu.torch import NormLeakyReLU

SLOPES = (1e-6, 0.01, 0.3, 1.0, 10.0)
RATIOS = (0.0, 1.0, 1.9, 15.0, 100.0)
WEIGHTS = (1e-30, 1e-6, 0.01, 1.0, 1e4)
INPUTS = ((16, 1.0), (256, 1.0), (16, 1e-3), (64, 0.0))  # elements a statistic, and their standard deviation
# In multiples of eps, for the gradients of the input, the weight and the bias.
BOUNDS = (6.0, 4.0, 2.0)


def gradients(module, x, g):
    x = x.clone().requires_grad_()
    return [t.double() for t in torch.autograd.grad(module(x), [x, *module.parameters()], g)]


def errors(found, exact, sizes):
    """The largest error of each gradient, over channels, in units of its size."""
    per_channel = (
        (found[0] - exact[0]).square().sum((0, 2)).sqrt(),
        *(abs(a - b) for a, b in zip(found[1:], exact[1:], strict=True)),
    )
    return [torch.where(e == 0, e, e / size).max().item() for e, size in zip(per_channel, sizes, strict=True)]


@pytest.mark.parametrize("kind", ["batch", "instance"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_three_gradients_are_within_their_bounds(implementation, dtype, kind):
    cases = random.Random(0).sample(list(itertools.product(SLOPES, RATIOS, WEIGHTS, INPUTS)), 60)
    generator = torch.Generator().manual_seed(0)
    for slope, ratio, size, (count, std) in cases:
        norm = KINDS[kind][1](8, affine=True)  # float32 weights, as in mixed precision
        with torch.no_grad():
            norm.weight.copy_(size * torch.tensor([1.0, -1.0, 0.8, -0.8, 1.1, 0.9, -1.2, 1.3]))
            norm.bias.copy_(ratio * norm.weight.abs() * torch.tensor([1.0, -1.0]).repeat(4))
        x = torch.randn(2, 8, count, generator=generator).mul(std).to(dtype)
        g = torch.randn(x.shape, generator=generator).to(dtype)
        pair = nn.Sequential(norm, nn.LeakyReLU(slope))
        exact = gradients(copy.deepcopy(pair).double(), x.double(), g.double())

        axes = (0, 2) if kind == "batch" else (2,)
        wide, weight, bias = x.double(), norm.weight.double()[:, None], norm.bias.double()[:, None]
        var, mean = torch.var_mean(wide, axes, correction=0, keepdim=True)
        invstd = (var + norm.eps).rsqrt()
        xhat = (wide - mean) * invstd
        h = torch.where(xhat * weight + bias > 0, g.double(), slope * g.double())

        of_h, of_xhat = (t.square().sum((0, 2)).sqrt() for t in (h, xhat))
        eps = torch.finfo(dtype).eps
        scale = (invstd * abs(weight) * h).square().sum((0, 2)).sqrt()
        sizes = [eps * scale, eps * of_h * of_xhat, eps * of_h * x[:, 0].numel() ** 0.5]
        theirs = errors(gradients(pair, x, g), exact, sizes)
        ours = errors(gradients(NormLeakyReLU(copy.deepcopy(norm), slope), x, g), exact, sizes)
        for mine, by_pair, bound in zip(ours, theirs, BOUNDS, strict=True):
            # Where numbers leave the range of float16, both are further off.
            assert mine <= max(bound, 1.01 * by_pair) or by_pair != by_pair, (slope, ratio, size, count, std)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_gradient_of_the_weight_is_zero_for_inputs_of_zero(implementation, dtype):
    for kind in ("batch", "instance"):
        norm = KINDS[kind][1](6, affine=True)
        nn.init.uniform_(norm.bias, -1.0, 1.0)
        _, of_weight, _ = gradients(
            NormLeakyReLU(norm, 0.1), torch.zeros(2, 6, 50, dtype=dtype), torch.ones(2, 6, 50, dtype=dtype)
        )
        assert of_weight.tolist() == [0.0] * 6


def test_the_gradient_of_the_weight_where_the_variance_is_small(implementation):
    norm = nn.BatchNorm1d(6)
    nn.init.constant_(norm.bias, -1.9)
    x = (torch.randn(4, 6, 50) * 1e-4).bfloat16()
    g = torch.randn(x.shape).bfloat16()
    exact, pair, ours = (
        gradients(module, x.to(dtype), g.to(dtype))[1]
        for module, dtype in (
            (nn.Sequential(copy.deepcopy(norm), nn.LeakyReLU(0.1)).double(), torch.float64),
            (nn.Sequential(copy.deepcopy(norm), nn.LeakyReLU(0.1)), torch.bfloat16),
            (NormLeakyReLU(norm, 0.1), torch.bfloat16),
        )
    )
    assert (ours - exact).norm() <= (pair - exact).norm() + 0.01 * exact.norm()
