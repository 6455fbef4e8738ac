"""What zero padding takes from a convolution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def valid_taps(
    size: tuple[int, ...], kernel: tuple[int, ...], result: tuple[int, ...], stride: Any, padding: Any, dilation: Any
) -> tuple[float, float]:
    """Return the share of taps that fall on no padding, and what padding leaves of the similarity of two places.

    With V(p, p') the taps that are valid at both of two places of the result: the mean of V(p, p) over all taps, and
    ``[sum over p != p' of V(p, p') / (P - 1)] / [sum over p of V(p, p)]``. Both follow from the axes one by one.
    """
    one, both = [], []
    for axis, (length, taps, places) in enumerate(zip(size, kernel, result, strict=True)):
        step, spread = (each[axis % len(each)] if isinstance(each, tuple) else each for each in (stride, dilation))
        if padding == "same":
            before = (spread * (taps - 1)) // 2
        elif padding == "valid":
            before = 0
        else:
            before = padding[axis % len(padding)] if isinstance(padding, tuple) else padding
        at = np.arange(places)[:, None] * step - before + np.arange(taps) * spread
        is_valid = ((at >= 0) & (at < length)).astype(float)
        one.append(is_valid.sum())
        both.append(float((is_valid.sum(axis=0) ** 2).sum()))
    places, taps = math.prod(result), math.prod(kernel)
    own, pairs = math.prod(one), math.prod(both)
    overlap = (pairs - own) / ((places - 1) * own) if places > 1 and own else 1.0
    return own / (places * taps), overlap
