"""Mode under which every ReLU and Leaky ReLU of a model has one slope, and the refusal of what it cannot set."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from leakyrelu._text import with_article
from leakyrelu.torch._compat import is_compiled
from leakyrelu.torch.activations.layers import CenteredLeakyReLU
from leakyrelu.torch.diagnosis.rectifiers import FUNCTIONS
from leakyrelu.torch.graph.call_sites import source_line
from leakyrelu.torch.graph.functions import is_in_place
from leakyrelu.torch.normalization.fused import FusedNorm

if TYPE_CHECKING:
    from collections.abc import Callable


class SlopeMode(TorchFunctionMode):
    """Mode under which each ReLU and Leaky ReLU is a Leaky ReLU of one slope, wherever the model calls it.

    It sees calls of functions and methods, those that modules make included, also in forward methods that cannot be
    traced. A clamp from 0 without a maximum counts as a ReLU, as for `replace_relu`.

    Parameters
    ----------
    slope
        The slope.
    read
        Called as ``read(index, output)`` with the number of the call and its output, before anything overwrites it.

    Attributes
    ----------
    calls
        How often each function was called.
    """

    def __init__(self, slope: float, read: Callable[[int, Tensor], object]) -> None:
        super().__init__()
        self.slope = slope
        self.read = read
        self.calls: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        reader = FUNCTIONS.get(func)
        x = args[0] if args else kwargs.get("input", kwargs.get("self"))
        # A clamp of integers limits indices.
        if reader is None or not isinstance(x, Tensor) or not x.is_floating_point():
            return func(*args, **kwargs)
        rectifier = reader(args, kwargs)
        if rectifier is None:
            return func(*args, **kwargs)
        if not rectifier.is_leaky_relu or kwargs.get("out") is not None:
            place = source_line()
            raise ValueError(
                f"the model calls {rectifier.kind}{f' ({place})' if place else ''}, which has no single slope that "
                "could be set; measure a model with torch.nn.LeakyReLU in its place"
            )
        name = rectifier.kind if rectifier.kind != "clamp" else "clamp(min=0)"
        y = F.leaky_relu(x, self.slope, is_in_place(func, args, kwargs))
        self.read(self.calls.total(), y)
        self.calls[name] += 1
        return y


def refuse_hidden_rectifiers(model: nn.Module) -> None:
    """Raise a ValueError that names a module whose activation no mode for functions sees, or could set."""
    for name, module in model.named_modules():
        if (reason := _hidden(module)) is not None:
            raise ValueError(f"the slope of {name or 'the model'} cannot be set: {reason}")


def _hidden(module: nn.Module) -> str | None:
    kind = with_article(type(module).__name__)
    if is_compiled(module):
        return "it is compiled by torch.compile, and compiled code calls no function; measure the model uncompiled"
    if isinstance(module, torch.jit.ScriptModule):
        return "it is scripted, which hides what it calls; measure the model that it was scripted from"
    if isinstance(module, nn.RNN | nn.RNNCell) and module.nonlinearity == "relu":
        return f'{kind} computes its nonlinearity="relu" inside; write its steps as layers with torch.nn.ReLU'
    if isinstance(module, CenteredLeakyReLU):
        return f"{kind} shifts and scales by its own slope; leakyrelu.slope.centered chooses a slope for it"
    if isinstance(module, FusedNorm):
        return f"{kind} computes a normalization and an activation at once; measure the model before save_memory"
    return None
