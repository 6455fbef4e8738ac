"""Kernels on tensors: native ones on the addresses of CPU tensors, plain PyTorch operations elsewhere.

Signs are taken in the memory order of the output: bit i of byte i // 8, counted from the low bit, is 1 where element i
is > 0, and the trailing bits are 0. Nothing here knows autograd.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from leakyrelu import _core
from leakyrelu.torch._compat import openmp_library

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


NATIVE_DTYPES: dict[torch.dtype, int] = {getattr(torch, name): code for name, code in _core.DTYPES.items()}


def share_threads() -> bool:
    """Let the native core compute on PyTorch's OpenMP threads, where they are those of GCC's library.

    These go on spinning for some milliseconds after each parallel operation of PyTorch, and threads of our own would
    have to share their cores with them.
    """
    path = openmp_library()
    try:
        entry = None if path is None else ctypes.CDLL(path).GOMP_parallel
    except (OSError, AttributeError):
        entry = None
    if entry is not None:
        _core.share_openmp(ctypes.cast(entry, ctypes.c_void_p).value or 0)
    return entry is not None


share_threads()


def empty_like(x: Tensor, layout: torch.memory_format = torch.preserve_format) -> Tensor:
    """Return `torch.empty_like(x)` of a CPU tensor; large memory fresh from the system begins where huge pages do."""
    if (size := x.nbytes) < _core.HUGE_PAGES_FROM:
        return torch.empty_like(x, memory_format=layout)
    _core.begin_huge_page_hint(size)
    try:
        return torch.empty_like(x, memory_format=layout)
    finally:
        _core.end_huge_page_hint()


def native_layout(
    x: Tensor, samples: int = 1, channels: int = 1, positions: int | None = None, channels_last: bool = False
) -> tuple[int, int, int, int, bool, int]:
    """Describe dense memory of a CPU tensor to the native core, as that many samples, channels and positions."""
    positions = x.numel() if positions is None else positions
    return NATIVE_DTYPES[x.dtype], samples, channels, positions, channels_last, torch.get_num_threads()


def aligned(x: Tensor) -> Tensor:
    """Return `x`, or a copy where its elements are not aligned (torch.frombuffer takes any offset, kernels do not)."""
    return x.clone() if x.data_ptr() % x.element_size() else x


def is_dense(x: Tensor) -> bool:
    """Whether a tensor fills its memory without gaps or overlap, in any order of its axes."""
    dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
    return dense or torch.empty_like(x).stride() == x.stride()


def _is_native(x: Tensor) -> bool:
    return x.is_cpu and x.dtype in NATIVE_DTYPES and not x.is_neg()


def with_signs(x: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """Return x where x > 0, slope * x elsewhere; and the packed signs of x in the memory order of that output."""
    if not _is_native(x):
        return F.leaky_relu(x, slope), pack(x > 0)
    if x.is_contiguous():
        y = empty_like(x, torch.contiguous_format)
        return y, _take_signs(x, slope, y)
    # PyTorch gives its result the strides of a dense tensor, and of another, strides as near as a dense one can have.
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    y = empty_like(x, torch.channels_last if channels_last else torch.preserve_format)
    dense = channels_last or y.stride() == x.stride()
    return y, _take_signs(x if dense else y.copy_(x), slope, y)


def with_signs_(x: Tensor, slope: float) -> Tensor:
    """Write x where x > 0, slope * x elsewhere over dense `x`; return the packed signs in its memory order."""
    if _is_native(x):
        return _take_signs(x, slope, x)
    mask = x > 0
    F.leaky_relu_(x, slope)
    return pack(mask)


def _take_signs(x: Tensor, slope: float, out: Tensor) -> Tensor:
    signs = x.new_empty((x.numel() + 7) // 8, dtype=torch.uint8)
    _core.with_signs_at(native_layout(x), slope, x.data_ptr(), out.data_ptr(), signs.data_ptr())
    return signs


def from_signs(grad: Tensor, signs: Tensor, slope: float, strides: Sequence[int]) -> Tensor:
    """Return grad where the bit is 1, slope * grad elsewhere, in the layout in which the signs were taken."""
    if not (_is_native(grad) and signs.is_cpu):
        return from_signs_plain(grad, signs, slope, strides)
    if grad.stride() == tuple(strides):
        result = empty_like(grad)
    else:
        result = grad.new_empty_strided(grad.shape, strides)
        grad = result.copy_(grad)
    _core.from_signs_at(native_layout(grad), slope, grad.data_ptr(), signs.data_ptr(), result.data_ptr())
    return result


def from_signs_plain(grad: Tensor, signs: Tensor, slope: float, strides: Sequence[int]) -> Tensor:
    """Return the same by operations of PyTorch, which every mode and transform understands."""
    # The sign is all that PyTorch's own derivative reads of its input, so any positive number and 0 will do.
    stand_in = unpack(signs, grad.shape, strides, grad.dtype)
    return torch.ops.aten.leaky_relu_backward(grad, stand_in, slope, False)  # type: ignore[no-any-return]


# Without a native kernel, eight booleans are read as one 64-bit integer (on a little-endian machine), and a
# multiplication gathers or spreads their bits: only an eighth of the elements is touched, and the host reads no value.
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
        flat = F.pad(flat, (0, -n % 8))
    return ((flat.view(torch.int64) * _GATHER) >> 56).to(torch.uint8)


def unpack(signs: Tensor, shape: torch.Size, strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a tensor of that layout: a positive number where the bit is 1, 0 elsewhere."""
    spread = (signs.to(torch.int64) * _SPREAD) & _PICK
    return spread.view(torch.uint8).to(dtype).as_strided(shape, strides)
