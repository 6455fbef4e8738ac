"""Checks of modules and optimizers given by a user."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from leakyrelu._text import shown


def require_module(model: Any, remedy: str = "") -> None:
    """Raise a TypeError where `model` is not a module; `remedy` ends its message."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}: {shown(model)}{remedy}")


def trains(optimizer: torch.optim.Optimizer, model: nn.Module) -> bool:
    """Whether an optimizer holds a parameter of the model."""
    own = {id(parameter) for parameter in model.parameters()}
    return any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"])
