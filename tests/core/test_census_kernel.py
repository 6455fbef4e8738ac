"""The native census against NumPy: every layout, dtype, threshold and special value, and however the data are cut."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from oracle import passes

from leakyrelu import _core, get_num_threads, set_num_threads

SHAPES = [
    *((3, 1, 1), (1, 5, 1), (100, 3, 1), (100, 17, 1), (70, 8, 1), (33, 64, 1), (7, 200, 1)),  # features last
    *((40, 5, 7), (4, 5, 7), (9, 3, 31), (64, 2, 4)),  # short runs, side by side where there are many
    *((5, 6, 32), (5, 6, 50), (2, 3, 1000), (1, 20, 300), (3, 1, 65)),  # long runs
]
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
RULES = [(0.0, np.inf), (0.0, 1.5), (-0.5, np.inf), (0.25, 0.75)]


def empty(units):
    return np.zeros((5, units), np.int64), np.zeros((4, units))


def add(x, low, ceiling, counts, moments):
    x = np.ascontiguousarray(x)
    is_bfloat16 = x.dtype == ml_dtypes.bfloat16
    _core.add_census(x.view(np.int16) if is_bfloat16 else x, is_bfloat16, *x.shape, low, ceiling, counts, moments)


def sample(shape, dtype, seed=0):
    generator = np.random.default_rng(seed)
    return (2 * generator.standard_normal(shape) + generator.standard_normal((1, shape[1], 1))).astype(dtype)


def check(x, low, ceiling, cuts=(0,)):
    counts, moments = empty(x.shape[1])
    for part in np.split(x, cuts):
        add(part, low, ceiling, counts, moments)
    expected_counts, expected_moments = passes.census(x, low, ceiling)
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_allclose(moments, expected_moments, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("low", "ceiling"), RULES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_numpy(shape, dtype, low, ceiling):
    x = sample(shape, dtype)
    check(x, low, ceiling)
    check(x, low, ceiling, cuts=sorted({len(x) // 3, len(x) // 2}))


@pytest.mark.parametrize("ceiling", [np.inf, 1.0])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_one_special_value_anywhere(shape, dtype, value, ceiling):
    for place in {0, np.prod(shape) // 2, np.prod(shape) - 1}:
        x = sample(shape, dtype)
        x.flat[place] = value
        check(x, 0.0, ceiling)


@pytest.mark.parametrize("shape", SHAPES)
def test_many_special_values(shape):
    x = sample(shape, np.float32)
    x.flat[::7], x.flat[::11], x.flat[::13], x.flat[::5] = np.nan, np.inf, -np.inf, -0.0
    check(x, 0.0, np.inf)
    check(np.full(shape, np.nan, np.float32), 0.0, np.inf)


@pytest.mark.parametrize("x", [0.0, -0.0, np.finfo(np.float32).smallest_subnormal, -1e-45, 3e38, -3e38])
def test_one_value_everywhere(x):
    check(np.full((4, 3, 40), x, np.float32), 0.0, np.inf)


@pytest.mark.parametrize("offset", [1e6, -1e6])
def test_a_large_mean_costs_no_digits(offset):
    x = offset + sample((50, 3, 40), np.float64)
    counts, moments = empty(3)
    for part in np.split(x, 5):
        add(part, 0.0, np.inf, counts, moments)
    np.testing.assert_allclose(moments[1] + moments[3], x.var(axis=(0, 2)) * 2000, rtol=1e-9)


@pytest.mark.parametrize("shape", [(64, 64, 32 * 32), (3, 4, 300_000), (40_000, 16, 1), (4096, 256, 1), (512, 256, 9)])
def test_threads_add_up_to_the_same(shape):
    x = sample(shape, np.float32)
    before, results = get_num_threads(), []
    try:
        for threads in (1, 2, 8):
            set_num_threads(threads)
            results.append(empty(shape[1]))
            add(x, 0.0, np.inf, *results[-1])
    finally:
        set_num_threads(before)
    for counts, moments in results[1:]:
        np.testing.assert_array_equal(counts, results[0][0])
        np.testing.assert_array_equal(moments, results[0][1])  # to the last bit
    np.testing.assert_array_equal(results[0][0], passes.census(x, 0.0, np.inf)[0])


def test_nothing_is_added_of_nothing():
    for shape in ((0, 3, 2), (2, 3, 0)):
        counts, moments = empty(3)
        add(np.ones(shape, np.float32), 0.0, np.inf, counts, moments)
        assert not counts.any()
        assert not moments.any()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"x": np.ones((2, 3, 4), np.int32)}, TypeError, "x must be an aligned array in C order of float16, float32"),
        ({"x": np.ones((2, 3, 8), np.float32)[..., ::2]}, TypeError, "x must be an aligned array in C order"),
        ({"x": [1.0]}, TypeError, "x must be an aligned array in C order"),
        ({"bfloat16": True}, TypeError, "or of int16 that holds bfloat16"),
        ({"outer": 3}, ValueError, "3 x 3 x 4 elements, but x has 24"),
        ({"outer": 2**62 + 2, "channels": 3}, ValueError, "4611686018427387906 x 3 x 4 elements, but x has 24"),
        ({"outer": -2, "channels": -3}, ValueError, "-2 x -3 x 4 elements, but x has 24"),
        ({"counts": np.zeros((5, 2), np.int64)}, ValueError, r"counts must be int64 of shape \(5, 3\)"),
        ({"moments": np.zeros((4, 3), np.float32)}, ValueError, r"moments float64 of shape \(4, 3\)"),
        ({"low": "x"}, TypeError, "must be real number, not str"),
    ],
)
def test_errors(change, error, text):
    arguments = {"x": np.ones((2, 3, 4), np.float32), "bfloat16": False, "outer": 2, "channels": 3, "inner": 4}
    counts, moments = empty(3)
    arguments |= {"low": 0.0, "ceiling": np.inf, "counts": counts, "moments": moments} | change
    with pytest.raises(error, match=text):
        _core.add_census(*arguments.values())
    with pytest.raises(TypeError, match="takes 9 positional arguments but 1 were given"):
        _core.add_census(1)


@pytest.mark.parametrize("shape", [(3, 5, 1), (5, 6, 50), (64, 64, 256), (0, 3, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_by_address_it_is_the_same(shape, dtype):
    x = sample(shape, dtype)
    code = ["float16", "bfloat16", "float32", "float64"].index(x.dtype.name)
    for threads in (1, 2):
        counts, moments = empty(shape[1])
        for _ in range(2):
            _core.add_census_at(code, x.ctypes.data, *shape, -0.5, 1.5, counts, moments, threads)
        expected_counts, expected_moments = passes.census(np.concatenate([x, x]), -0.5, 1.5)
        np.testing.assert_array_equal(counts, expected_counts)
        np.testing.assert_allclose(moments, expected_moments, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"dtype": 4}, ValueError, "there is no dtype 4, or no layout 2 x 3 x 4"),
        ({"dtype": -1}, ValueError, "there is no dtype -1"),
        ({"inner": -4}, ValueError, "or no layout 2 x 3 x -4"),
        ({"counts": np.zeros((5, 2), np.int64)}, ValueError, r"add_census_at: counts must be int64 of shape \(5, 3\)"),
        ({"moments": np.zeros((4, 3), np.float32)}, ValueError, r"moments float64 of shape \(4, 3\)"),
        ({"ceiling": "x"}, TypeError, "must be real number, not str"),
        ({"address": "x"}, TypeError, "int"),
    ],
)
def test_errors_by_address(change, error, text):
    x = np.ones((2, 3, 4), np.float32)
    counts, moments = empty(3)
    arguments = {"dtype": 2, "address": x.ctypes.data, "outer": 2, "channels": 3, "inner": 4, "low": 0.0}
    arguments |= {"ceiling": np.inf, "counts": counts, "moments": moments, "threads": 1} | change
    with pytest.raises(error, match=text):
        _core.add_census_at(*arguments.values())
    with pytest.raises(TypeError, match="takes 10 positional arguments but 1 were given"):
        _core.add_census_at(1)
