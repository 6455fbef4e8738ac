"""Normalization and Leaky ReLU as one layer, in the native core, on the memory of CPU tensors of one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from leakyrelu import _core
from leakyrelu.torch.activations.invertible import bounds
from leakyrelu.torch.activations.kernels import NATIVE_DTYPES, aligned, empty_like, native_layout
from leakyrelu.torch.normalization.plain import scaled
from leakyrelu.torch.normalization.statistics import compute_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from leakyrelu.torch.normalization.statistics import Kept, Normalization, Running


_Numbers = tuple[int, int] | None
_Layer = tuple[int, bool, float, _Numbers, _Numbers]


def takes(*tables: Tensor | None) -> bool:
    """Whether `forward` and `backward` can read and write such tables in place."""
    return all(table is None or (table.is_contiguous() and not table.is_neg()) for table in tables)


def forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, normalization: Normalization, running: Running | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return y and the table 1 / sqrt(var + eps); where not all channels can be inverted, those of means and spreads.

    Updates the running statistics.
    """
    x = aligned(x)
    y = empty_like(x)
    by_sample = normalization.shared != "batch" and normalization.estimate
    invstd = x.new_empty((x.shape[0] if by_sample else 1, x.shape[1]), dtype=compute_dtype(x.dtype))
    tables = _core.norm_forward_at(
        _layout(x, normalization.shared == "batch"),
        _layer(normalization, weight, bias, x),
        normalization.eps,
        bounds(normalization.slope, x.dtype),
        None if running is None else (_numbers(running.mean), _numbers(running.var), running.factor or 0.0),
        x.data_ptr(),
        y.data_ptr(),
        invstd.data_ptr(),
    )
    means, spread = (None, None) if tables is None else torch.from_numpy(tables)
    return y, invstd, means, spread


def backward(
    grad: Tensor,
    y: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    invstd: Tensor,
    kept: Kept | None,
    normalization: Normalization,
    wants_input: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of x, weight and bias, these in the dtypes of weight and bias."""
    grad = aligned(grad) if grad.stride() == y.stride() else torch.empty_like(y).copy_(grad)
    y = aligned(y)  # hooks for saved tensors may return any memory
    out = empty_like(y) if wants_input else None
    grad_w = None if weight is None else torch.empty_like(weight)
    grad_b = None if bias is None else torch.empty_like(bias)
    of_kept = None
    if kept is not None:
        channels = kept.channels.contiguous()
        h = scaled(grad.index_select(1, channels), y.index_select(1, channels), normalization.slope).contiguous()
        xhat = aligned(kept.xhat.to(h.dtype).contiguous())
        of_kept = _layout(h, False), channels.data_ptr(), xhat.data_ptr(), h.data_ptr()
    _core.norm_backward_at(
        _layout(y, normalization.shared == "batch"),
        _layer(normalization, weight, bias, y),
        of_kept,
        grad.data_ptr(),
        y.data_ptr(),
        invstd.data_ptr(),
        0 if out is None else out.data_ptr(),
        _numbers(grad_w),
        _numbers(grad_b),
    )
    if kept is not None and out is not None:
        out.index_copy_(1, channels, h.to(out.dtype))
    return out, grad_w, grad_b


def _layer(normalization: Normalization, weight: Tensor | None, bias: Tensor | None, x: Tensor) -> _Layer:
    groups = {"batch": 0, "instance": x.shape[1], "group": normalization.groups}[normalization.shared]
    return groups, normalization.estimate, normalization.slope, _numbers(weight), _numbers(bias)


def _numbers(table: Tensor | None) -> _Numbers:
    # By address: memory that NumPy has seen cannot be resized any more, and sharded parameters are (FSDP).
    return None if table is None else (NATIVE_DTYPES[table.dtype], table.data_ptr())


def _layout(x: Tensor, whole: bool) -> tuple[int, int, int, int, bool, int]:
    """Describe the memory to the core; samples that lie together and share their tables, if `whole`, are one."""
    samples, channels = x.shape[:2]
    positions = x.shape[2:].numel()
    last = positions == 1 or not x.is_contiguous()
    if last and whole:
        samples, positions = 1, samples * positions
    return native_layout(x, samples, channels, positions, last)
