"""Infinities, and settings that PyTorch refuses: what the pair of layers does."""

import copy

import pytest
import torch
from support.norm_layers import KINDS, SHAPES, data
from torch import nn

from leakyrelu.torch import NormLeakyReLU

INFINITY = float("inf")


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_an_eps_of_zero_is_refused_in_training_alone(axes):
    norm = KINDS["batch"][axes](6, eps=0.0)
    layer, x = NormLeakyReLU(norm, 0.1), data(SHAPES[axes], torch.float32)
    for module in (norm, layer):
        with pytest.raises(ValueError, match=r"eps must be positive during training, but got 0\.0"):
            module(x)
    layer.eval()
    torch.testing.assert_close(layer(x), nn.functional.leaky_relu(norm(x), 0.1))
    assert "_NormLeakyReLU" in type(layer(x).grad_fn).__name__


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(6, eps=0.0), nn.GroupNorm(2, 6, eps=0.0)])
def test_an_eps_of_zero_is_taken_where_pytorch_takes_it(norm):
    x = data(SHAPES[2], torch.float32)
    torch.testing.assert_close(NormLeakyReLU(norm, 0.1)(x), nn.functional.leaky_relu(norm(x), 0.1))


def test_a_negative_eps_is_refused_in_evaluation():
    with pytest.raises(ValueError, match="eps must be non-negative, but got -1"):
        NormLeakyReLU(nn.BatchNorm2d(6, eps=-1.0).eval(), 0.1)(data(SHAPES[2], torch.float32))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [INFINITY, -INFINITY, float("nan")])
def test_gradients_of_given_statistics_where_one_input_is_infinite(implementation, value, dtype, layout):
    norm = nn.BatchNorm2d(3).to(dtype).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 2.0, 0.0]))  # (the last channel keeps its normalized input)
    x = data((4, 3, 5, 4), dtype, layout)
    x[1, 1, 2, 3] = x[2, 2, 0, 0] = value
    results = []
    for module in (nn.Sequential(norm, nn.LeakyReLU(0.25)), NormLeakyReLU(copy.deepcopy(norm), 0.25)):
        own = x.clone(memory_format=torch.preserve_format).requires_grad_()
        module(own).backward(torch.ones_like(x))
        results.append([own.grad, *(parameter.grad for parameter in module.parameters())])
    assert results[0][0].isfinite().all()
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, equal_nan=True, rtol=0.02, atol=0.02)


# One block of a sum, several, and several pieces, which threads share.
@pytest.mark.parametrize("positions", [6, 3000, 150_000])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_running_mean_with_one_infinity_is_infinite(kind, dtype, last, positions):
    """By the native core: PyTorch's function of mean and variance, which other devices use, gives NaN."""
    norm = KINDS[kind][2](3, affine=True, track_running_stats=True).to(dtype)
    ours = NormLeakyReLU(copy.deepcopy(norm), 0.1)
    for place in (positions // 3, None):  # the second step has nothing special, and the mean stays infinite
        x = data((2, 3, positions, 1), dtype)
        if place is not None:
            x[0, 1, place] = INFINITY
            x[0, 2, place] = -INFINITY
        if last:
            x = x.to(memory_format=torch.channels_last)
        norm(x), ours(x)
        torch.testing.assert_close(ours.running_mean, norm.running_mean, rtol=1e-5, atol=1e-5)
        assert ours.running_mean[1:].tolist() == [INFINITY, -INFINITY]
        torch.testing.assert_close(ours.running_var, norm.running_var, equal_nan=True, rtol=1e-5, atol=1e-5)


def test_an_infinite_running_mean_stays_infinite(implementation):
    layer = NormLeakyReLU(nn.BatchNorm2d(6), 0.1)
    layer.running_mean.fill_(INFINITY)
    layer(data(SHAPES[2], torch.float32))
    assert layer.running_mean.tolist() == [INFINITY] * 6
