"""NormLeakyReLU: PyTorch's pair of layers is the oracle for values, gradients, statistics and checkpoints."""

import copy
import ctypes
import io
import pickle
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from leakyrelu import _core, get_num_threads
from leakyrelu.torch import NormLeakyReLU
from leakyrelu.torch.normalization import autograd as implementation
from leakyrelu.torch.openmp import share_threads

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


@pytest.fixture(params=["native", "plain"])
def road(request, monkeypatch):
    """Both implementations of the passes."""
    if request.param == "plain":
        monkeypatch.setattr(implementation, "NATIVE", ())
    return request.param


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("weights", ["none", "ordinary", "mixed"])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kind", ["batch", "instance", "group", "group1"])
def test_values_gradients_and_statistics_are_those_of_the_pair(road, kind, axes, weights, training):
    options = {} if "group" in kind else {"track_running_stats": True}
    compare(make(kind, axes, weights, **options).double(), 0.1, data(SHAPES[axes]), training)


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "sliced"])
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_layouts(road, kind, axes, layout):
    for weights in ("ordinary", "mixed"):
        compare(make(kind, axes, weights).double(), 0.2, data(SHAPES[axes], layout=layout))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_dtypes(road, kind, dtype, layout):
    norm = make(kind, 2, "ordinary").to(dtype)
    compare(norm, 0.1, data((4, 6, 9, 8), dtype, layout))


@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_float32_weights_for_16_bit_data(road, kind):
    compare(make(kind, 2, "ordinary"), 0.1, data((4, 6, 9, 8), torch.bfloat16))


@pytest.mark.parametrize("slope", [1e-30, 1e-4, 0.01, 0.99, 1.0, 3.0, 1e6])
def test_slopes(road, slope):
    for dtype in (torch.float32, torch.float64):
        compare(make("batch", 2, "ordinary").to(dtype), slope, data(SHAPES[2], dtype))


def test_batch_norm_of_features_without_positions(road):
    compare(make("batch", 1).double(), 0.1, data((7, 6)))
    norm = nn.GroupNorm(2, 6).double()
    compare(norm, 0.1, data((7, 6)))


def test_sync_batch_norm_in_one_process_is_batch_norm(road):
    norm = nn.SyncBatchNorm(6).double()
    compare(norm, 0.1, data(SHAPES[2]))


@pytest.mark.parametrize("momentum", [None, 0.0, 0.3])
@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_running_statistics_over_several_steps(road, kind, momentum):
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
def test_without_running_statistics_evaluation_uses_the_batch(road, kind):
    compare(make(kind, 2, track_running_stats=False).double(), 0.1, data(SHAPES[2]), training=False)


def test_a_layer_told_later_not_to_track_uses_the_buffers_it_has(road):
    norm = make("batch", 2).double()
    norm.track_running_stats = False
    for training in (True, False):
        compare(copy.deepcopy(norm), 0.1, data(SHAPES[2]), training)


def test_mean_far_from_zero(road):
    # (mean / std = 1000: sums of squares without a shift would lose everything in float32.)
    for kind in ("batch", "instance", "group"):
        compare(make(kind, 2, "ordinary"), 0.1, data((4, 6, 16, 16), torch.float32, seed=2) + 2000, tolerance=3e-4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("weights", ["none", "ordinary", "mixed"])
@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_numerical_derivatives_of_first_and_second_order(road, kind, weights, training):
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


def test_third_derivatives(road):
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


def test_gradient_checkpoint_penalty_trains_the_weights(road):
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


def test_batched_gradients(road):
    norm = make("batch", 2).double()
    pair = nn.Sequential(copy.deepcopy(norm), nn.LeakyReLU(0.3))
    rows = torch.randn(3, *SHAPES[2], dtype=torch.float64)
    results = []
    for module in (pair, NormLeakyReLU(norm, 0.3)):
        x = data(SHAPES[2]).requires_grad_()
        results.append(torch.autograd.grad(module(x), [x, *module.parameters()], rows, is_grads_batched=True))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a)


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
def test_only_the_output_is_kept(road, kind):
    x = torch.randn(8, 6, 16, 16, requires_grad=True)
    norm = make(kind, 2, "ordinary")
    kept, y = saved_bytes(NormLeakyReLU(norm, 0.1), x)
    statistics = {"batch": 6, "instance": 48, "group": 48}[kind]
    assert kept <= y.nbytes + 4 * statistics
    in_place, _ = saved_bytes(nn.Sequential(norm, nn.LeakyReLU(0.1, inplace=True)), x)
    assert in_place >= 2 * y.nbytes


def test_channels_that_cannot_be_inverted_keep_their_own_input_and_no_others(road):
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
    found = implementation.poorly_inverted(*tensors, slope, dtype)
    assert (found if found is None else found.tolist()) == poor


def test_error_of_the_recovered_input_is_within_the_documented_bound(road):
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


def test_frozen_parts_get_no_gradient(road):
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


def test_bias_or_weight_alone(road):
    for norm in (nn.BatchNorm2d(6), nn.GroupNorm(2, 6)):
        norm.register_parameter("bias", None)
        compare(norm.double(), 0.1, data(SHAPES[2]))


def test_a_changed_output_is_noticed(road):
    layer = NormLeakyReLU(nn.BatchNorm2d(6), 0.1)
    y = layer(torch.randn(SHAPES[2], requires_grad=True))
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_parameters_and_buffers_are_shared_with_the_norm():
    norm = nn.BatchNorm2d(6)
    layer = NormLeakyReLU(norm, 0.1)
    assert layer.weight is norm.weight
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert list(layer.state_dict()) == list(norm.state_dict())
    layer.double()
    assert norm.weight.dtype == norm.running_mean.dtype == torch.float64
    layer.weight = nn.Parameter(torch.full((6,), 3.0))
    assert norm.weight is layer.weight
    assert list(layer.children()) == []
    layer.eval()
    assert not layer.norm.training


def test_checkpoints_load_both_ways():
    pair = nn.Sequential(nn.Conv2d(3, 6, 3), make("batch", 2, "ordinary"), nn.LeakyReLU(0.1))
    ours = nn.Sequential(nn.Conv2d(3, 6, 3), NormLeakyReLU(nn.BatchNorm2d(6), 0.1), nn.Identity())
    x = torch.randn(2, 3, 8, 8)
    file = io.BytesIO()
    torch.save(pair.state_dict(), file)
    file.seek(0)
    assert str(ours.load_state_dict(torch.load(file))) == "<All keys matched successfully>"
    pair.eval(), ours.eval()
    torch.testing.assert_close(ours(x), pair(x))
    back = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.LeakyReLU(0.1)).eval()
    back.load_state_dict(ours.state_dict())
    torch.testing.assert_close(back(x), ours(x))


def test_checkpoints_without_the_batch_counter_load_as_pytorch_loads_them():
    state = nn.BatchNorm2d(6).state_dict()
    state.pop("num_batches_tracked")
    del state._metadata
    NormLeakyReLU(nn.BatchNorm2d(6), 0.1).load_state_dict(dict(state))
    assert nn.BatchNorm2d(6).state_dict()._metadata == NormLeakyReLU(nn.BatchNorm2d(6)).state_dict()._metadata


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_share_within_themselves(way):
    layer = NormLeakyReLU(make("batch", 2, "ordinary"), 0.1)
    twin = copy.deepcopy(layer) if way == "deepcopy" else pickle.loads(pickle.dumps(layer))
    assert twin.norm.weight is twin.weight
    assert twin.weight is not layer.weight
    x = torch.randn(SHAPES[2])
    assert torch.equal(twin(x), layer(x))
    assert torch.equal(twin.running_mean, layer.running_mean)


def test_a_network_trains_to_the_same_weights(road):
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


def test_checkpointed_and_several_threads(road):
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
def test_as_many_threads_as_pytorch_was_told():
    """Seen by a stand-in for OpenMP's GOMP_parallel, which leaves the work to the calling thread."""
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


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_other_layers_of_pytorch_see_the_pair():
    layer = NormLeakyReLU(make("batch", 2, "ordinary"), 0.1).eval()
    pair = nn.Sequential(layer.norm, nn.LeakyReLU(0.1))
    x, t = torch.randn(2, *SHAPES[2])
    torch.testing.assert_close(torch.compile(layer, backend="eager", fullgraph=True)(x), pair(x))
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x), pair(x))
    torch.testing.assert_close(torch.func.jvp(layer, (x,), (t,)), torch.func.jvp(pair, (x,), (t,)))
    torch.testing.assert_close(torch.jit.trace(layer, x)(x), pair(x))
    with torch.autograd.forward_ad.dual_level():
        y = layer(torch.autograd.forward_ad.make_dual(x, t))
        assert torch.autograd.forward_ad.unpack_dual(y).tangent is not None
    assert copy.deepcopy(layer).to("meta")(x.to("meta")).is_meta


def test_what_the_norm_refuses_is_refused_in_its_words():
    layer = NormLeakyReLU(nn.BatchNorm2d(6), 0.1)
    with pytest.raises(ValueError, match="expected 4D input"):
        layer(torch.randn(2, 6, 3))
    with pytest.raises(RuntimeError, match="running_mean should contain 5 elements"):
        layer(torch.randn(2, 5, 3, 3))
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer(torch.randn(1, 6, 1, 1))
    assert layer(torch.randn(0, 6, 2, 2)).shape == (0, 6, 2, 2)


def test_instance_norm_takes_one_sample_without_its_batch_axis():
    norm = make("instance", 2, "ordinary")
    x = torch.randn(6, 4, 5)
    torch.testing.assert_close(NormLeakyReLU(norm, 0.1)(x), F.leaky_relu(norm(x), 0.1))


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(3), nn.LazyBatchNorm2d(), nn.Conv2d(1, 1, 1), type("Mine", (nn.BatchNorm2d,), {})(3)]
)
def test_other_layers_are_refused_by_name(norm):
    with pytest.raises(TypeError, match=rf"norm must be one of nn.BatchNorm1d, .*not {type(norm).__name__}"):
        NormLeakyReLU(norm, 0.1)


@pytest.mark.parametrize("slope", [0, -0.1, float("inf"), float("nan")])
def test_slopes_without_an_inverse_are_refused(slope):
    with pytest.raises(ValueError, match=r"negative_slope must be positive and finite, .*Keep the two layers apart"):
        NormLeakyReLU(nn.BatchNorm2d(3), slope)


@pytest.mark.parametrize("slope", ["0.1", None, True])
def test_slope_must_be_a_number(slope):
    with pytest.raises(TypeError, match="negative_slope must be a number, not"):
        NormLeakyReLU(nn.BatchNorm2d(3), slope)


def test_repr_names_both_layers():
    norm = nn.GroupNorm(2, 6)
    assert repr(NormLeakyReLU(norm, 0.1)) == f"NormLeakyReLU({norm!r}, negative_slope=0.1)"


@pytest.mark.parametrize(
    ("norm", "settings"),
    [
        (nn.BatchNorm2d(4), {"num_features", "eps", "momentum", "affine", "track_running_stats"}),
        (nn.InstanceNorm2d(4), {"num_features", "eps", "momentum", "affine", "track_running_stats"}),
        (nn.GroupNorm(2, 4), {"num_groups", "num_channels", "eps", "affine"}),
    ],
)
def test_the_settings_of_the_normalization_can_be_read_and_set(norm, settings):
    layer = NormLeakyReLU(norm, 0.1)
    for name in settings:
        assert getattr(layer, name) == getattr(norm, name)
    layer.eps = 0.5
    assert norm.eps == 0.5
    assert "eps" not in vars(layer)
    x = torch.randn(3, 4, 5, 5)
    expected = nn.functional.leaky_relu(norm.train()(x), 0.1)
    assert torch.allclose(layer.train()(x), expected, atol=1e-6)
    assert not hasattr(layer, "no_such_setting")
    twin = copy.deepcopy(layer)
    twin.eps = 0.25
    assert (norm.eps, twin.norm.eps) == (0.5, 0.25)


def test_a_momentum_that_is_set_on_the_layer_moves_its_statistics():
    layer, norm = NormLeakyReLU(nn.BatchNorm1d(2)), nn.BatchNorm1d(2, momentum=1.0)
    layer.momentum = 1.0
    x = torch.randn(50, 2) + 3.0
    layer(x)
    norm(x)
    assert torch.allclose(layer.running_mean, norm.running_mean)
