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


def count_array(
    x: NDArray[Any], axis: int, negative_slope: float | NDArray[np.float64] = 0.0, ceiling: float = math.inf
) -> Counts:
    """Count what goes into ``min(x if x > 0 else negative_slope * x, ceiling)``, unit by unit.

    Parameters
    ----------
    x
        Inputs of the activation, of any real type and any shape. A scalar or an array of one axis is one unit.
    axis
        The axis of `x` that holds the units. The first axis holds the samples, unless this is it: then it is one.
    negative_slope
        One number, or one for each unit.
    ceiling
        Where the activation saturates.

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
    bounded = math.isfinite(ceiling)
    if not bounded and x.dtype in (np.float32, np.float64) and np.all(np.isfinite(negative_slope)):
        return _native(x, np.asarray(negative_slope, dtype=np.float64), entries)
    others = (0, 2)
    finite = np.isfinite(x)
    whole = bool(finite.all())
    slope: Any = np.asarray(negative_slope, dtype=np.float64)
    if slope.ndim:
        slope = slope[:, None]
    with np.errstate(invalid="ignore", over="ignore"):  # infinity times a slope of zero: counted as not finite below
        y = np.asarray(leaky_relu(x, slope))
    if bounded:
        np.minimum(y, ceiling, out=y)
    part = np.maximum(y if whole else np.where(finite, y, 0), 0)
    seen = finite if whole else np.isfinite(y)
    outputs = np.count_nonzero(seen, axis=others)
    known = y if whole else np.where(seen, y, 0)
    mean = known.sum(others, dtype=np.float64) / np.maximum(outputs, 1)
    deviation = known - mean[:, None]  # float64 from here on
    if not whole:
        deviation[~seen] = 0
    return Counts(
        samples=x.shape[0] * x.shape[2],
        calls=1,
        positive=np.count_nonzero(x > 0, axis=others),
        nan=np.zeros(units, np.int64) if whole else np.count_nonzero(np.isnan(x), axis=others),
        saturated=np.count_nonzero(x >= ceiling, axis=others) if bounded else np.zeros(units, np.int64),
        outputs=outputs,
        mean=mean,
        m2=np.einsum("aub,aub->u", deviation, deviation),
        relu_sum=part.sum(others, dtype=np.float64),
        entries=entries,
    )


def _native(x: NDArray[Any], slope: NDArray[np.float64], entries: int) -> Counts:
    """Count in one pass of the native census; the output follows from the moments above 0 and of the rest."""
    counts, moments = np.zeros((5, x.shape[1]), np.int64), np.zeros((4, x.shape[1]))
    aligned = np.require(x, requirements=["C", "A"])
    layout = (_core.DTYPES[x.dtype.name], *x.shape, False, 0)
    _core.add_census_at(layout, 0.0, math.inf, aligned.ctypes.data, counts, moments)
    positive, nan, _, above, rest = counts
    mean, m2, rest_mean, rest_m2 = moments
    _, output_mean, output_m2 = merge_moments(
        (above.astype(np.float64), mean, m2), (rest.astype(np.float64), slope * rest_mean, slope**2 * rest_m2)
    )
    return Counts(
        samples=x.shape[0] * x.shape[2],
        calls=1,
        positive=positive,
        nan=nan,
        saturated=np.zeros_like(nan),
        outputs=above + rest,
        mean=output_mean,
        m2=output_m2,
        relu_sum=mean * above,
        entries=entries,
    )
