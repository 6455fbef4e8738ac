"""Signs packed in plain PyTorch operations, for dtypes and devices without a native kernel.

The layout is the one of `leakyrelu.leaky_relu_with_signs`: bit i of byte i // 8, counted from the low bit, is 1 where
element i in memory order is > 0, and the trailing bits are 0. Eight booleans are read as one 64-bit integer, and a
multiplication gathers (or spreads) their bits, so that only an eighth of the elements is touched. No value is read
back by the host. The integer view assumes a little-endian machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


# Byte k of the operand holds bit k (0 or 1). The product puts it at position 56 + k: 8k + 7(8 - k) = 56 + k, and no
# two terms of the product share a position, so nothing carries.
_GATHER = 0x0102_0408_1020_4080
_SPREAD = 0x0101_0101_0101_0101
# Keeps bit k in byte k. As a signed 64-bit integer: 0x8040_2010_0804_0201 is beyond its range.
_PICK = 0x8040_2010_0804_0201 - (1 << 64)


def pack(mask: Tensor) -> Tensor:
    """Pack a dense boolean tensor, in memory order, into ceil(n / 8) bytes."""
    n = mask.numel()
    flat = mask.as_strided((n,), (1,))
    if n % 8:
        flat = torch.nn.functional.pad(flat, (0, -n % 8))
    return ((flat.view(torch.int64) * _GATHER) >> 56).to(torch.uint8)


def unpack(signs: Tensor, shape: torch.Size, strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a tensor of that layout: a positive number where the bit is 1, 0 elsewhere."""
    spread = (signs.to(torch.int64) * _SPREAD) & _PICK
    return spread.view(torch.uint8).to(dtype).as_strided(shape, strides)
