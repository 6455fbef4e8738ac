"""Replacement of the ReLUs of an existing model by Leaky ReLUs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from leakyrelu._checks import real_number
from leakyrelu._text import counted
from leakyrelu.slope import gain
from leakyrelu.torch._checks import require_module
from leakyrelu.torch._compat import count_hooks
from leakyrelu.torch.activations.layers import LeakyReLU
from leakyrelu.torch.graph.functions import RELUS, relu_call
from leakyrelu.torch.graph.neighbors import UNKNOWN, Neighbors
from leakyrelu.torch.normalization.kinds import NORMS
from leakyrelu.torch.rewrite.function_calls import Callers, LeakyFunction, exempt, redirect

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from torch import fx


__all__ = ["Replacement", "replace_relu"]


@dataclass(frozen=True)
class Replacement:
    """The result of `replace_relu`: what was changed and what was left. Its repr is a report.

    Attributes
    ----------
    negative_slope
        The slope of the new layers.
    swapped
        Names of the modules that are Leaky ReLU now. A module shared under several names is one layer, and has them all
        here.
    rewritten
        (name of the module, call, number) for calls of a function in the forward method of a module that compute Leaky
        ReLU now: what was called (``relu``, ``relu_``, ``clamp(min=0)``), and how often it was seen while the model ran
        once. A shared module has its first name here.
    stored
        Names of attributes that were a function, ``block.activation``, and are the Leaky ReLU function now.
    left
        (name, reason) for what looks like a ReLU and was left as it is.
    hooks_lost
        (name, number) for swapped modules that carried hooks; the new layers carry none.
    rescaled
        (name, factor) for layers whose weight was multiplied; empty unless `correct_gain` was asked for.
    not_rescaled
        (name of the swapped module, reason) where no weight was found that could be.
    layers
        `swapped`, with the names of each module together.

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
    rewritten: tuple[tuple[str, str, int], ...]
    stored: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    hooks_lost: tuple[tuple[str, int], ...]
    rescaled: tuple[tuple[str, float], ...] = ()
    not_rescaled: tuple[tuple[str, str], ...] = ()
    layers: tuple[tuple[str, ...], ...] = ()

    def __repr__(self) -> str:
        calls = sum(number for _, _, number in self.rewritten) + len(self.stored)
        lines = [
            f"nn.ReLU -> LeakyReLU(negative_slope={self.negative_slope}): "
            f"{len(self.layers)} swapped, {counted(calls, 'call')} rewritten"
        ]
        for name, *others in self.layers:
            aliases = f" (and {counted(len(others), 'other name')})" if others else ""
            lines.append(f"  swapped    {name}{aliases}")
        lines += [
            f"  rewritten  {name or '(model)'}: {call}{f', {number} times' if number > 1 else ''}"
            for name, call, number in self.rewritten
        ]
        lines += [f"  stored     {name}" for name in self.stored]
        lines += [f"  left       {name or '(model)'}: {reason}" for name, reason in self.left]
        lines += [f"  hooks lost {name}: {number}, register them on the new layer" for name, number in self.hooks_lost]
        lines += [f"  weight of  {name} multiplied by {factor:.6g}" for name, factor in self.rescaled]
        lines += [f"  gain of    {name} not corrected: {reason}" for name, reason in self.not_rescaled]
        lines.append("A call such as torch.relu(x) in a forward method that torch.fx cannot trace stays a ReLU.")
        return "\n".join(lines)


def replace_relu(model: nn.Module, negative_slope: float = 0.01, *, correct_gain: bool = False) -> Replacement:
    """Make every ReLU of a model `leaky_relu` of this slope, in the model itself: modules, and calls of functions.

    max(x, 0) becomes x if x > 0 else negative_slope * x. Parameters and the `state_dict` do not change. It is another
    network afterwards; `restore`, which undoes `save_memory`, does not undo it.

    Modules, `nn.ReLU`, are swapped for `LeakyReLU` at any depth. One used under several names stays one shared module.
    The flag `inplace` and the training mode are kept.

    Calls of ``relu``, ``relu_``, and of ``clamp``, ``clip`` and ``clamp_min`` from 0 without a maximum, as functions or
    methods, in place or not, are rewritten in every forward method in which `torch.fx` sees one, in training or in
    evaluation. The module's class becomes a subclass of the same name, whose forward method runs the original one and
    redirects these calls (`torch.overrides.TorchFunctionMode`), so that everything else goes on as it was written.
    `isinstance` holds, ``type(module) is Block`` no longer does. Copies and pickles work, and need `leakyrelu`
    installed; TorchScript cannot compile it (`torch.jit.trace` can). Every call of a function in there takes a few
    microseconds more, outside of `torch.compile`. Calls on integers stay. A clamp may guard something (a square root,
    the sides of a box) instead of activating: look at those that the report names.

    A function stored on a module, such as the activation of `nn.TransformerEncoderLayer`, is exchanged.

    Left as they are, and named in the report: forward methods that `torch.fx` cannot trace; calls inside
    `torch.utils.checkpoint` (a module given to it is fine) or `torch.autograd.Function`; subclasses of `nn.ReLU`, which
    may do more; `nn.ReLU6`, which is bounded; recurrent layers built with `nonlinearity="relu"`; scripted modules.

    Parameters
    ----------
    model
        Any module but an `nn.ReLU`. It is changed.
    negative_slope
        Slope of the new activations: any number.
    correct_gain
        For networks that are not trained yet, and were initialized for ReLU: multiply the weight of each linear or
        convolution layer right before a swapped module or rewritten call by gain(a) / gain(0) = 1 / sqrt(1 + a^2), with
        gain(a) = sqrt(2 / (1 + a^2)), so that signals keep their size (He et al. 2015). Only layers whose output goes
        to these alone are touched. Where a normalization stands in front, it sets the size, and nothing is done. A
        trained network would be changed for the worse.

    Returns
    -------
    Replacement
        The names of what was swapped, rewritten and left, and of modules whose hooks were lost; prints as a short
        report.

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
    nn.ReLU -> LeakyReLU(negative_slope=0.1): 1 swapped, 0 calls rewritten
      swapped    1
      left       3: ReLU6 is bounded, not nn.ReLU
    A call such as torch.relu(x) in a forward method that torch.fx cannot trace stays a ReLU.
    >>> model[1]
    LeakyReLU(negative_slope=0.1)
    """
    require_module(model)
    slope = real_number(negative_slope, "negative_slope")
    if type(model) is nn.ReLU:
        raise ValueError(
            "the model is itself an nn.ReLU, and replace_relu swaps modules inside a model; "
            f"use leakyrelu.torch.LeakyReLU({slope}) in its place"
        )

    if correct_gain and not math.isfinite(slope):
        raise ValueError(f"the gain can be corrected for a finite slope only, not {slope}; leave correct_gain out")

    callers = Callers(model)
    gains = _correct_gains(model, callers.calls, slope) if correct_gain else ((), ())
    stored = tuple(_exchange_functions(model, slope))
    if stored:
        callers = Callers(model)  # a call of what is stored is a Leaky ReLU by now
    for owner in callers.calls:
        redirect(owner, slope)
    inside = {module for owner in callers.calls for module in owner.modules()}
    for module in inside:
        if module in callers.opaque or (isinstance(module, nn.ReLU) and type(module) is not nn.ReLU):
            exempt(module)
    modules = list(model.named_modules(remove_duplicate=False))
    left = [(name, reason) for name, module in modules for reason in _reasons(module)]
    swapped, layers, lost = _swap(model, slope)
    rewritten = [
        (callers.names[owner], call, number) for owner, calls in callers.calls.items() for call, number in calls.items()
    ]
    return Replacement(slope, swapped, tuple(rewritten), stored, (*left, *callers.left), lost, *gains, layers)


def _swap(
    model: nn.Module, slope: float
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], tuple[tuple[str, int], ...]]:
    """Swap the modules; return all names, those of each module together, and how many hooks which of them carried."""
    modules = list(model.named_modules(remove_duplicate=False))
    found = [(name, module) for name, module in modules if type(module) is nn.ReLU]
    lost: dict[nn.ReLU, tuple[str, int]] = {}
    new: dict[nn.ReLU, LeakyReLU] = {}
    names: dict[nn.ReLU, list[str]] = {}
    for name, old in found:
        names.setdefault(old, []).append(name)
        if old not in new:
            new[old] = LeakyReLU(slope, old.inplace).train(old.training)
            if count := count_hooks(old):
                lost[old] = (name, count)
        parent_name, _, child = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        setattr(parent, child, new[old])
        _unfuse(model, parent)
    return tuple(name for name, _ in found), tuple(map(tuple, names.values())), tuple(lost.values())


def _exchange_functions(model: nn.Module, slope: float) -> Iterator[str]:
    """Exchange the functions that are stored as attributes of modules; return the names of these."""
    for name, module in model.named_modules():
        for attribute, value in list(vars(module).items()):
            if any(value is function for function in RELUS):
                in_place = getattr(value, "__name__", "").startswith("relu_")
                vars(module)[attribute] = LeakyFunction(slope, in_place)
                _unfuse(model, module)
                yield f"{name}.{attribute}" if name else attribute


def _unfuse(model: nn.Module, parent: nn.Module) -> None:
    """Keep a transformer layer from its fused evaluation, for which it noted at construction that it has a ReLU."""
    if isinstance(parent, nn.TransformerEncoderLayer):
        parent.activation_relu_or_gelu = 0
        for module in model.modules():
            if isinstance(module, nn.TransformerEncoder) and parent in module.layers:
                module.use_nested_tensor = False  # which only the fused evaluation takes


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


_WEIGHTED = (
    *(nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_NORMALIZING = (*NORMS, nn.LayerNorm, nn.RMSNorm)


class _Call(nn.ReLU):
    """A module as which the calls of a ReLU as a function in one forward method count."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def _correct_gains(
    model: nn.Module, owners: Collection[nn.Module], slope: float
) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, str], ...]]:
    """Multiply the weights of layers right before a ReLU; return the names of these layers, and reasons for the others.

    ReLUs are the modules `nn.ReLU`, and the functions that the forward methods of `owners` call.
    """
    factor = float(gain(slope) / gain(0.0))
    names = {module: name for name, module in model.named_modules()}
    holders = Counter(
        id(parameter)
        for module in names
        for _, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    )
    relus = {module: name for module, name in names.items() if type(module) is nn.ReLU}
    functions: dict[str, _Call] = {}

    def as_module(node: fx.Node, inside: dict[str, nn.Module]) -> nn.Module | None:
        function = relu_call(node)
        if function is None or (owner := inside[node.meta["caller"][0]]) not in owners:
            return None
        name = ".".join(filter(None, (names[owner], f"{function.partition('(')[0]}()")))
        return functions.setdefault(name, _Call(name))

    neighbors = Neighbors(as_module)
    neighbors.visit(model)
    relus |= {call: name for name, call in functions.items()}
    layers: dict[nn.Module, None] = {}
    reasons: list[tuple[str, str]] = []
    for relu, name in relus.items():
        for producer in dict.fromkeys(neighbors.before.get(relu, ["no call of it was seen"])):
            if isinstance(producer, _NORMALIZING):
                continue
            reason = None
            if not isinstance(producer, nn.Module):
                reason = producer if producer != UNKNOWN else "what comes before it is no single layer"
            elif isinstance(producer, _Call):
                reason = f"{producer.name} comes before it, no linear or convolution layer"
            elif type(producer) not in _WEIGHTED:
                reason = f"{type(producer).__name__} comes before it, no linear or convolution layer"
            elif any(after not in relus for after in neighbors.after[producer]):
                reason = f"the output of {names[producer]} also goes into another operation"
            elif holders[id(producer.weight)] > 1:
                reason = f"the weight of {names[producer]} is shared with another layer"
            if reason is None and isinstance(producer, nn.Module):
                layers[producer] = None
            elif reason is not None:
                reasons.append((name, reason))
    with torch.no_grad():
        for layer in layers:
            weight: Any = layer.weight
            weight.mul_(factor)
    return tuple((names[layer], factor) for layer in layers), tuple(reasons)
