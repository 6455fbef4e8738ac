"""The condition under which the input of an activation can be recovered from its output, channel by channel."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


LIMITS = {torch.float64: 16.0, torch.float32: 16.0, torch.bfloat16: 2.0, torch.float16: 2.0}
"""Largest |b / w| with which a channel is inverted, in units of the root mean square of its normalized input."""


def poorly_inverted(
    weight: Tensor | None, bias: Tensor | None, slope: float, dtype: torch.dtype, spread: Tensor | None = None
) -> Tensor | None:
    """Return the indices of the channels whose input cannot be recovered from their output, or None if there are none.

    `spread` is a table of the root mean square of the normalized input, one row or one for each sample; None means 1.
    The host waits for the device here, since their number is the size of a tensor.
    """
    if weight is None:
        return None
    smallest, largest, limit = bounds(slope, dtype)
    size = abs(numbers(weight))
    good = (size >= smallest) & (size <= largest)
    if bias is not None:
        least = 1.0 if spread is None else numbers(spread.amin(0))
        good &= abs(numbers(bias)) <= limit * size * least
    return None if good.all() else torch.as_tensor(~good).nonzero().flatten()


@functools.cache
def bounds(slope: float, dtype: torch.dtype) -> tuple[float, float, float]:
    """Return the least and the most |w|, and the most |b / w|, with which a channel is inverted."""
    info = torch.finfo(dtype)
    # Where the processor may flush subnormals, an error of `tiny` is to stay below eps.
    smallest = info.tiny if dtype is torch.float16 else info.tiny / info.eps
    return smallest / min(slope, 1.0), info.max * info.eps / max(slope, 1.0), LIMITS[dtype]


def numbers(table: Tensor) -> Any:
    """Return a few numbers in the form whose operations take the least time: a NumPy array for the CPU."""
    table = table.detach()
    if table.is_cpu:
        return table.to(torch.float64, copy=True).numpy()  # a copy: memory that NumPy has seen cannot be resized
    return table.float() if table.device.type == "mps" else table.double()
