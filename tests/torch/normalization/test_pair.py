"""The function and its gradients: PyTorch's pair of layers in float64 is the oracle."""

import copy
import ctypes
import threading

import numpy as np
import pytest
import torch
from support.norm_layers import SHAPES, compare, data, make
from torch import nn
from torch.utils.checkpoint import checkpoint

from leakyrelu import _core, get_num_threads
from leakyrelu.torch import NormLeakyReLU
from leakyrelu.torch.activations.kernels import share_threads
from leakyrelu.torch.normalization import native, plain


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("weights", ["none", "ordinary", "mixed"])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kind", ["batch", "instance", "group", "group1"])
def test_values_gradients_and_statistics_are_those_of_the_pair(implementation, kind, axes, weights, training):
    options = {} if "group" in kind else {"track_running_stats": True}
    compare(make(kind, axes, weights, **options).double(), 0.1, data(SHAPES[axes]), training)


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "sliced"])
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_layouts(implementation, kind, axes, layout):
    for weights in ("ordinary", "mixed"):
        compare(make(kind, axes, weights).double(), 0.2, data(SHAPES[axes], layout=layout))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weights", ["ordinary", "mixed"])
@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_dtypes(implementation, kind, weights, dtype, layout):
    norm = make(kind, 2, weights).to(dtype)
    compare(norm, 0.1, data((4, 6, 9, 8), dtype, layout))


@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_float32_weights_for_16_bit_data(implementation, kind):
    compare(make(kind, 2, "ordinary"), 0.1, data((4, 6, 9, 8), torch.bfloat16))


@pytest.mark.parametrize("slope", [1e-30, 1e-4, 0.01, 0.99, 1.0, 3.0, 1e6])
def test_slopes(implementation, slope):
    for dtype in (torch.float32, torch.float64):
        compare(make("batch", 2, "ordinary").to(dtype), slope, data(SHAPES[2], dtype))


def test_batch_norm_of_features_without_positions(implementation):
    compare(make("batch", 1).double(), 0.1, data((7, 6)))
    norm = nn.GroupNorm(2, 6).double()
    compare(norm, 0.1, data((7, 6)))


def test_sync_batch_norm_in_one_process_is_batch_norm(implementation):
    norm = nn.SyncBatchNorm(6).double()
    compare(norm, 0.1, data(SHAPES[2]))


@pytest.mark.parametrize("momentum", [None, 0.0, 0.3])
@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_running_statistics_over_several_steps(implementation, kind, momentum):
    norm = make(kind, 2, track_running_stats=True, momentum=momentum).double()
    pair = nn.Sequential(copy.deepcopy(norm), nn.LeakyReLU(0.1))
    ours = NormLeakyReLU(norm, 0.1)
    for seed in range(4):
        x = data(SHAPES[2], seed=seed)
        pair(x), ours(x)
        assert pair[0].state_dict().keys() == ours.state_dict().keys()
        for name, buffer in pair[0].named_buffers():
            torch.testing.assert_close(ours.get_buffer(name), buffer)
    pair.eval(), ours.eval()
    torch.testing.assert_close(ours(x), pair(x))


@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_without_running_statistics_evaluation_uses_the_batch(implementation, kind):
    compare(make(kind, 2, track_running_stats=False).double(), 0.1, data(SHAPES[2]), training=False)


def test_a_layer_set_later_not_to_track_uses_the_buffers_it_has(implementation):
    norm = make("batch", 2).double()
    norm.track_running_stats = False
    for training in (True, False):
        compare(copy.deepcopy(norm), 0.1, data(SHAPES[2]), training)


def test_mean_far_from_zero(implementation):
    # (mean / std = 1000: sums of squares without a shift would lose everything in float32.)
    for kind in ("batch", "instance", "group"):
        compare(make(kind, 2, "ordinary"), 0.1, data((4, 6, 16, 16), torch.float32, seed=2) + 2000, tolerance=3e-4)


def test_frozen_parts_get_no_gradient(implementation):
    norm = make("batch", 2, "ordinary")
    layer = NormLeakyReLU(norm, 0.1)
    layer.weight.requires_grad_(False)
    x = torch.randn(SHAPES[2], requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None
    y = layer(x.detach())
    y.sum().backward()
    layer.bias.requires_grad_(False)
    assert not layer(x.detach()).requires_grad
    with torch.no_grad():
        assert not layer(x).requires_grad


def test_weight_alone(implementation):
    for norm in (nn.BatchNorm2d(6), nn.GroupNorm(2, 6)):
        norm.register_parameter("bias", None)
        compare(norm.double(), 0.1, data(SHAPES[2]))


def test_a_network_trains_to_the_same_weights(implementation):
    torch.manual_seed(0)
    pair = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.LeakyReLU(0.1), nn.Conv2d(8, 4, 3), nn.GroupNorm(2, 4), nn.LeakyReLU()
    ).double()
    ours = copy.deepcopy(pair)
    for k in (1, 4):
        ours[k] = NormLeakyReLU(ours[k], ours[k + 1].negative_slope)
        ours[k + 1] = nn.Identity()
    losses = []
    for net in (pair, ours):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        losses.append([])
        for seed in range(20):
            optimizer.zero_grad()
            loss = net(data((4, 3, 8, 8), seed=seed)).sub(1).square().mean()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-10)


def test_checkpointed_and_several_threads(implementation):
    norm = make("instance", 2, "ordinary").double()
    layer = NormLeakyReLU(norm, 0.1)
    x = data(SHAPES[2]).requires_grad_()
    y = layer(x)
    (expected,) = torch.autograd.grad(y.square().sum(), x)
    (got,) = torch.autograd.grad(checkpoint(layer, x, use_reentrant=False).square().sum(), x)
    assert torch.equal(got, expected)
    results = []

    def work():
        own = x.detach().clone().requires_grad_()
        layer(own).square().sum().backward()
        results.append(torch.equal(own.grad, expected))

    threads = [threading.Thread(target=work) for _ in range(6)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert results == [True] * 6


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_as_many_threads_as_pytorch_is_set_to():
    """A stand-in for OpenMP's GOMP_parallel counts them, and does the work on the calling thread."""
    calls = []
    region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    @ctypes.CFUNCTYPE(None, region, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    def parallel(function, data, threads, flags):
        calls.append(threads)
        function(data)

    layer = NormLeakyReLU(nn.BatchNorm2d(8), 0.1)
    x = torch.randn(4, 8, 200, 200, requires_grad=True)
    before = torch.get_num_threads()
    _core.share_openmp(ctypes.cast(parallel, ctypes.c_void_p).value)
    try:
        seen = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.autograd.grad(layer(x), x, x.detach())
            seen.append(calls[:])
    finally:
        _core.share_openmp(0)
        share_threads()
        torch.set_num_threads(before)
    assert seen == ([[], [2, 2, 2, 2]] if get_num_threads() > 1 else [[], []])


@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_the_native_core_computes_channels_that_cannot_be_inverted(kind, monkeypatch):
    for function in ("forward", "backward"):
        monkeypatch.setattr(plain, function, None)
    compare(make(kind, 2, "mixed"), 0.1, data(SHAPES[2], torch.float32))


def test_operations_of_pytorch_compute_what_is_differentiated_again(monkeypatch):
    monkeypatch.setattr(native, "backward", None)
    x = data(SHAPES[2]).requires_grad_()
    (d,) = torch.autograd.grad(NormLeakyReLU(make("batch").double())(x).pow(3).sum(), x, create_graph=True)
    assert d.requires_grad
