"""The passes of a normalization followed by a Leaky ReLU, in the native core, on the memory of CPU tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leakyrelu import _core

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Native", "backward", "forward", "layer"]

_NAMES = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
}


class Native:
    """The passes (`leakyrelu.torch.passes`), for dense tensors in C order or with channels last; tables in float64.

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
        y = torch.empty_like(x)
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
        out = torch.empty_like(y)
        tables = _tables(b, p, q, r)
        layout = _layout(y, tables.shape[1] == 1)
        _core.norm_combine(_memory(grad), _memory(y), tables, self.slope, _memory(out), layout)
        return out


Layer = tuple[int, bool, float, Any, Any]


def layer(groups: int, estimate: bool, slope: float, weight: Tensor | None, bias: Tensor | None) -> Layer:
    """Describe a layer to `forward` and `backward`; `groups` is 0 where a channel shares over all samples."""
    return groups, estimate, slope, _numbers(weight), _numbers(bias)


def forward(
    x: Tensor, given: tuple[Tensor, Tensor] | None, eps: float, of: Layer
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return y and the tables mean, var (where they are not given) and 1 / sqrt(var + eps)."""
    y = torch.empty_like(x)
    layout = _layout(x, of[0] == 0)
    mean, var = given or (None, None)
    tables = _core.norm_forward(_memory(x), _memory(y), _numbers(mean), _numbers(var), eps, of, layout)
    mean, var, invstd = map(torch.from_numpy, tables)
    return y, mean, var, invstd


def backward(grad: Tensor, y: Tensor, invstd: Tensor, of: Layer, wants_input: bool) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, weight and bias."""
    grad = _like(grad, y)
    out = torch.empty_like(y) if wants_input else None
    memory = None if out is None else _memory(out)
    sums = _core.norm_backward(_memory(grad), _memory(y), invstd.numpy(), memory, of, _layout(y, of[0] == 0))
    return out, *map(torch.from_numpy, sums)


def _numbers(table: Tensor | None) -> Any:
    if table is None:
        return None
    # A copy: memory that NumPy has seen cannot be resized any more, and sharded parameters are (FSDP).
    return table.detach().to(torch.float64, copy=True).numpy()


def _layout(x: Tensor, whole: bool) -> tuple[str, int, int, int, bool]:
    """Name the dtype and say how the memory lies; samples that lie together and share their tables are one."""
    samples, channels = x.shape[:2]
    positions = x.shape[2:].numel()
    last = positions == 1 or not x.is_contiguous()
    if last and whole:
        samples, positions = 1, samples * positions
    return _NAMES[x.dtype], samples, channels, positions, last


def _like(grad: Tensor, y: Tensor) -> Tensor:
    return grad if grad.stride() == y.stride() else torch.empty_like(y).copy_(grad)


def _memory(x: Tensor) -> Any:
    x = x.detach()
    if not x.is_contiguous():
        x = x.as_strided((x.numel(),), (1,))
    return (x.view(torch.int16) if x.element_size() == 2 else x).numpy()


def _tables(*tables: Tensor) -> Any:
    return np.stack(np.broadcast_arrays(*(table.detach().double().numpy() for table in tables)))


def _tensors(pair: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(pair[0]), torch.from_numpy(pair[1])
