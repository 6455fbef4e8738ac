"""Swap the activations of a model that exists already."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.torch.layers import LeakyReLU

if TYPE_CHECKING:
    from collections.abc import Iterator

_FUNCTIONS = (F.relu, F.relu_, torch.relu, torch.relu_)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Replacement:
    """What `replace_relu` did. Its repr says it in words.

    Attributes
    ----------
    negative_slope
        The slope of the new layers.
    swapped
        Names of the modules that are Leaky ReLU now. A module shared under several names is one layer, and has them all
        here.
    left
        (name, reason) for what looks like a ReLU and was left as it is.
    hooks_lost
        (name, number) for swapped modules that carried hooks; the new layers carry none.
    """

    negative_slope: float
    swapped: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    hooks_lost: tuple[tuple[str, int], ...]

    def __repr__(self) -> str:
        count = len(self.swapped)
        lines = [f"nn.ReLU -> LeakyReLU(negative_slope={self.negative_slope}): {count} swapped"]
        lines += [f"  swapped    {name}" for name in self.swapped]
        lines += [f"  left       {name}: {reason}" for name, reason in self.left]
        lines += [f"  hooks lost {name}: {number}, register them on the new layer" for name, number in self.hooks_lost]
        lines.append("Only modules are seen: a call such as torch.relu(x) inside a forward method stays a ReLU.")
        return "\n".join(lines)


def replace_relu(model: nn.Module, negative_slope: float = 0.01) -> Replacement:
    """Swap every `nn.ReLU` of a model for `LeakyReLU(negative_slope)`, in the model itself.

    max(x, 0) becomes x if x > 0 else negative_slope * x. Nested modules are found at any depth. A module used under
    several names stays one shared module. The flag `inplace` and the training mode are kept. Parameters and the
    `state_dict` do not change: neither layer has any.

    Left as they are, and named in the report: subclasses of `nn.ReLU`, which may do more; `nn.ReLU6`, which is bounded;
    recurrent layers built with `nonlinearity="relu"`; scripted modules; functions stored on a module, such as the
    activation of `nn.TransformerEncoderLayer`. A call of `torch.relu` inside a forward method cannot be seen at all.

    Parameters
    ----------
    model
        Any module that contains others. It is changed.
    negative_slope
        Slope of the new layers: any number.

    Returns
    -------
    Replacement
        The names of what was swapped and left, and of modules whose hooks were lost; prints as a short report.

    Raises
    ------
    TypeError
        If `model` is not a module, or the slope is not a number.
    ValueError
        If `model` is itself an `nn.ReLU`: there is no parent to put the new layer into.

    Examples
    --------
    >>> from torch import nn
    >>> from leakyrelu.torch import replace_relu
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU6())
    >>> replace_relu(model, 0.1)
    nn.ReLU -> LeakyReLU(negative_slope=0.1): 1 swapped
      swapped    1
      left       3: ReLU6 is bounded, not nn.ReLU
    Only modules are seen: a call such as torch.relu(x) inside a forward method stays a ReLU.
    >>> model[1]
    LeakyReLU(negative_slope=0.1)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}: {model!r}")
    slope = _number(negative_slope)
    if type(model) is nn.ReLU:
        raise ValueError(
            "the model is itself an nn.ReLU, and replace_relu swaps modules inside a model; "
            f"use leakyrelu.torch.LeakyReLU({slope}) in its place"
        )

    modules = list(model.named_modules(remove_duplicate=False))
    found = [(name, module) for name, module in modules if type(module) is nn.ReLU]
    left = [(name, reason) for name, module in modules for reason in _reasons(module)]
    lost: dict[nn.ReLU, tuple[str, int]] = {}
    new: dict[nn.ReLU, LeakyReLU] = {}
    for name, old in found:
        if old not in new:
            new[old] = LeakyReLU(slope, old.inplace).train(old.training)
            if count := sum(len(getattr(old, hooks)) for hooks in _HOOKS):
                lost[old] = (name, count)
        parent_name, _, child = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        setattr(parent, child, new[old])
        if isinstance(parent, nn.TransformerEncoderLayer):
            # The layer noted at construction that it has a ReLU, and would compute one in its fused evaluation.
            parent.activation_relu_or_gelu = 0
    return Replacement(slope, tuple(name for name, _ in found), tuple(left), tuple(lost.values()))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"negative_slope must be a number, not {type(value).__name__}: {value!r}")
    return float(value)


def _reasons(module: nn.Module) -> Iterator[str]:
    kind: Any = type(module)
    if isinstance(module, nn.ReLU) and kind is not nn.ReLU:
        yield f"{kind.__name__} is a subclass of nn.ReLU and may do more"
    elif isinstance(module, nn.ReLU6):
        yield f"{kind.__name__} is bounded, not nn.ReLU"
    elif isinstance(module, nn.RNN | nn.RNNCell) and module.nonlinearity == "relu":
        yield f'{kind.__name__} computes its nonlinearity="relu" inside'
    elif isinstance(module, torch.jit.ScriptModule) and getattr(module, "original_name", None) == "ReLU":
        yield "it is scripted; swap before torch.jit.script"
    for attribute, value in vars(module).items():
        if any(value is function for function in _FUNCTIONS):
            yield f"its attribute {attribute!r} is a function, not a module"
