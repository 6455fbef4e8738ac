"""The passes of a normalization followed by a Leaky ReLU, in the native core, on the memory of CPU tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leakyrelu import _core
from leakyrelu.torch.activations.kernels import aligned, empty_like
from leakyrelu.torch.normalization.passes import compute_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from leakyrelu.torch.normalization.statistics import Running


__all__ = ["Native", "backward", "forward", "layer", "takes"]


_NAMES = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
}


class Native:
    """The passes of `normalization.passes` on dense tensors in C order or with channels last; tables in float64.

    Moments and sums come with one row a sample also where the whole batch shares them, unless the samples lie together
    anyway.
    """

    dtypes = frozenset(_NAMES)

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def moments(self, x: Tensor, whole: bool) -> tuple[Tensor, Tensor]:
        """Return mean and sum of squared distances from it."""
        return _tensors(_core.norm_moments(_memory(x), _layout(x, whole)))

    def activate(self, x: Tensor, mean: Tensor, scale: Tensor, b: Tensor) -> Tensor:
        """Return f((x - mean) * scale + b)."""
        if x.dtype is not torch.float64:
            # The kernel subtracts a rounded mean; what that is off goes into b.
            rounded = mean.float().double()
            b = b - (mean - rounded) * scale
            mean = rounded
        y = empty_like(x)
        tables = _tables(mean, scale, b)
        _core.norm_activate(_memory(x), tables, self.slope, _memory(y), _layout(x, tables.shape[1] == 1))
        return y

    def sums(self, grad: Tensor, y: Tensor, b: Tensor, whole: bool) -> tuple[Tensor, Tensor]:
        """Return the sums of h and of h * u."""
        grad = _like(grad, y)
        return _tensors(_core.norm_sums(_memory(grad), _memory(y), _tables(b), self.slope, _layout(y, whole)))

    def combine(self, grad: Tensor, y: Tensor, b: Tensor, p: Tensor, q: Tensor, r: Tensor) -> Tensor:
        """Return p * h + q * u + r."""
        grad = _like(grad, y)
        out = empty_like(y)
        tables = _tables(b, p, q, r)
        layout = _layout(y, tables.shape[1] == 1)
        _core.norm_combine(_memory(grad), _memory(y), tables, self.slope, _memory(out), layout)
        return out


_CODES = {dtype: code for code, dtype in enumerate(_NAMES)}  # in the order of the enumeration DType (core/kernel.h)
_Numbers = tuple[int, int] | None
Layer = tuple[int, bool, float, _Numbers, _Numbers]


def takes(*tables: Tensor | None) -> bool:
    """Whether `forward` and `backward` can read and write such tables where they lie."""
    return all(table is None or (table.is_contiguous() and not table.is_neg()) for table in tables)


def layer(groups: int, estimate: bool, slope: float, weight: Tensor | None, bias: Tensor | None) -> Layer:
    """Describe a layer to `forward` and `backward`; `groups` is 0 where a channel shares over all samples."""
    return groups, estimate, slope, _numbers(weight), _numbers(bias)


def forward(
    x: Tensor, running: Running | None, eps: float, bounds: tuple[float, float, float], of: Layer
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return y, the table 1 / sqrt(var + eps), and, where not all channels can be inverted, that of the means.

    Running statistics are moved. `bounds`: of |weight|, least and most, and of |bias / weight|, most.
    """
    x = aligned(x)
    y = empty_like(x)
    kept = None
    if running is not None:
        kept = _numbers(running.mean), _numbers(running.var), running.factor or 0.0
    shape = (x.shape[0] if of[0] and of[1] else 1, x.shape[1])
    invstd = x.new_empty(shape, dtype=compute_dtype(x.dtype))
    layout = _layout(x, of[0] == 0)
    means = _core.norm_forward(x.data_ptr(), y.data_ptr(), invstd.data_ptr(), kept, eps, bounds, of, layout)
    return y, invstd, None if means is None else torch.from_numpy(means)


def backward(
    grad: Tensor,
    y: Tensor,
    invstd: Tensor,
    of: Layer,
    wants_input: bool,
    weight: Tensor | None,
    bias: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, weight and bias, these in the dtypes of weight and bias."""
    grad, y = _like(grad, y), aligned(y)  # y too: hooks may have kept it anywhere
    out = empty_like(y) if wants_input else None
    grad_w = None if weight is None else torch.empty_like(weight)
    grad_b = None if bias is None else torch.empty_like(bias)
    _core.norm_backward(
        grad.data_ptr(),
        y.data_ptr(),
        invstd.data_ptr(),
        0 if out is None else out.data_ptr(),
        _numbers(grad_w),
        _numbers(grad_b),
        of,
        _layout(y, of[0] == 0),
    )
    return out, grad_w, grad_b


def _numbers(table: Tensor | None) -> _Numbers:
    # By address: memory that NumPy has seen cannot be resized any more, and sharded parameters are (FSDP).
    return None if table is None else (_CODES[table.dtype], table.data_ptr())


def _layout(x: Tensor, whole: bool) -> tuple[str, int, int, int, bool, int]:
    """Name the dtype and say how the memory lies; samples that lie together and share their tables are one."""
    samples, channels = x.shape[:2]
    positions = x.shape[2:].numel()
    last = positions == 1 or not x.is_contiguous()
    if last and whole:
        samples, positions = 1, samples * positions
    return _NAMES[x.dtype], samples, channels, positions, last, torch.get_num_threads()


def _like(grad: Tensor, y: Tensor) -> Tensor:
    return aligned(grad) if grad.stride() == y.stride() else torch.empty_like(y).copy_(grad)


def _memory(x: Tensor) -> Any:
    x = aligned(x.detach())
    if not x.is_contiguous():
        x = x.as_strided((x.numel(),), (1,))
    return (x.view(torch.int16) if x.element_size() == 2 else x).numpy()


def _tables(*tables: Tensor) -> Any:
    return np.stack(np.broadcast_arrays(*(table.detach().double().numpy() for table in tables)))


def _tensors(pair: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(pair[0]), torch.from_numpy(pair[1])
