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


def layout(x, threads=0):
    return (_core.DTYPES[x.dtype.name], *x.shape, False, threads)


def add(x, low, ceiling, counts, moments):
    x = np.ascontiguousarray(x)
    _core.add_census_at(layout(x), low, ceiling, x.ctypes.data, counts, moments)


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


@pytest.mark.parametrize("shape", [(3, 5, 1), (5, 6, 50), (64, 64, 256), (0, 3, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_at_most_as_many_threads_as_the_layout_says(shape, dtype):
    x = sample(shape, dtype)
    for threads in (1, 2):
        counts, moments = empty(shape[1])
        for _ in range(2):
            _core.add_census_at(layout(x, threads), -0.5, 1.5, x.ctypes.data, counts, moments)
        expected_counts, expected_moments = passes.census(np.concatenate([x, x]), -0.5, 1.5)
        np.testing.assert_array_equal(counts, expected_counts)
        np.testing.assert_allclose(moments, expected_moments, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_channels_last(dtype):
    x = sample((4, 5, 6), dtype)
    last = np.ascontiguousarray(np.moveaxis(x, 1, 2))
    counts, moments = empty(5)
    _core.add_census_at((*layout(x)[:4], True, 0), 0.0, 1.5, last.ctypes.data, counts, moments)
    expected_counts, expected_moments = passes.census(x, 0.0, 1.5)
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_allclose(moments, expected_moments, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"counts": np.zeros((5, 2), np.int64)}, ValueError, r"add_census_at: counts must be int64 of shape \(5, 3\)"),
        ({"moments": np.zeros((4, 3), np.float32)}, ValueError, r"moments float64 of shape \(4, 3\)"),
        ({"counts": None}, ValueError, r"counts must be int64 of shape \(5, 3\)"),
        ({"low": "x"}, TypeError, "must be real number, not str"),
        ({"ceiling": "x"}, TypeError, "must be real number, not str"),
        ({"address": "x"}, TypeError, "int"),
    ],
)
def test_errors(change, error, text):
    x = np.ones((2, 3, 4), np.float32)
    counts, moments = empty(3)
    arguments = {"layout": layout(x), "low": 0.0, "ceiling": np.inf, "address": x.ctypes.data}
    arguments |= {"counts": counts, "moments": moments} | change
    with pytest.raises(error, match=text):
        _core.add_census_at(*arguments.values())
    with pytest.raises(TypeError, match=r"add_census_at\(\) takes exactly 6 arguments \(1 given\)"):
        _core.add_census_at(1)
