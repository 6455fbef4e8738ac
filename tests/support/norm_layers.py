"""Layers and data of the tests of NormLeakyReLU, and one step of ours beside the pair of layers."""

import copy

import torch
from torch import nn

from leakyrelu.torch import NormLeakyReLU

SHAPES = {1: (5, 6, 11), 2: (3, 6, 4, 5), 3: (2, 6, 3, 4, 5)}
KINDS = {
    "batch": {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
    "instance": {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
}
# A channel of each sort: ordinary, negative, far off zero (not invertible), zero, tiny, huge.
WEIGHT = [1.2, -0.7, 1e-3, 0.0, 1e-42, 3.0]
BIAS = [0.3, -0.4, 2.0, 0.5, -1.0, 0.0]
EPS = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 0.05, torch.float16: 6e-3}


def make(kind, axes=2, weights="mixed", **options):
    if kind == "group":
        norm = nn.GroupNorm(3, 6, affine=weights != "none")
    elif kind == "group1":
        norm = nn.GroupNorm(1, 6, affine=weights != "none")
    else:
        norm = KINDS[kind][axes](6, affine=weights != "none", **options)
    with torch.no_grad():
        if weights == "mixed":
            norm.weight.copy_(torch.tensor(WEIGHT))
            norm.bias.copy_(torch.tensor(BIAS))
        elif weights == "ordinary":
            norm.weight.copy_(torch.tensor([1.2, -0.7, 0.5, 2.0, -1.0, 3.0]))
            norm.bias.copy_(torch.tensor([0.3, -0.4, 2.0, 0.0, 0.1, -1.0]))
        for buffer in ("running_mean", "running_var"):
            if getattr(norm, buffer, None) is not None:
                getattr(norm, buffer).copy_(torch.rand(6) + 0.5)
    return norm


def run(module, x, g, params):
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = module(x)
    grads = torch.autograd.grad(y, [x, *params], g)
    return y, grads


def compare(norm, slope, x, training=True, tolerance=None):
    """One step of ours beside the pair, which computes in float64 what the same numbers give."""
    norm.train(training)
    pair = nn.Sequential(copy.deepcopy(norm), nn.LeakyReLU(slope))
    alike = pair(x.detach())
    pair = nn.Sequential(copy.deepcopy(norm), nn.LeakyReLU(slope)).double()
    ours = NormLeakyReLU(norm, slope)
    g = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x.dtype)
    expected, expected_grads = run(pair, x.double(), g.double(), list(pair.parameters()))
    got, got_grads = run(ours, x, g, list(ours.parameters()))
    assert (got.dtype, got.shape, got.stride()) == (alike.dtype, alike.shape, alike.stride())
    tolerance = tolerance or EPS[x.dtype]
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance * max(slope, 1.0))
    for ours_, theirs, like in zip(got_grads, expected_grads, [x, *norm.parameters()], strict=True):
        assert ours_.dtype == like.dtype
        size = max(theirs.abs().max().item(), 1.0)
        torch.testing.assert_close(ours_.double(), theirs, rtol=tolerance, atol=tolerance * size)
    for name, buffer in pair[0].named_buffers():
        torch.testing.assert_close(ours.get_buffer(name).to(buffer.dtype), buffer, rtol=tolerance, atol=tolerance)
    return ours


def data(shape, dtype=torch.float64, layout="contiguous", seed=0):
    torch.manual_seed(seed)
    x = (torch.randn(shape, dtype=torch.float64) * 2 + 0.7).to(dtype)
    if layout == "channels_last":
        x = x.to(memory_format={4: torch.channels_last, 5: torch.channels_last_3d}[len(shape)])
    elif layout == "transposed":
        x = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    elif layout == "sliced":
        x = torch.cat([x, x], 1)[:, ::2]
    return x
