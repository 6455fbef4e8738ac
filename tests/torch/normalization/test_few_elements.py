"""Few elements a statistic in 16 bits, where the gradient of the input nearly cancels."""

import copy

import pytest
import torch
from torch import nn

from leakyrelu.torch import NormLeakyReLU

CHANNELS = 1024
SLOPE = 0.1


def layers(count, kind, ratio):
    """A normalization with `count` elements a statistic, data for it, and the axes of a statistic."""
    if kind == "batch":
        norm, shape, axes = nn.BatchNorm1d(CHANNELS), (count, CHANNELS), (0,)
    elif kind == "instance":
        norm, shape, axes = nn.InstanceNorm1d(CHANNELS, affine=True), (2, CHANNELS, count), (2,)
    else:
        norm, shape, axes = nn.GroupNorm(CHANNELS, CHANNELS), (2, CHANNELS, count), (2,)
    generator = torch.Generator().manual_seed(count)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5, generator=generator)
        norm.bias.copy_(ratio * norm.weight)
    return norm, torch.randn(shape, generator=generator), axes


def gradient(module, x, g):
    x = x.clone().requires_grad_()
    y = module(x)
    return y, torch.autograd.grad(y, x, g)[0].double()


@pytest.mark.parametrize("ratio", [0.0, 1.0, 1.9])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_the_gradient_of_the_input_is_as_exact_as_the_pairs(implementation, kind, dtype, ratio):
    for count in (2, 3, 4, 7, 8, 12):
        norm, x, axes = layers(count, kind, ratio)
        x, g = x.to(dtype), torch.randn(x.shape, generator=torch.Generator().manual_seed(7)).to(dtype)
        pair, layer = nn.Sequential(norm, nn.LeakyReLU(SLOPE)), NormLeakyReLU(copy.deepcopy(norm), SLOPE)
        exact, expected = gradient(copy.deepcopy(pair).double(), x.double(), g.double())
        theirs, by_pair = gradient(pair, x, g)
        ours, got = gradient(layer, x, g)
        if count < 8:
            assert torch.equal(got, by_pair)
            continue
        assert "_NormLeakyReLU" in str(list(graph(ours.grad_fn)))
        alike = ((exact > 0) == (theirs > 0)) & ((exact > 0) == (ours > 0))  # no element took the other slope
        alike = alike.all(axes)
        ratios = [((a - expected).norm(dim=axes) / expected.norm(dim=axes))[alike] for a in (got, by_pair)]
        ours, theirs = (t.quantile(torch.tensor([0.5, 0.99], dtype=torch.float64)) for t in ratios)
        assert (ours <= torch.tensor([1.6, 3.2]) * theirs).all()


def graph(function):
    """The functions that made a tensor."""
    while function is not None:
        yield type(function).__name__
        function = function.next_functions[0][0] if function.next_functions else None


def test_few_elements_are_joined_in_32_bits_and_with_given_statistics():
    norm, x, _ = layers(2, "batch", 1.0)
    layer = NormLeakyReLU(norm, SLOPE)
    assert "_NormLeakyReLU" in str(list(graph(layer(x).grad_fn)))
    layer.eval()
    assert "_NormLeakyReLU" in str(list(graph(layer(x.bfloat16()).grad_fn)))
