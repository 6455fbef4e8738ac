"""What the layer keeps for the backward pass, and how exactly the input is recovered from it."""

import numpy as np
import pytest
import torch
from support.norm_layers import SHAPES, make
from torch import nn

from leakyrelu.torch import NormLeakyReLU
from leakyrelu.torch.activations.invertible import poorly_inverted


def saved_bytes(module, x):
    storages = {}
    own = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = module(x)
    return sum(storages.values()), y


@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_only_the_output_is_kept(implementation, kind):
    x = torch.randn(8, 6, 16, 16, requires_grad=True)
    norm = make(kind, 2, "ordinary")
    kept, y = saved_bytes(NormLeakyReLU(norm, 0.1), x)
    statistics = {"batch": 6, "instance": 48, "group": 48}[kind]
    assert kept <= y.nbytes + 4 * statistics
    in_place, _ = saved_bytes(nn.Sequential(norm, nn.LeakyReLU(0.1, inplace=True)), x)
    assert in_place >= 2 * y.nbytes


def test_channels_that_cannot_be_inverted_keep_their_own_input_and_no_others(implementation):
    x = torch.randn(8, 6, 16, 16, requires_grad=True)
    norm = make("batch", 2, "mixed")
    kept, y = saved_bytes(NormLeakyReLU(norm, 0.1), x)
    assert y.nbytes * 1.5 <= kept <= y.nbytes * 1.5 + 24


@pytest.mark.parametrize(
    ("weight", "bias", "slope", "dtype", "poor"),
    [
        ([1.0, -1.0, 0.5], [16.0, -16.0, 8.1], 0.01, torch.float32, [2]),
        ([1.0, -1.0, 0.5], [2.0, -2.1, 1.0], 0.01, torch.bfloat16, [1]),
        ([0.0, -0.0, 1e-20], [0.0, 0.0, 0.0], 0.01, torch.float64, [0, 1]),
        ([1e-35, 1e-28, 1e-25], [0.0, 0.0, 0.0], 0.01, torch.float32, [0]),
        ([1e-35, 1e-30, 1e-25], [0.0, 0.0, 0.0], 1e-6, torch.float32, [0, 1]),
        ([1e30, 1e32, 1.0], [0.0, 0.0, 0.0], 0.01, torch.float32, [1]),
        ([1e25, 1e30, 1.0], [0.0, 0.0, 0.0], 1e4, torch.float32, [1]),
        ([float("nan"), float("inf"), 1.0], [0.0, 0.0, float("nan")], 0.01, torch.float32, [0, 1, 2]),
        ([1.0, 2.0, 3.0], None, 0.01, torch.float32, None),
        (None, None, 0.01, torch.float32, None),
    ],
)
def test_which_channels_can_be_inverted(weight, bias, slope, dtype, poor):
    tensors = [None if t is None else torch.tensor(t, dtype=dtype) for t in (weight, bias)]
    found = poorly_inverted(*tensors, slope, dtype)
    assert (found if found is None else found.tolist()) == poor


def test_error_of_the_recovered_input_is_within_the_documented_bound(implementation):
    """2 eps (|xhat| + |b / w|), seen through the gradient of the weight for a gradient that is one at one element."""
    eps = 2.0**-23
    for ratio in (0.1, 1.0, 15.9):
        norm = nn.BatchNorm1d(1).eval()
        with torch.no_grad():
            norm.weight.fill_(0.3)
            norm.bias.fill_(0.3 * ratio)
        layer = NormLeakyReLU(norm, 0.01)
        x = torch.randn(64, 1, 2, generator=torch.Generator().manual_seed(3), requires_grad=True)
        y = layer(x)
        xhat = x.detach().double() / np.sqrt(1 + norm.eps)
        for k in range(0, 64, 7):
            g = torch.zeros_like(y)
            g[k, 0, 1] = 1.0
            (got,) = torch.autograd.grad(y, layer.weight, g, retain_graph=True)
            scale = 1.0 if y[k, 0, 1] > 0 else 0.01
            error = abs(got.double() / scale - xhat[k, 0, 1]).item()
            assert error <= 2 * eps * (abs(xhat[k, 0, 1]) + ratio)


def test_a_changed_output_is_noticed(implementation):
    layer = NormLeakyReLU(nn.BatchNorm2d(6), 0.1)
    y = layer(torch.randn(SHAPES[2], requires_grad=True))
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
