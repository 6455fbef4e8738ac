"""The oracle: Leaky ReLU by plain NumPy, written from the definition. Imports nothing of ours."""

from __future__ import annotations

import ml_dtypes
import numpy as np

bfloat16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = (np.dtype(np.float16), bfloat16, np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.longdouble))
SLOPES = (0.01, 0.2, 0.0, 1.0, 3.7, -0.5, 0.001, -0.0, float("inf"), float("nan"))


def compute_dtype(dtype):
    """float32 for the 16-bit types, float64 for what is not floating, else the type itself."""
    dtype = np.dtype(dtype)
    if dtype == bfloat16 or dtype == np.float16:
        return np.dtype(np.float32)
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


def result_dtype(dtype):
    dtype = np.dtype(dtype)
    return dtype if dtype == bfloat16 or dtype.kind == "f" else np.dtype(np.float64)


def _slopes(x, alpha):
    compute = compute_dtype(x.dtype)
    return np.where(x.astype(compute) > 0, compute.type(1), np.asarray(alpha).astype(compute))


def leaky_relu(x, alpha):
    x = np.asarray(x)
    compute = compute_dtype(x.dtype)
    with np.errstate(all="ignore"):
        wide = x.astype(compute)
        slopes = np.asarray(alpha).astype(compute)
        return np.where(wide > 0, wide, slopes * wide).astype(result_dtype(x.dtype))


def leaky_relu_backward(grad, x, alpha):
    grad, x = np.asarray(grad), np.asarray(x)
    compute = compute_dtype(grad.dtype)
    with np.errstate(all="ignore"):
        wide = grad.astype(compute)
        slopes = np.asarray(alpha).astype(compute)
        return np.where(x.astype(compute) > 0, wide, slopes * wide).astype(result_dtype(grad.dtype))


def leaky_relu_inverse(y, alpha):
    y = np.asarray(y)
    compute = compute_dtype(y.dtype)
    with np.errstate(all="ignore"):
        wide = y.astype(compute)
        slopes = np.asarray(alpha).astype(compute)
        return np.where(wide > 0, wide, wide / slopes).astype(result_dtype(y.dtype))


def signs(x):
    x = np.asarray(x)
    with np.errstate(invalid="ignore"):  # a signaling NaN
        return np.packbits(
            x.astype(np.promote_types(compute_dtype(x.dtype), np.float64)).ravel() > 0, bitorder="little"
        )


def samples(dtype, size, seed=0):
    """Numbers of both signs with every special value of the dtype among them, in a fixed random order."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    info = ml_dtypes.finfo(dtype) if dtype == bfloat16 else np.finfo(dtype)
    tiny, largest = info.smallest_subnormal, info.max
    special = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, -np.nan]).astype(dtype)
    special = np.concatenate([special, np.array([tiny, -tiny, largest, -largest, info.tiny, -info.tiny], dtype)])
    values = rng.normal(scale=2.0, size=size).astype(dtype)
    where = rng.random(size) < 0.2
    values[where] = rng.choice(special, size=int(where.sum()))
    return values


def same_bits(a, b):
    """Equal in value, dtype, shape and the sign of zero; NaN equals NaN (its payload has no meaning)."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    wide_a, wide_b = a.astype(np.longdouble), b.astype(np.longdouble)
    nan = np.isnan(wide_a)
    if not np.array_equal(nan, np.isnan(wide_b)):
        return False
    return bool(np.all((wide_a == wide_b) | nan) and np.all((np.signbit(wide_a) == np.signbit(wide_b)) | nan))


# Normalization and Leaky ReLU as one (core/norm_kernel.h): float64 throughout, data of shape (samples, channels,
# positions), tables of shape (1 or samples, channels). The tolerances are for data stored in that dtype.
NORM_TOLERANCES = {"float64": 1e-13, "float32": 3e-6, "bfloat16": 1e-2, "float16": 2e-3}


def norm_activate(x, mean, scale, bias, alpha):
    v = (x - mean[:, :, None]) * scale[:, :, None] + bias[:, :, None]
    return np.where(v > 0, v, alpha * v)


def norm_passes(x, grad, y, tables, alpha, tolerance):
    """What each pass gives, and how far from it a result may be. `y` is the output as it was stored."""
    bias, p, q, r = (table[:, :, None] for table in tables)
    n = max(x.shape[2], 1)
    mean = x.sum(2) / n
    squares = ((x - mean[:, :, None]) ** 2).sum(2)
    activated = norm_activate(x, *tables[:3], alpha)
    h = np.where(y > 0, grad, alpha * grad)
    u = np.where(y > 0, y, y / alpha) - bias

    def total(terms):
        largest = np.abs(terms).sum(2).max(initial=0.0)
        return terms.sum(2), np.full(terms.shape[:2], min(tolerance, 3e-6) * largest)

    return {
        "mean": (mean, tolerance * (1 + np.abs(mean))),
        "squares": (squares, tolerance * (1 + 10 * squares)),
        "activated": (activated, tolerance * (10 + np.abs(activated))),
        "sum_h": total(h),
        "sum_hu": total(h * u),
        "combined": (h * p + (u * q + r), tolerance * (np.abs(h * p) + np.abs(u * q) + np.abs(r) + 1)),
    }


def prelu_passes(x, grad, signs, weight, inverse):
    """Leaky ReLU with one slope a channel (core/prelu_kernel.h), data of shape (samples, channels, positions).

    The output; then, for each mask of positive elements (None: x > 0), that mask, the gradient, the sums and the sums
    of the magnitude of their terms.
    """

    def wide(values):
        return values.astype(np.float64)

    def along(values):
        return values[:, None]

    compute = compute_dtype(x.dtype)
    passes = []
    with np.errstate(all="ignore"):
        for mask in signs:
            positive = wide(x) > 0 if mask is None else mask
            scaled = (grad.astype(compute) * along(weight).astype(compute)).astype(x.dtype)
            terms = np.where(positive, 0, wide(grad) * wide(x) * along(inverse))
            sums, magnitude = terms.sum((0, 2)), np.abs(terms).sum((0, 2))
            passes.append((positive, np.where(positive, grad, scaled), sums, magnitude))
    return leaky_relu(x, along(weight)), passes


def census(x, low, ceiling):
    """Counts (above, NaN, saturated, middle, rest) and moments (mean and squares of the middle, then of the rest)."""
    values = np.moveaxis(x.astype(np.float64), 1, 0).reshape(x.shape[1], -1)
    above, nan, finite = values > low, np.isnan(values), np.isfinite(values)
    saturated = (values >= ceiling) & np.isfinite(ceiling)
    middle, rest = finite & above & (values < ceiling), finite & (values <= low)
    counts = [mask.sum(axis=1) for mask in (above, nan, saturated, middle, rest)]
    moments = []
    for mask in (middle, rest):
        mean = np.where(mask, values, 0).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
        with np.errstate(invalid="ignore", over="ignore"):
            moments += [mean, np.where(mask, (values - mean[:, None]) ** 2, 0).sum(axis=1)]
    return np.array(counts), np.array(moments)
