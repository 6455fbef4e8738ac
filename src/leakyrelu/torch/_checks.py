"""Checks of modules given by a user."""

from __future__ import annotations

from typing import Any

from torch import nn

from leakyrelu._text import shown

__all__ = ["require_module"]


def require_module(model: Any, remedy: str = "") -> None:
    """Raise a TypeError where `model` is not a module; `remedy` ends its message."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}: {shown(model)}{remedy}")
