"""Leaky ReLU of one element after another, by plain NumPy, written from the definition."""

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
