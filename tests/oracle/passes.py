"""The passes over units, in float64: normalization with Leaky ReLU, learned slopes, the census.

Data has the shape (samples, channels, positions).
"""

from __future__ import annotations

import numpy as np

from . import reference

# Of the normalization passes, for data stored in that dtype.
NORM_TOLERANCES = {"float64": 1e-13, "float32": 3e-6, "bfloat16": 1e-2, "float16": 2e-3}


def norm_activate(x, mean, scale, bias, alpha):
    """Normalization and Leaky ReLU; the tables have the shape (1 or samples, channels)."""
    v = (x - mean[:, :, None]) * scale[:, :, None] + bias[:, :, None]
    return np.where(v > 0, v, alpha * v)


def norm_passes(x, grad, y, tables, alpha, tolerance):
    """The result of each normalization pass, and how far from it ours may be. `y` is the output as it was stored."""
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


def shared_mean(values, groups):
    """Means over `groups` groups of channels of each sample, or, for 0, over a channel of all samples; as a table."""
    if groups == 0:
        return values.mean((0, 2))[None]
    samples, channels, _ = values.shape
    return values.reshape(samples, groups, -1).mean(2).repeat(channels // groups, 1)


def norm_gradients(grad, y, invstd, weight, bias, alpha, groups, kept, tolerance):
    """The gradients of a whole layer, and how far from them ours may be.

    `groups` as of `shared_mean`; None: the statistics are given. `kept`: channels that keep their normalized input, and
    that input; in the others, it is recovered from the output.
    """
    w, b = weight[:, None], bias[:, None]
    channels, xhat_of_channels = kept
    with np.errstate(divide="ignore", invalid="ignore"):
        xhat = (np.where(y > 0, y, y / alpha) - b) / w
    xhat[:, channels] = xhat_of_channels
    h = np.where(y > 0, grad, alpha * grad)
    g = w * h
    mean_g, mean_gx = (0, 0) if groups is None else (shared_mean(t, groups)[:, :, None] for t in (g, g * xhat))
    size = 0 if groups is None else shared_mean(np.abs(g), groups)[:, :, None]
    size_x = 0 if groups is None else shared_mean(np.abs(g * xhat), groups)[:, :, None]
    scale = invstd[:, :, None]

    def total(terms):
        return terms.sum((0, 2)), min(tolerance, 3e-6) * (np.abs(terms).sum((0, 2)).max(initial=0.0))

    grad_x = scale * (g - mean_g - xhat * mean_gx)
    error = tolerance * (np.abs(scale) * (np.abs(g) + size + np.abs(xhat) * size_x) + 1)
    return {"x": (grad_x, error), "weight": total(h * xhat), "bias": total(h)}


def prelu_passes(x, grad, signs, weight, inverse):
    """Leaky ReLU with one slope per channel.

    The output; then, for each mask of positive elements (None: x > 0), that mask, the gradient, the sums and the sums
    of the magnitude of their terms.
    """

    def wide(values):
        return values.astype(np.float64)

    def along(values):
        return values[:, None]

    compute = reference.compute_dtype(x.dtype)
    passes = []
    with np.errstate(all="ignore"):
        for mask in signs:
            positive = wide(x) > 0 if mask is None else mask
            scaled = (grad.astype(compute) * along(weight).astype(compute)).astype(x.dtype)
            terms = np.where(positive, 0, wide(grad) * wide(x) * along(inverse))
            sums, magnitude = terms.sum((0, 2)), np.abs(terms).sum((0, 2))
            passes.append((positive, np.where(positive, grad, scaled), sums, magnitude))
    return reference.leaky_relu(x, along(weight)), passes


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
