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


NATIVE_DTYPES: dict[torch.dtype, int] = {getattr(torch, name): code for name, code in _core.DTYPES.items()}


def empty_like(x: Tensor, layout: torch.memory_format = torch.preserve_format) -> Tensor:
    """Return `torch.empty_like(x)` of a CPU tensor; large memory fresh from the system begins where huge pages do."""
    if (size := x.numel() * x.element_size()) < _core.HUGE_PAGES_FROM:
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


def with_signs(x: Tensor, slope: float, inplace: bool) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Return the output, the signs, and the strides of the dense layout in which the signs were taken."""
    if not x.is_cpu or x.dtype not in NATIVE_DTYPES or x.is_neg():
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
    signs = x.new_empty((x.numel() + 7) // 8, dtype=torch.uint8)
    _core.with_signs_at(native_layout(x), slope, x.data_ptr(), out.data_ptr(), signs.data_ptr())
    return signs


def from_signs(grad: Tensor, signs: Tensor, slope: float, shape: torch.Size, strides: tuple[int, ...]) -> Tensor:
    """Return grad where the bit is 1, slope * grad elsewhere, in the layout in which the signs were taken."""
    if not grad.is_cpu or grad.dtype not in NATIVE_DTYPES or grad.is_neg() or not signs.is_cpu:
        return from_signs_plain(grad, signs, slope, shape, strides)
    if grad.stride() == strides:
        result = empty_like(grad)
    else:
        result = torch.empty_strided(shape, strides, dtype=grad.dtype, device="cpu")
        grad = result.copy_(grad)
    _core.from_signs_at(native_layout(grad), slope, grad.data_ptr(), signs.data_ptr(), result.data_ptr())
    return result


def from_signs_plain(grad: Tensor, signs: Tensor, slope: float, shape: torch.Size, strides: tuple[int, ...]) -> Tensor:
    """Return the same by operations of PyTorch, which every mode and transform understands."""
    # The sign is all that PyTorch's own derivative reads of its input, so any positive number and 0 will do.
    stand_in = unpack(signs, shape, strides, grad.dtype)
    return torch.ops.aten.leaky_relu_backward(grad, stand_in, slope, False)  # type: ignore[no-any-return]
