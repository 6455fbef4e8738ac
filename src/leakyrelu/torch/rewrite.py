"""Swap the activations of a model that exists already."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.slope import gain
from leakyrelu.torch.layers import LeakyReLU
from leakyrelu.torch.norm import NORMS
from leakyrelu.torch.saving import Calls
from leakyrelu.torch.tracing import HOOKS, trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import fx

_FUNCTIONS = (F.relu, F.relu_, torch.relu, torch.relu_)
_CLAMPS = ("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_")
_WEIGHTED = (
    *(nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_NORMALIZING = (*NORMS, nn.LayerNorm, nn.RMSNorm)


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
    rescaled
        (name, factor) for layers whose weight was multiplied; empty unless `correct_gain` was asked for.
    not_rescaled
        (name of the swapped module, reason) where no weight was found that could be.

    Examples
    --------
    >>> from torch import nn
    >>> from leakyrelu.torch import replace_relu
    >>> done = replace_relu(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), 0.1)
    >>> done.negative_slope, done.swapped
    (0.1, ('1',))
    """

    negative_slope: float
    swapped: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    hooks_lost: tuple[tuple[str, int], ...]
    rescaled: tuple[tuple[str, float], ...] = ()
    not_rescaled: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        count = len(self.swapped)
        lines = [f"nn.ReLU -> LeakyReLU(negative_slope={self.negative_slope}): {count} swapped"]
        lines += [f"  swapped    {name}" for name in self.swapped]
        lines += [f"  left       {name or '(model)'}: {reason}" for name, reason in self.left]
        lines += [f"  hooks lost {name}: {number}, register them on the new layer" for name, number in self.hooks_lost]
        lines += [f"  weight of  {name} multiplied by {factor:.6g}" for name, factor in self.rescaled]
        lines += [f"  gain of    {name} not corrected: {reason}" for name, reason in self.not_rescaled]
        lines.append("Only modules are swapped: a call such as torch.relu(x) inside a forward method stays a ReLU.")
        return "\n".join(lines)


def replace_relu(model: nn.Module, negative_slope: float = 0.01, *, correct_gain: bool = False) -> Replacement:
    """Swap every `nn.ReLU` of a model for `LeakyReLU(negative_slope)`, in the model itself.

    max(x, 0) becomes x if x > 0 else negative_slope * x. Nested modules are found at any depth. A module used under
    several names stays one shared module. The flag `inplace` and the training mode are kept. Parameters and the
    `state_dict` do not change: neither layer has any. It is another network afterwards; `restore`, which undoes
    `save_memory`, does not undo it.

    Left as they are, and named in the report: subclasses of `nn.ReLU`, which may do more; `nn.ReLU6`, which is bounded;
    recurrent layers built with `nonlinearity="relu"`; scripted modules; functions stored on a module, such as the
    activation of `nn.TransformerEncoderLayer`; and calls of `relu`, `relu_` and `clamp(min=0)` inside forward methods,
    as far as `torch.fx` can follow these: write `leakyrelu.torch.leaky_relu` there. What it cannot follow is not seen.

    Parameters
    ----------
    model
        Any module that contains others. It is changed.
    negative_slope
        Slope of the new layers: any number.
    correct_gain
        For networks that are not trained yet, and were initialized for ReLU: multiply the weight of each linear or
        convolution layer right before a swapped module by gain(a) / gain(0) = 1 / sqrt(1 + a^2), with gain(a) =
        sqrt(2 / (1 + a^2)), so that signals keep their size (He et al. 2015). Only layers whose output goes to swapped
        modules alone are touched. Where a normalization stands in front, it sets the size, and nothing is done. A
        trained network would be changed for the worse.

    Returns
    -------
    Replacement
        The names of what was swapped and left, and of modules whose hooks were lost; prints as a short report.

    Raises
    ------
    TypeError
        If `model` is not a module, or the slope is not a number.
    ValueError
        If `model` is itself an `nn.ReLU`: there is no parent to put the new layer into. If the gain is to be corrected
        for a slope that is not finite.

    Examples
    --------
    >>> from torch import nn
    >>> from leakyrelu.torch import replace_relu
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU6())
    >>> replace_relu(model, 0.1)
    nn.ReLU -> LeakyReLU(negative_slope=0.1): 1 swapped
      swapped    1
      left       3: ReLU6 is bounded, not nn.ReLU
    Only modules are swapped: a call such as torch.relu(x) inside a forward method stays a ReLU.
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

    if correct_gain and not math.isfinite(slope):
        raise ValueError(f"the gain can be corrected for a finite slope only, not {slope}; leave correct_gain out")

    modules = list(model.named_modules(remove_duplicate=False))
    found = [(name, module) for name, module in modules if type(module) is nn.ReLU]
    left = [(name, reason) for name, module in modules for reason in _reasons(module)]
    left += [entry for entry in dict.fromkeys(_calls(model, "")) if entry not in left]
    rescaled, not_rescaled = _correct_gain(model, dict(modules), slope) if correct_gain else ((), ())
    lost: dict[nn.ReLU, tuple[str, int]] = {}
    new: dict[nn.ReLU, LeakyReLU] = {}
    for name, old in found:
        if old not in new:
            new[old] = LeakyReLU(slope, old.inplace).train(old.training)
            if count := sum(len(getattr(old, hooks)) for hooks in HOOKS):
                lost[old] = (name, count)
        parent_name, _, child = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        setattr(parent, child, new[old])
        if isinstance(parent, nn.TransformerEncoderLayer):
            # The layer noted at construction that it has a ReLU, and would compute one in its fused evaluation.
            parent.activation_relu_or_gelu = 0
    return Replacement(
        slope, tuple(name for name, _ in found), tuple(left), tuple(lost.values()), rescaled, not_rescaled
    )


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


def _calls(module: nn.Module, name: str) -> Iterator[tuple[str, str]]:
    """Name the forward methods that call a ReLU as a function, where `torch.fx` can follow them."""
    try:
        graph = trace(module, _is_known)
    except Exception:  # whatever the forward method of a stranger raises when proxies run through it
        for child, each in module.named_children():
            if not _is_known(each):
                yield from _calls(each, f"{name}.{child}" if name else child)
        return
    if type(module).__module__.startswith("torch.nn.") and not isinstance(module, nn.Sequential):
        return  # what is inside PyTorch's own layers is theirs, and named where it can be changed
    for node in graph.nodes:
        if (called := _rectifier(node)) is not None:
            within = next(reversed(node.meta.get("nn_module_stack") or {"": None}))
            owner = ".".join(part for part in (name, within) if part)
            yield owner, f"its forward method calls {called}, which is no module; call leakyrelu.torch.leaky_relu there"


def _is_known(module: nn.Module) -> bool:
    """Whether a module is ours, or a ReLU of its own kind, which is swapped or named as a module."""
    return type(module).__module__.startswith("leakyrelu.") or isinstance(module, nn.ReLU | nn.ReLU6)


def _rectifier(node: fx.Node) -> str | None:
    if node.op not in ("call_function", "call_method"):
        return None
    name = str(getattr(node.target, "__name__", node.target))
    if name in ("relu", "relu_"):
        return name
    if name in _CLAMPS:
        low = node.args[1] if len(node.args) > 1 else node.kwargs.get("min")
        high = node.args[2] if len(node.args) > 2 else node.kwargs.get("max")
        if isinstance(low, int | float) and low == 0 and high is None:
            return f"{name}(min=0)"
    return None


def _correct_gain(
    model: nn.Module, names: dict[str, nn.Module], slope: float
) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, str], ...]]:
    """Multiply the weights that feed a ReLU; return the names of their layers, and why others could not be."""
    factor = float(gain(slope) / gain(0.0))
    called: dict[nn.Module, str] = {}
    for name, module in names.items():
        called.setdefault(module, name)
    owners: dict[int, int] = {}
    for module in called:
        for parameter in module._parameters.values():
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    calls = Calls()
    calls.follow(model)
    layers: dict[nn.Module, None] = {}
    reasons: list[tuple[str, str]] = []
    for relu in (module for module in called if type(module) is nn.ReLU):
        feeders = dict.fromkeys(calls.before.get(relu, ["no call of it was seen"]))
        for feeder in feeders:
            if isinstance(feeder, _NORMALIZING):
                continue
            reason = None
            if not isinstance(feeder, nn.Module):
                reason = feeder if feeder != "something else" else "what comes before it is no single layer"
            elif type(feeder) not in _WEIGHTED:
                reason = f"{type(feeder).__name__} comes before it, no linear or convolution layer"
            elif any(type(after) is not nn.ReLU for after in calls.after[feeder]):
                reason = f"the output of {called[feeder]} also goes elsewhere"
            elif owners[id(feeder.weight)] > 1:
                reason = f"the weight of {called[feeder]} is shared with another layer"
            if reason is None and isinstance(feeder, nn.Module):
                layers[feeder] = None
            elif reason is not None:
                reasons.append((called[relu], reason))
    with torch.no_grad():
        for layer in layers:
            weight: Any = layer.weight
            weight.mul_(factor)
    return tuple((called[layer], factor) for layer in layers), tuple(reasons)
