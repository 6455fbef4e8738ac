"""The gain of untrained weights, corrected for the slope of what follows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from leakyrelu.slope import gain
from leakyrelu.torch.graph.neighbors import UNKNOWN, Neighbors
from leakyrelu.torch.graph.relu_functions import relu_call
from leakyrelu.torch.normalization.layer import NORMS

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import fx


__all__ = ["correct_gains"]


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


def correct_gains(
    model: nn.Module, owners: Collection[nn.Module], slope: float
) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, str], ...]]:
    """Multiply the weights of layers right before a ReLU; return the names of these layers, and reasons for the others.

    ReLUs are the modules `nn.ReLU`, and the functions that the forward methods of `owners` call.
    """
    factor = float(gain(slope) / gain(0.0))
    names: dict[nn.Module, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, name)
    holders: dict[int, int] = {}
    for module in names:
        for _, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            holders[id(parameter)] = holders.get(id(parameter), 0) + 1
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
