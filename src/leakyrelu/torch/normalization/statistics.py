"""Data types of a normalization: its settings, the running statistics of a layer, and the inputs that it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which such data are computed: float32 for the 16-bit types, else the type itself."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


class Normalization(NamedTuple):
    """The settings of a normalization followed by a Leaky ReLU: which elements share a mean and a variance, and more.

    `batch`: those of a channel, over all samples; `instance`: those of a channel of one sample; `group`: those of a
    group of channels of one sample, of which there are `groups`. With `estimate`, mean and variance are those of the
    input; otherwise the running ones. With `process_group`, they are those of the batches of several processes.
    """

    shared: Literal["batch", "instance", "group"]
    eps: float
    slope: float
    estimate: bool
    groups: int = 1
    process_group: Any = None

    def total(self, table: Tensor) -> Tensor:
        """Sum over what shares a statistic; the result broadcasts against the table."""
        if self.shared == "batch":
            return table.sum(0, keepdim=True)
        if self.shared == "instance":
            return table
        grouped = table.reshape(table.shape[0], self.groups, -1)
        return grouped.sum(2, keepdim=True).expand_as(grouped).reshape(table.shape)

    def count(self, shape: torch.Size) -> int:
        """Return how many elements of such data share a statistic."""
        size = shape[2:].numel()
        return size * {"batch": shape[0], "instance": 1, "group": shape[1] // self.groups}[self.shared]


class Running(NamedTuple):
    """The running statistics of a layer, and the weight with which a batch enters them (None: it does not)."""

    mean: Tensor
    var: Tensor
    factor: float | None = None

    def update(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move towards the statistics of a batch, the variance as an unbiased one."""
        if self.factor is None:
            return
        for kept, new in ((self.mean, mean), (self.var, var * (count / (count - 1)))):
            new = new[0] if len(new) == 1 else new.mean(0)
            # Not lerp_, in which an infinity becomes NaN.
            kept.copy_(torch.add(kept.to(new.dtype) * (1 - self.factor), new, alpha=self.factor))


class Kept(NamedTuple):
    """The channels that cannot be recovered from the output, by their indices, and their normalized input."""

    channels: Tensor
    xhat: Tensor
