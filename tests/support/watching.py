"""What a test of the census compares: hooks of a model, and values held in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def held(x: torch.Tensor, axis: int) -> np.ndarray:
    """All values of each unit, (units, n), in float64."""
    array = x.detach().double().numpy()
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
