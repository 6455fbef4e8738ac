"""Normalization with Leaky ReLU in the core, as a whole layer, against NumPy in float64."""

import ctypes
import os

import numpy as np
import pytest
from oracle import passes
from oracle.passes import NORM_TOLERANCES

from leakyrelu import _core, get_num_threads, set_num_threads

# samples, channels, positions: around vector and tile widths, several pieces, folded rows with a rest.
SHAPES = [(1, 1, 1), (2, 3, 1), (3, 5, 7), (2, 16, 33), (1, 300, 130), (2, 7, 1025), (1, 2, 100_000), (3, 257, 64)]
ALPHA = 0.2


def stored(values, dtype):
    """The memory of the values in that dtype, and what it holds."""
    if dtype == "bfloat16":
        bits = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return bits.view(np.int16), (bits.astype(np.uint32) << 16).view(np.float32).astype(float)
    kept = values.astype(dtype)
    return (kept.view(np.int16) if dtype == "float16" else kept), kept.astype(float)


def read(memory, dtype):
    if dtype == "bfloat16":
        return (memory.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(float)
    return (memory.view(np.float16) if dtype == "float16" else memory).astype(float)


@pytest.fixture(params=[False, True], ids=["channels_first", "channels_last"])
def last(request):
    return request.param


def make(shape, last, dtype, seed):
    """Random data as memory, and as float64 of shape (samples, channels, positions)."""
    samples, channels, positions = shape
    order = (samples, positions, channels) if last else shape
    memory, values = stored(np.random.default_rng(seed).normal(0.5, 2, order), dtype)
    return memory, np.swapaxes(values, 1, 2) if last else values


def as_data(memory, shape, last, dtype):
    values = read(memory, dtype)
    return np.swapaxes(values.reshape(shape[0], shape[2], shape[1]), 1, 2) if last else values.reshape(shape)


def is_within(got, bounds):
    expected, error = bounds
    assert (np.abs(got - expected) <= error).all()


class Layer:
    """A normalization with Leaky ReLU in the core, on data of one layout."""

    def __init__(self, shape, last, dtype, *, groups=0, estimate=True, weight=None, bias=None, eps=0.1, threads=0):
        self.shape, self.last, self.dtype, self.eps = shape, last, dtype, eps
        self.layout = (_core.DTYPES[dtype], *shape, last, threads)
        self.numbers = [None if t is None else np.array(t, np.float64) for t in (weight, bias)]
        self.description = (groups, estimate, ALPHA, *(numbers(t) for t in self.numbers))
        rows = shape[0] if groups and estimate else 1
        self.compute = np.float64 if dtype == "float64" else np.float32
        self.invstd = np.full((rows, shape[1]), -1, self.compute)

    def forward(self, memory, *, running=None, factor=0.0, bounds=(0.0, 1e300, 1e300)):
        """The output as memory, and the means where a channel cannot be inverted; moves the running statistics."""
        y = np.full_like(memory, -1)
        tables = None if running is None else (*(numbers(table) for table in running), factor)
        at = memory.ctypes.data, y.ctypes.data, self.invstd.ctypes.data
        found = _core.norm_forward_at(self.layout, self.description, self.eps, bounds, tables, *at)
        return y, None if found is None else found[0]

    def backward(self, grad, y, *, kept=None, wants_input=True):
        """The gradients of x (as memory), weight and bias, and those of x in the kept channels."""
        out = np.full_like(y, -1)
        of_weight, of_bias = np.full((2, self.shape[1]), -1.0)
        at, h = None, None
        if kept is not None:
            channels, xhat, h = kept
            h = h.copy()
            layout = (_core.DTYPES[np.dtype(self.compute).name], *h.shape, False, self.layout[-1])
            at = layout, channels.ctypes.data, xhat.ctypes.data, h.ctypes.data
        data = (grad.ctypes.data, y.ctypes.data, self.invstd.ctypes.data, out.ctypes.data if wants_input else 0)
        _core.norm_backward_at(self.layout, self.description, at, *data, numbers(of_weight), numbers(of_bias))
        return out, of_weight, of_bias, h


def numbers(table):
    return None if table is None else (_core.DTYPES["float64"], table.ctypes.data)


def some_kept(channels, shape, compute, grad, y):
    """A normalized input for these channels that has nothing to do with the output, and grad * f'(y) there."""
    xhat = np.random.default_rng(5).normal(size=(shape[0], len(channels), shape[2])).astype(compute)
    h = np.where(y > 0, grad, ALPHA * grad)[:, channels].astype(compute)
    return channels, xhat, np.ascontiguousarray(h)


@pytest.mark.parametrize("dtype", NORM_TOLERANCES)
@pytest.mark.parametrize("shape", SHAPES)
def test_layer(shape, last, dtype):
    tolerance = NORM_TOLERANCES[dtype]
    memory, x = make(shape, last, dtype, 1)
    grad_memory, grad = make(shape, last, dtype, 3)
    channels = np.arange(0, shape[1], 3)
    weight, bias = np.random.default_rng(2).uniform(0.5, 2, (2, shape[1])).astype(np.float32).astype(float)
    weight[::2] *= -1
    for groups in (0, 1, shape[1], None):
        layer = Layer(shape, last, dtype, groups=groups or 0, estimate=groups is not None, weight=weight, bias=bias)
        if groups is None:
            running = mean, var = np.random.default_rng(4).uniform(0.5, 2, (2, shape[1]))
            mean, var = mean[None], var[None]
        else:
            running = np.zeros((2, shape[1]))
            mean = passes.shared_mean(x, groups)
            var = passes.shared_mean((x - mean[:, :, None]) ** 2, groups)
        y_memory, _ = layer.forward(memory, running=running)
        np.testing.assert_allclose(layer.invstd, 1 / np.sqrt(var + layer.eps), rtol=min(tolerance, 3e-6))
        y = as_data(y_memory, shape, last, dtype)
        expected = passes.norm_activate(x, mean, weight / np.sqrt(var + layer.eps), bias[None], ALPHA)
        is_within(y, (expected, tolerance * (10 + np.abs(expected))))

        for kept in (None, some_kept(channels, shape, layer.compute, grad, y)):
            # (A weight of no use in a kept channel, where the input cannot be recovered.)
            if kept is not None:
                layer.numbers[0][channels[::2]] = 0
            own = (slice(0), 0) if kept is None else kept[:2]
            arguments = (layer.invstd.astype(float), layer.numbers[0], bias, ALPHA, groups, own, tolerance)
            exact = passes.norm_gradients(grad, y, *arguments)
            out, of_weight, of_bias, of_kept = layer.backward(grad_memory, y_memory, kept=kept)
            got = as_data(out, shape, last, dtype)
            if kept is not None:
                got[:, channels] = of_kept
            is_within(got, exact["x"])
            is_within(of_weight, exact["weight"])
            is_within(of_bias, exact["bias"])
            _, *alone, _ = layer.backward(grad_memory, y_memory, kept=kept, wants_input=False)
            np.testing.assert_array_equal(alone, (of_weight, of_bias))


@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 3, 2), (2, 3, 0), (2, 0, 1), (0, 0, 0)])
def test_nothing(shape, last):
    memory, _ = make(shape, last, "float32", 1)
    for groups in (0, 1):
        layer = Layer(shape, last, "float32", groups=groups)
        y, means = layer.forward(memory)
        assert means is None
        _, of_weight, of_bias, _ = layer.backward(memory, y)
        np.testing.assert_array_equal((of_weight, of_bias), np.zeros((2, shape[1])))


def moments(x, last, dtype):
    """Mean and variance of each channel of each sample, by way of a layer."""
    channels = x.shape[1]
    memory = np.ascontiguousarray(np.swapaxes(x, 1, 2) if last else x)
    layer = Layer(x.shape, last, dtype, groups=channels, weight=np.zeros(channels), eps=0.0)
    _, means = layer.forward(stored(memory, dtype)[0], bounds=(1.0, 1e300, 1e300))
    return means, layer.invstd.astype(float) ** -2.0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(1, 3, 5000), (2, 1, 70), (1, 300, 40), (3, 257, 2)])
def test_squares_beyond_the_type_that_computes(shape, last, dtype):
    _, x = make(shape, last, dtype, 1)
    x *= 2.0**110
    mean, var = moments(x, last, dtype)
    np.testing.assert_allclose(mean, x.mean(2), rtol=1e-6, atol=1e-6 * np.abs(x).max())
    np.testing.assert_allclose(var, x.var(2), rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1, 3, 5000), (2, 3, 70), (1, 300, 40)])
def test_what_is_not_finite_spoils_its_own_channel_alone(shape, last, value):
    _, x = make(shape, last, "float32", 1)
    expected_mean, expected_var = moments(x, last, "float32")
    x[0, 1, shape[2] // 2] = value
    mean, var = moments(x, last, "float32")
    assert not np.isfinite(mean[0, 1])
    assert not np.isfinite(var[0, 1])
    others = np.ones(shape[:2], bool)
    others[0, 1] = False
    np.testing.assert_allclose(mean[others], expected_mean[others], rtol=1e-6)
    np.testing.assert_allclose(var[others], expected_var[others], rtol=1e-5)
    memory = np.ascontiguousarray((x.swapaxes(1, 2) if last else x).astype(np.float32))
    y, _ = Layer(shape, last, "float32", estimate=False, eps=0.0).forward(memory, running=np.ones((2, shape[1])))
    v = memory.astype(float) - 1
    np.testing.assert_allclose(y, np.where(v > 0, v, ALPHA * v), rtol=1e-5, atol=1e-6)


def test_mean_a_million_times_the_deviation():
    x = np.random.default_rng(0).normal(1e6, 1.0, (1, 4, 9000))
    for dtype in ("float64", "float32"):
        kept = x.astype(dtype).astype(float)
        mean, var = moments(kept, False, dtype)
        np.testing.assert_allclose(mean, kept.mean(2), rtol=1e-9)
        np.testing.assert_allclose(var, kept.var(2), rtol=1e-5)


def test_the_number_of_threads_changes_no_bit(last):
    threads = get_num_threads()
    shape = (2, 24, 50_000)
    memory, x = make(shape, last, "float32", 1)
    layer = Layer(shape, last, "float32", groups=24, weight=np.ones(24))
    kept = some_kept(np.arange(8), shape, np.float32, x, x)
    results = []
    try:
        for count in (1, threads):
            set_num_threads(count)
            y, means = layer.forward(memory, bounds=(2.0, 1e300, 1e300))
            results.append([y, means, layer.invstd.copy(), *layer.backward(memory, y, kept=kept)])
    finally:
        set_num_threads(threads)
    for one, several in zip(*results, strict=True):
        np.testing.assert_array_equal(one, several)


X = np.zeros((2, 3, 4), np.float32)
LAYOUT = (_core.DTYPES["float32"], 2, 3, 4, False, 0)
LAYER = (0, True, 0.1, None, None)


def norm_forward(layer=LAYER, running=None, layout=LAYOUT):
    x, invstd = X.ctypes.data, np.empty((2, 3), np.float32).ctypes.data
    _core.norm_forward_at(layout, layer, 0.1, (0.0, 1.0, 1.0), running, x, X.copy().ctypes.data, invstd)


def norm_backward(layer=LAYER, kept=None, layout=LAYOUT, grad_weight=None):
    at = X.ctypes.data, X.ctypes.data, np.ones((2, 3), np.float32).ctypes.data
    _core.norm_backward_at(layout, layer, kept, *at, 0, grad_weight, None)


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ((4, 2, 3, 4, False, 0), r"there is no dtype 4; take one of _core\.DTYPES"),
        ((2, -2, 3, -4, False, 0), "tensor layout: -2 samples x 3 channels x -4 positions are not a possible size"),
        ((2, 2**61 + 2, 3, 4, False, 0), "tensor layout: 2305843009213693954 samples x"),
        ((2, 2**40, 2**40, 0, False, 0), "tensor layout: 1099511627776 samples x"),
    ],
)
def test_wrong_layouts_are_refused(layout, text):
    with pytest.raises(ValueError, match=text):
        norm_forward(layout=layout)
    with pytest.raises(ValueError, match=text):
        norm_backward(layout=layout)
    with pytest.raises(ValueError, match=text):
        norm_backward(kept=(layout, 0, 0, 0))


def test_wrong_layers_are_refused():
    with pytest.raises(ValueError, match="norm_forward_at: 2 groups of 3 channels; the channels must divide evenly"):
        norm_forward((2, *LAYER[1:]))
    with pytest.raises(ValueError, match="norm_backward_at: 2 groups of 3 channels; the channels must divide evenly"):
        norm_backward((2, *LAYER[1:]))
    with pytest.raises(TypeError, match=r"numbers of a tensor: expected \(dtype, address\) or None, not array"):
        norm_forward((*LAYER[:3], np.ones(3), None))
    with pytest.raises(ValueError, match=r"numbers of a tensor: there is no dtype 4; take one of _core\.DTYPES"):
        norm_forward((*LAYER[:3], (4, X.ctypes.data), None))
    with pytest.raises(ValueError, match="norm_forward_at: no statistics; give running ones, or estimate them"):
        norm_forward((0, False, 0.1, None, None))
    with pytest.raises(ValueError, match="numbers of a tensor: there is no dtype -1"):
        norm_forward(running=((-1, X.ctypes.data), None, 0.1))
    with pytest.raises(ValueError, match="numbers of a tensor: there is no dtype 5"):
        norm_backward(grad_weight=(5, X.ctypes.data))
    with pytest.raises(TypeError, match=r"norm_backward_at: expected \(layout, channels, xhat, h\) or None, not array"):
        norm_backward(kept=X)


@pytest.mark.parametrize(("groups", "samples", "channels"), [(0, 2, 0), (3, 0, 3)])
def test_nothing_moves_no_running_statistic(groups, samples, channels):
    running = np.ones((2, 3), np.float32)
    kept = [(2, row.ctypes.data) for row in running]
    norm_forward((groups, *LAYER[1:]), (*kept, 0.1), (2, samples, channels, 4, False, 0))
    assert (running == 1).all()


REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@ctypes.CFUNCTYPE(None, REGION, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
def parallel(function, data, threads, flags):
    """A stand-in for OpenMP's GOMP_parallel: it runs the region on the caller, and again as a second thread would."""
    CALLS.append(threads)
    function(data)
    function(data)


CALLS = []


@pytest.fixture
def calls():
    CALLS.clear()
    _core.share_openmp(ctypes.cast(parallel, ctypes.c_void_p).value)
    yield CALLS
    _core.share_openmp(0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_shared_pool_does_the_work_and_a_fork_goes_back(calls):
    memory, x = make((1, 8, 1 << 18), False, "float32", 1)
    layer = Layer(x.shape, False, "float32", weight=np.zeros(8))
    _, mean = layer.forward(memory, bounds=(1.0, 1e300, 1e300))
    before = len(calls)
    child = os.fork()
    if child == 0:
        layer.forward(memory)
        os._exit(len(calls) - before)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_allclose(mean, x.mean(2), rtol=1e-5, atol=1e-6)
    assert (calls == [get_num_threads()] * 2) == (get_num_threads() > 1)


def test_at_most_as_many_threads_as_the_layout_says(calls, last):
    shape = (2, 8, 1 << 17)
    memory, x = make(shape, last, "float32", 1)
    kept = some_kept(np.arange(4), shape, np.float32, x, x)
    for threads in (1, 2):
        layer = Layer(shape, last, "float32", threads=threads)
        y, _ = layer.forward(memory)
        layer.backward(memory, y)
        layer.backward(memory, y, kept=kept)
        assert calls == ([2] * 8 if threads == 2 and get_num_threads() > 1 else [])
