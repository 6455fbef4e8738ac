"""Counts of one array against plain NumPy, one unit at a time."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from leakyrelu.diagnosis.array_counts import count_array


def expected(x, axis, slope, ceiling):
    """The definition, unit by unit, in float64."""
    units = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1).astype(np.float64)
    for unit, alpha in zip(units, np.broadcast_to(slope, len(units)), strict=True):
        with np.errstate(invalid="ignore"):
            y = np.minimum(np.where(unit > 0, unit, alpha * unit), ceiling)
        y = np.where(np.isnan(unit), np.nan, y)
        finite = y[np.isfinite(y)]
        part = np.clip(unit[np.isfinite(unit)], 0, ceiling)
        yield (
            (unit > 0).sum(),
            np.isnan(unit).sum(),
            (unit >= ceiling).sum() if np.isfinite(ceiling) else 0,
            finite.size,
            finite.mean() if finite.size else 0.0,
            finite.var() * finite.size if finite.size else 0.0,
            part.sum(),
        )


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=4, max_side=5),
        elements=st.floats(-9, 9, width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 6.0]),
    ),
    st.data(),
)
def test_against_the_definition(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    slope = data.draw(st.sampled_from([0.0, 0.01, 0.5, np.linspace(0.1, 0.9, x.shape[axis])]))
    ceiling = data.draw(st.sampled_from([np.inf, 6.0]))
    counts = count_array(x, axis, slope, ceiling)
    rows = np.array(list(expected(x, axis, slope, ceiling)), dtype=np.float64)
    found = [counts.positive, counts.nan, counts.saturated, counts.outputs]
    np.testing.assert_array_equal(np.array(found).T, rows[:, :4])
    np.testing.assert_allclose(counts.mean, rows[:, 4], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(counts.m2, rows[:, 5], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(counts.relu_sum, rows[:, 6], rtol=1e-6)
    assert counts.samples == x.size // x.shape[axis]
    assert counts.entries == (len(x) if axis % x.ndim else 1)


@pytest.mark.parametrize(
    "dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.longdouble, ">f4", np.int8, np.int32, np.bool_]
)
def test_every_real_dtype(dtype):
    x = np.array([[1, 0, 0], [3, 0, 1]], dtype=np.float32).astype(dtype)
    counts = count_array(x, 1, 0.1)
    assert counts.positive.tolist() == [2, 0, 1]
    np.testing.assert_allclose(counts.mean, x.astype(float).mean(0), rtol=1e-6)


def test_strides_do_not_matter():
    x = np.random.default_rng(0).normal(size=(6, 8, 10)).astype(np.float32)
    for view in (x[::2, :, ::-1], x.transpose(2, 1, 0), np.asfortranarray(x)):
        np.testing.assert_array_equal(count_array(view, 1).positive, (view > 0).sum((0, 2)))


@pytest.mark.parametrize(("x", "samples"), [(np.float32(2.0), 1), (np.ones(5, np.float32), 5)])
def test_without_an_axis_of_units_there_is_one(x, samples):
    counts = count_array(np.asarray(x), 0)
    assert (counts.units, counts.samples, counts.positive.tolist()) == (1, samples, [samples])
    assert counts.entries == samples


def test_an_empty_batch_counts_nothing():
    counts = count_array(np.ones((0, 3, 4), np.float32), 1)
    assert (counts.units, counts.samples, counts.positive.tolist()) == (3, 0, [0, 0, 0])
    assert (counts.entries, count_array(np.ones((4, 0, 2), np.float32), 1).entries) == (0, 4)
