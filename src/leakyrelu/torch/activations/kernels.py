"""The kernels on tensors: the native ones on the addresses of CPU tensors, plain PyTorch operations elsewhere.

Signs are taken in the memory order of the output. Nothing here knows autograd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from leakyrelu import _core
from leakyrelu.torch.activations.packed_signs import pack, unpack

if TYPE_CHECKING:
    from torch import Tensor


_ROOM_FROM = 1 << 23  # bytes from which huge pages are asked for (core/memory.cpp)
# In the order of the enumeration DType (core/kernel.h).
_NATIVE = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2, torch.float64: 3}


def empty_like(x: Tensor, layout: torch.memory_format = torch.preserve_format) -> Tensor:
    """Return `torch.empty_like(x)` of a CPU tensor; large memory fresh from the system begins where huge pages do."""
    if (size := x.numel() * x.element_size()) < _ROOM_FROM:
        return torch.empty_like(x, memory_format=layout)
    _core.make_room(size)
    try:
        return torch.empty_like(x, memory_format=layout)
    finally:
        _core.leave_room()


def aligned(x: Tensor) -> Tensor:
    """Return `x`, or a copy where its elements are not aligned (torch.frombuffer takes any offset, kernels do not)."""
    return x.clone() if x.data_ptr() % x.element_size() else x


def with_signs(x: Tensor, slope: float, inplace: bool) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Return the output, the signs, and the strides of the dense layout in which the signs were taken."""
    if not x.is_cpu or x.dtype not in _NATIVE or x.is_neg():
        mask = x > 0
        return F.leaky_relu(x, slope, inplace), pack(mask), mask.stride()

    if x.is_contiguous():
        y = x if inplace else empty_like(x, torch.contiguous_format)
        return y, _take_signs(x, slope, y), y.stride()

    # Otherwise PyTorch gives its result the strides of `x`, where `x` fills its memory without gaps or overlap, and
    # strides as near to them as a dense tensor can have, where it does not. A fresh tensor answers which it is.
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.preserve_format
    y = empty_like(x, layout)
    strides = y.stride()
    if channels_last or strides == x.stride():
        y = x if inplace else y
        return y, _take_signs(x, slope, y), strides
    signs = _take_signs(y.copy_(x), slope, y)
    return (x.copy_(y) if inplace else y), signs, strides


def _take_signs(x: Tensor, slope: float, out: Tensor) -> Tensor:
    n = x.numel()
    signs = x.new_empty((n + 7) // 8, dtype=torch.uint8)
    threads = torch.get_num_threads()
    _core.with_signs_at(_NATIVE[x.dtype], slope, n, threads, x.data_ptr(), out.data_ptr(), signs.data_ptr())
    return signs


def from_signs(grad: Tensor, signs: Tensor, slope: float, shape: torch.Size, strides: tuple[int, ...]) -> Tensor:
    """Return grad where the bit is 1, slope * grad elsewhere, in the layout in which the signs were taken."""
    if not grad.is_cpu or grad.dtype not in _NATIVE or grad.is_neg() or not signs.is_cpu:
        return from_signs_plain(grad, signs, slope, shape, strides)
    if grad.stride() == strides:
        result = empty_like(grad)
    else:
        result = torch.empty_strided(shape, strides, dtype=grad.dtype, device="cpu")
        grad = result.copy_(grad)
    n, threads = grad.numel(), torch.get_num_threads()
    _core.from_signs_at(_NATIVE[grad.dtype], slope, n, threads, grad.data_ptr(), signs.data_ptr(), result.data_ptr())
    return result


def from_signs_plain(grad: Tensor, signs: Tensor, slope: float, shape: torch.Size, strides: tuple[int, ...]) -> Tensor:
    """Return the same by operations of PyTorch, which every mode and transform understands."""
    # The sign is all that PyTorch's own derivative reads of its input, so any positive number and 0 will do.
    stand_in = unpack(signs, shape, strides, grad.dtype)
    return torch.ops.aten.leaky_relu_backward(grad, stand_in, slope, False)  # type: ignore[no-any-return]
