"""The counts of one array, for adapters whose activations arrive as NumPy arrays.

One pass of the native census, or NumPy where the rectifier has a ceiling or the array another type.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from leakyrelu import _core
from leakyrelu.arrays import leaky_relu
from leakyrelu.diagnosis.counts import Counts, merge_moments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leakyrelu.diagnosis.counts import FloatArray, IntArray

    Arrays = tuple[IntArray, IntArray, IntArray, IntArray, FloatArray, FloatArray, FloatArray]


def count_array(
    x: NDArray[Any], axis: int, negative_slope: float | NDArray[np.float64] = 0.0, ceiling: float = math.inf
) -> Counts:
    """Count what goes into ``min(x if x > 0 else negative_slope * x, ceiling)``, unit by unit.

    `x` has any real type and shape; a scalar or an array of one axis is one unit. `axis` holds the units; the first
    axis holds the samples, unless this is it: then it is one. `negative_slope` is one number, or one for each unit.

    Examples
    --------
    >>> import numpy as np
    >>> count_array(np.array([[1.0, -1.0], [2.0, -3.0]]), axis=1).positive
    array([2, 0])
    """
    if x.ndim < 2:
        x, axis = x.reshape(-1, 1), 1
    axis %= x.ndim
    units = x.shape[axis]
    entries = x.shape[0] if axis else 1
    # Three axes are enough for any shape: those before the units, the units, those behind them.
    x = np.ascontiguousarray(x).reshape(math.prod(x.shape[:axis]), units, math.prod(x.shape[axis + 1 :]))
    entries = entries if x.shape[0] * x.shape[2] else 0
    if x.dtype.kind != "f" or x.dtype.itemsize < 4:
        x = x.astype(np.float64 if x.dtype.kind in "iu" and x.dtype.itemsize > 2 else np.float32)
    slope: NDArray[np.float64] = np.asarray(negative_slope, dtype=np.float64)
    native = not math.isfinite(ceiling) and x.dtype in (np.float32, np.float64) and np.all(np.isfinite(slope))
    counts = _count_native(x, slope) if native else _count_general(x, slope, ceiling)
    return Counts(x.shape[0] * x.shape[2], 1, *counts, entries=entries)


def _count_native(x: NDArray[Any], slope: NDArray[np.float64]) -> Arrays:
    """Count in one pass of the native census, in the order of `Counts`.

    The output follows from the moments above 0 and of the rest.
    """
    counts, moments = np.zeros((5, x.shape[1]), np.int64), np.zeros((4, x.shape[1]))
    aligned = np.require(x, requirements=["C", "A"])
    layout = (_core.DTYPES[x.dtype.name], *x.shape, False, 0)
    _core.add_census_at(layout, 0.0, math.inf, aligned.ctypes.data, counts, moments)
    positive, nan, _, above, rest = counts
    mean, m2, rest_mean, rest_m2 = moments
    _, output_mean, output_m2 = merge_moments(
        (above.astype(np.float64), mean, m2), (rest.astype(np.float64), slope * rest_mean, slope**2 * rest_m2)
    )
    return positive, nan, np.zeros_like(nan), above + rest, output_mean, output_m2, mean * above


def _count_general(x: NDArray[Any], slope: NDArray[np.float64], ceiling: float) -> Arrays:
    """Count with NumPy, in the order of `Counts`."""
    others = (0, 2)
    finite = np.isfinite(x)
    whole = bool(finite.all())
    with np.errstate(invalid="ignore", over="ignore"):  # infinity times a slope of zero: counted as not finite below
        y = np.asarray(leaky_relu(x, slope[:, None] if slope.ndim else slope))
    saturated = nan = np.zeros(x.shape[1], np.int64)
    if math.isfinite(ceiling):
        np.minimum(y, ceiling, out=y)
        saturated = np.count_nonzero(x >= ceiling, axis=others)
    part = np.maximum(y if whole else np.where(finite, y, 0), 0)
    seen = finite if whole else np.isfinite(y)
    outputs = np.count_nonzero(seen, axis=others)
    known = y if whole else np.where(seen, y, 0)
    mean = known.sum(others, dtype=np.float64) / np.maximum(outputs, 1)
    deviation = known - mean[:, None]  # float64 from here on
    if not whole:
        deviation[~seen] = 0
        nan = np.count_nonzero(np.isnan(x), axis=others)
    m2 = np.einsum("aub,aub->u", deviation, deviation)
    positive = np.count_nonzero(x > 0, axis=others)
    return positive, nan, saturated, outputs, mean, m2, part.sum(others, dtype=np.float64)
