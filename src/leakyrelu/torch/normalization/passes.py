"""The four passes over memory that a normalization followed by a Leaky ReLU is made of.

Everything else is arithmetic on tables: one number for each channel, of each sample or of the whole batch, as a tensor
of shape (1 or N, channels) that broadcasts over data of shape (N, channels, ...). With a table `b` of what was added,
and the inverse f^-1 of the Leaky ReLU (y where y > 0, y / slope elsewhere),

* `moments`: mean, and sum of the squared distances from it, of x;
* `activate`: y = f((x - mean) * scale + b);
* `sums`: of h = grad * f'(y), and of h * u, where u = f^-1(y) - b is the normalized input times its weight;
* `combine`: p * h + q * u + r.

`Plain` does it in PyTorch operations: any device, any layout, and differentiable, so that a backward pass built from it
can be differentiated again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


__all__ = ["Passes", "Plain", "compute_dtype", "over", "total"]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which such data are computed: float32 for the 16-bit types, else the type itself."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


class Passes(Protocol):
    """Moments and sums are taken for each sample, or, where `whole`, for the batch or any parts of equal size."""

    def moments(self, x: Tensor, whole: bool) -> tuple[Tensor, Tensor]: ...  # noqa: D102

    def activate(self, x: Tensor, mean: Tensor, scale: Tensor, b: Tensor) -> Tensor: ...  # noqa: D102

    def sums(self, grad: Tensor, y: Tensor, b: Tensor, whole: bool) -> tuple[Tensor, Tensor]: ...  # noqa: D102

    def combine(self, grad: Tensor, y: Tensor, b: Tensor, p: Tensor, q: Tensor, r: Tensor) -> Tensor: ...  # noqa: D102


class Plain:
    """The passes in PyTorch operations, for one positive slope."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def moments(self, x: Tensor, whole: bool) -> tuple[Tensor, Tensor]:
        """Return mean and sum of squared distances from it."""
        x = x.to(compute_dtype(x.dtype))
        var, mean = torch.var_mean(x, _summed(x, whole), correction=0)
        count = x.numel() // mean.numel()
        return _as_table(mean, whole), _as_table(var, whole) * count

    def activate(self, x: Tensor, mean: Tensor, scale: Tensor, b: Tensor) -> Tensor:
        """Return f((x - mean) * scale + b)."""
        normed = (x.to(compute_dtype(x.dtype)) - over(mean, x)) * over(scale, x) + over(b, x)
        return F.leaky_relu(normed, self.slope).to(x.dtype)

    def sums(self, grad: Tensor, y: Tensor, b: Tensor, whole: bool) -> tuple[Tensor, Tensor]:
        """Return the sums of h and of h * u."""
        h, u = self._parts(grad, y, b)
        return total(h, whole), total(h * u, whole)

    def combine(self, grad: Tensor, y: Tensor, b: Tensor, p: Tensor, q: Tensor, r: Tensor) -> Tensor:
        """Return p * h + q * u + r."""
        h, u = self._parts(grad, y, b)
        return (h * over(p, y) + u * over(q, y) + over(r, y)).to(y.dtype)

    def _parts(self, grad: Tensor, y: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        y = y.to(compute_dtype(y.dtype))
        positive = y > 0
        return self.scale(grad, positive), torch.where(positive, y, y / self.slope) - over(b, y)

    def scale(self, grad: Tensor, positive: Tensor) -> Tensor:
        """Return h = grad * f'(y), in the type it is computed in."""
        grad = grad.to(compute_dtype(grad.dtype))
        return torch.where(positive, grad, grad * self.slope)


def total(x: Tensor, whole: bool) -> Tensor:
    """Sum data of shape (N, channels, ...) into a table."""
    return _as_table(x.sum(_summed(x, whole)), whole)


def _as_table(sums: Tensor, whole: bool) -> Tensor:
    return sums.unsqueeze(0) if whole else sums


def _summed(x: Tensor, whole: bool) -> list[int]:
    return [axis for axis in range(x.ndim) if axis > 1 or (whole and axis == 0)]


def over(table: Tensor, x: Tensor) -> Tensor:
    """Give a table the shape in which it broadcasts over the data, and the type that these are computed in."""
    return table.to(compute_dtype(x.dtype)).reshape(table.shape + (1,) * (x.ndim - 2))
