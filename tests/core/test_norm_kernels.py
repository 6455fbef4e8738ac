"""The native passes of a normalization followed by a Leaky ReLU, against NumPy in float64."""

import ctypes
import os

import numpy as np
import pytest
from oracle import passes
from oracle.passes import NORM_TOLERANCES

from leakyrelu import _core, get_num_threads, set_num_threads

# samples, channels, positions: around vector and tile widths, several pieces, folded rows with a rest.
SHAPES = [(1, 1, 1), (2, 3, 1), (3, 5, 7), (2, 16, 33), (1, 300, 130), (2, 7, 1025), (1, 2, 100_000), (3, 257, 64)]


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
    return memory, np.swapaxes(values, 1, 2) if last else values, (dtype, *shape, last)


def as_data(memory, shape, last, dtype):
    values = read(memory, dtype)
    return np.swapaxes(values.reshape(shape[0], shape[2], shape[1]), 1, 2) if last else values.reshape(shape)


def is_within(got, bounds):
    expected, error = bounds
    assert (np.abs(got - expected) <= error).all()


@pytest.mark.parametrize("dtype", NORM_TOLERANCES)
@pytest.mark.parametrize("shape", SHAPES)
def test_passes(shape, last, dtype):
    alpha = 0.2
    memory, x, layout = make(shape, last, dtype, 1)
    grad_memory, grad, _ = make(shape, last, dtype, 3)
    for rows in (1, shape[0]):
        tables = np.random.default_rng(2).normal(size=(4, rows, shape[1]))
        y_memory, out = np.full_like(memory, -1), np.full_like(memory, -1)
        mean, squares = _core.norm_moments(memory, layout)
        _core.norm_activate(memory, np.ascontiguousarray(tables[:3]), alpha, y_memory, layout)
        y = as_data(y_memory, shape, last, dtype)
        sum_h, sum_hu = _core.norm_sums(grad_memory, y_memory, np.ascontiguousarray(tables[:1]), alpha, layout)
        _core.norm_combine(grad_memory, y_memory, tables, alpha, out, layout)

        expected = passes.norm_passes(x, grad, y, tables, alpha, NORM_TOLERANCES[dtype])
        is_within(mean, expected["mean"])
        is_within(squares, expected["squares"])
        is_within(y, expected["activated"])
        is_within(sum_h, expected["sum_h"])
        is_within(sum_hu, expected["sum_hu"])
        is_within(as_data(out, shape, last, dtype), expected["combined"])


@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 3, 2), (2, 3, 0), (2, 0, 1), (0, 0, 0)])
def test_nothing(shape, last):
    memory, _, layout = make(shape, last, "float32", 1)
    tables = np.ones((4, 1, shape[1]))
    for numbers in (*_core.norm_moments(memory, layout), *_core.norm_sums(memory, memory, tables[:1], 0.1, layout)):
        np.testing.assert_array_equal(numbers, np.zeros(shape[:2]))
    _core.norm_activate(memory, tables[:3].copy(), 0.1, memory, layout)
    _core.norm_combine(memory, memory, tables, 0.1, memory, layout)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(1, 3, 5000), (2, 1, 70), (1, 300, 40), (3, 257, 2)])
def test_squares_beyond_the_type_that_computes(shape, last, dtype):
    memory, x, layout = make(shape, last, dtype, 1)
    huge = read(memory, dtype) * 2.0**110
    memory, kept = stored(huge, dtype)
    x = kept.swapaxes(1, 2) if last else kept
    mean, squares = _core.norm_moments(memory, layout)
    np.testing.assert_allclose(mean, x.mean(2), rtol=1e-6, atol=1e-6 * np.abs(x).max())
    np.testing.assert_allclose(squares, x.var(2) * shape[2], rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1, 3, 5000), (2, 3, 70), (1, 300, 40)])
def test_what_is_not_finite_spoils_its_own_channel_alone(shape, last, value):
    _, x, layout = make(shape, last, "float32", 1)
    memory = (x.swapaxes(1, 2) if last else x).astype(np.float32)
    expected_mean, expected_squares = _core.norm_moments(np.ascontiguousarray(memory), layout)
    x[0, 1, shape[2] // 2] = value
    memory = np.ascontiguousarray((x.swapaxes(1, 2) if last else x).astype(np.float32))
    mean, squares = _core.norm_moments(memory, layout)
    assert not np.isfinite(mean[0, 1])
    assert not np.isfinite(squares[0, 1])
    others = np.ones(shape[:2], bool)
    others[0, 1] = False
    np.testing.assert_allclose(mean[others], expected_mean[others], rtol=1e-6)
    np.testing.assert_allclose(squares[others], expected_squares[others], rtol=1e-5)
    y = np.empty_like(memory)
    _core.norm_activate(memory, np.ones((3, 1, shape[1])), 0.1, y, layout)
    v = memory.astype(float) - 1 + 1
    np.testing.assert_allclose(y, np.where(v > 0, v, 0.1 * v), rtol=1e-5, atol=1e-6)


def test_mean_a_million_times_the_deviation():
    x = np.random.default_rng(0).normal(1e6, 1.0, (1, 4, 9000))
    for dtype in (np.float64, np.float32):
        kept = x.astype(dtype)
        mean, squares = _core.norm_moments(kept, (np.dtype(dtype).name, 1, 4, 9000, False))
        np.testing.assert_allclose(mean, kept.astype(float).mean(2), rtol=1e-9)
        np.testing.assert_allclose(squares, kept.astype(float).var(2) * 9000, rtol=1e-5)


def test_the_number_of_threads_changes_no_bit(last):
    threads = get_num_threads()
    memory, _, layout = make((2, 24, 50_000), last, "float32", 1)
    tables = np.ones((4, 1, 24))
    results = []
    try:
        for count in (1, threads):
            set_num_threads(count)
            out = np.empty_like(memory)
            _core.norm_combine(memory, memory, tables, 0.1, out, layout)
            results.append(
                [*_core.norm_moments(memory, layout), *_core.norm_sums(memory, memory, tables[:1], 0.1, layout), out]
            )
    finally:
        set_num_threads(threads)
    for one, several in zip(*results, strict=True):
        np.testing.assert_array_equal(one, several)


X = np.zeros((2, 3, 4), np.float32)
LAYOUT = ("float32", 2, 3, 4, False)
TABLES = np.zeros((3, 1, 3))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((X, TABLES, 0.1, X.copy(), ("int8", 2, 3, 4, False)), TypeError, "no dtype int8; there are float16, bfloat16"),
        ((X[:, :, ::2], TABLES, 0.1, X.copy(), LAYOUT), ValueError, "expected an array in C order of 96 bytes"),
        ((X, TABLES, 0.1, X[:1].copy(), LAYOUT), ValueError, "expected a writable array in C order of 96 bytes"),
        ((X, TABLES, 0.1, X.copy(), ("float32", -2, 3, -4, False)), ValueError, "norm: -2 samples, 3 channels, -4"),
        ((X, TABLES, 0.1, X.copy(), ("float32", 2**61 + 2, 3, 4, False)), ValueError, "norm: 2305843009213693954 samp"),
        ((X, TABLES, 0.1, X.copy(), ("float32", 2**40, 2**40, 0, False)), ValueError, "norm: 1099511627776 samples"),
        ((X, TABLES[:2], 0.1, X.copy(), LAYOUT), ValueError, r"float64 tables of shape \(3, 1 or 2, 3\)"),
        ((X, TABLES.astype("f4"), 0.1, X.copy(), LAYOUT), ValueError, r"float64 tables of shape \(3, 1 or 2, 3\)"),
    ],
)
def test_wrong_memory_is_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        _core.norm_activate(*arguments)


def test_wrong_layers_are_refused():
    def forward(groups=0, estimate=True, weight=None, running=None):
        x, invstd = X.ctypes.data, np.empty((2, 3), np.float32).ctypes.data
        layer, bounds = (groups, estimate, 0.1, weight, None), (0.0, 1.0, 1.0)
        _core.norm_forward(x, X.copy().ctypes.data, invstd, running, 0.1, bounds, layer, LAYOUT)

    with pytest.raises(ValueError, match="norm: 2 groups of 3 channels"):
        forward(groups=2)
    with pytest.raises(TypeError, match=r"norm: expected \(dtype, address\) or None, not array"):
        forward(weight=np.ones(3))
    with pytest.raises(ValueError, match="norm: there is no dtype 4"):
        forward(weight=(4, X.ctypes.data))
    with pytest.raises(ValueError, match="neither statistics nor leave to estimate them"):
        forward(estimate=False)
    with pytest.raises(ValueError, match="norm: there is no dtype -1"):
        forward(running=((-1, X.ctypes.data), None, 0.1))


@pytest.mark.parametrize(("groups", "samples", "channels"), [(0, 2, 0), (3, 0, 3)])
def test_nothing_moves_no_running_statistic(groups, samples, channels):
    running = np.ones((2, 3), np.float32)
    kept = [(2, row.ctypes.data) for row in running]
    layer, layout = (groups, True, 0.1, None, None), ("float32", samples, channels, 4, False)
    _core.norm_forward(0, 0, X.copy().ctypes.data, (*kept, 0.1), 0.1, (0.0, 1.0, 1.0), layer, layout)
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
    memory, x, layout = make((1, 8, 1 << 18), False, "float32", 1)
    mean, _ = _core.norm_moments(memory, layout)
    before = len(calls)
    child = os.fork()
    if child == 0:
        _core.norm_moments(memory, layout)
        os._exit(len(calls) - before)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_allclose(mean, x.mean(2), rtol=1e-5, atol=1e-6)
    assert (calls == [get_num_threads()]) == (get_num_threads() > 1)


def test_at_most_as_many_threads_as_the_layout_says(calls, last):
    memory, _, layout = make((2, 8, 1 << 17), last, "float32", 1)
    tables = np.ones((4, 1, 8))
    for threads in (1, 2):
        described = (*layout, threads)
        _core.norm_moments(memory, described)
        _core.norm_activate(memory, tables[:3], 0.1, np.empty_like(memory), described)
        _core.norm_sums(memory, memory, tables[:1], 0.1, described)
        _core.norm_combine(memory, memory, tables, 0.1, np.empty_like(memory), described)
        assert calls == ([2] * 4 if threads == 2 and get_num_threads() > 1 else [])
