"""Checks of what `watch` is given, beside types and ranges of numbers: the model, and names of activations."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch

from leakyrelu.torch._compat import is_compiled

if TYPE_CHECKING:
    from torch import nn

    from leakyrelu.torch.diagnosis.observer import CallObserver


def checked_axes(unit_axis: Any, observer: CallObserver) -> dict[str, int]:
    """Return the axes that are given for names of activations, each of which has to be watched."""
    if unit_axis is None:
        return {}
    if not isinstance(unit_axis, Mapping):
        raise TypeError(
            f'unit_axis must be a mapping from names to axes, such as {{"body.relu": 2}}, '
            f"not {type(unit_axis).__name__}: {unit_axis!r}"
        )
    for name, axis in unit_axis.items():
        if not isinstance(name, str) or isinstance(axis, bool) or not isinstance(axis, Integral):
            raise TypeError(f'unit_axis maps names to integers, such as {{"body.relu": 2}}, not {name!r} to {axis!r}')
        base = name.partition(", call ")[0]
        caller, call = base.rpartition(".")[::2] if base.endswith("()") else (base, "")
        if base not in observer.rectifiers and not (call and caller in observer.modules):
            example = next((f"{module}.relu()" for module in observer.modules if module), "relu()")
            watched = ", ".join([*map(repr, observer.rectifiers), f"functions, as in {example!r}"])
            raise ValueError(f"unit_axis names {name!r}, which is not watched; watched are {watched}")
    return dict(unit_axis)


def refuse_compiled(model: nn.Module) -> None:
    """Refuse a model whose calls no hook sees."""
    for module in model.modules():
        if is_compiled(module):
            raise ValueError(
                f"the model is compiled by torch.compile ({type(module).__name__}), and compiled code passes hooks by: "
                "watch the model it was made from, uncompiled"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"the model is scripted ({type(module).__name__}), which hides what it calls: watch the one it was "
                "scripted from"
            )
