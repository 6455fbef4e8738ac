"""Places of a network where a normalization is followed by a Leaky ReLU and nothing else: which can be joined, and how.

Where every call of a normalization goes to one activation module that is called on nothing else, both are exchanged for
one layer. Where the activation is a function, or a module that is called in other places, too, the normalization alone
is exchanged for one that waits for what takes its output.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import nn

from leakyrelu._checks import is_number
from leakyrelu.torch.activations.layers import LeakyReLU
from leakyrelu.torch.graph.functions import name_of
from leakyrelu.torch.graph.neighbors import Neighbors, hooks_obstacle
from leakyrelu.torch.normalization.deferred import DeferredNorm
from leakyrelu.torch.normalization.kinds import NORMS, activation_inside, kind_of, obstacle_inside
from leakyrelu.torch.normalization.layer import NormLeakyReLU
from leakyrelu.torch.rewrite.module_exchange import Absorbed, exchange

if TYPE_CHECKING:
    from torch import fx

    from leakyrelu.torch.rewrite.module_exchange import Exchange

_OTHER = (nn.ReLU, nn.ReLU6, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU)
UNUSED = "no call of it was seen"


class LeakyCall(nn.LeakyReLU):
    """A call of Leaky ReLU as a function, as a neighbor of modules."""


class Places:
    """What follows each normalization of a model.

    Attributes
    ----------
    neighbors
        The neighbors of the modules, as far as they could be traced.
    inside
        Activations that run inside a normalization layer.
    left
        Normalizations that stay apart from what follows, with the reason.
    seen_behind
        Names of the activations that were observed on an example, by the normalization.
    """

    def __init__(self, model: nn.Module, names: dict[nn.Module, list[str]], has_example: bool) -> None:
        self.names = names
        self.has_example = has_example
        self.neighbors = Neighbors(
            _as_leaky_call,
            is_layer=lambda module: kind_of(module) is not None,
            activates=lambda module: activation_inside(module) is not None,
        )
        self.neighbors.visit(model)
        self.left: dict[nn.Module, str] = {}
        self.seen_behind: dict[nn.Module, str] = {}
        norms = [module for module in names if isinstance(module, NORMS) or kind_of(module) is not None]
        self.inside = {part for norm in norms if (part := activation_inside(norm)) is not None}
        self._with_activation = [norm for norm in norms if activation_inside(norm) is not None]
        self._plain = [norm for norm in norms if activation_inside(norm) is None]

    def steps(self) -> dict[nn.Module, list[Exchange]]:
        """Return what to exchange together, by the activation, or by the normalization where it is exchanged alone."""
        steps: dict[nn.Module, list[Exchange]] = {}
        for norm in self._with_activation:
            activation = activation_inside(norm)
            if self._keeps(norm, self._obstacle(norm) or not_invertible(activation) or hooks_obstacle(activation)):
                new = NormLeakyReLU(norm, float(activation.negative_slope))
                steps[norm] = [exchange(self.names[norm], norm, new)]
        joinable: dict[nn.Module, list[Any]] = {}
        for norm in self._plain:
            is_guessed = norm in self.neighbors.guessed
            following = [UNUSED] if is_guessed and self.has_example else self.neighbors.after.get(norm, [UNUSED])
            if self._keeps(norm, self._obstacle(norm) or _obstacle_behind(following)):
                joinable[norm] = following
                if is_guessed:  # where another function takes its output after all, it gets what it would have had
                    steps[norm] = [exchange(self.names[norm], norm, DeferredNorm(norm))]
        # An activation with another producer has to stay.
        exclusive = {
            norm: found[0]
            for norm, found in joinable.items()
            if norm not in steps and len(set(found)) == 1 and _is_module(found[0])
        }
        while unfit := [
            norm
            for norm, activation in exclusive.items()
            if any(exclusive.get(each) is not activation for each in self.neighbors.before.get(activation, []))  # type: ignore[arg-type]
        ]:
            for norm in unfit:
                del exclusive[norm]
        for norm in joinable:
            if norm not in exclusive:
                steps[norm] = [exchange(self.names[norm], norm, DeferredNorm(norm))]
                continue
            activation = exclusive[norm]
            step = steps.setdefault(activation, [exchange(self.names[activation], activation, Absorbed(activation))])
            step.append(exchange(self.names[norm], norm, NormLeakyReLU(norm, float(activation.negative_slope))))
        return steps

    def is_behind(self, activation: nn.Module, steps: dict[nn.Module, list[Exchange]]) -> bool:
        """Whether an activation comes behind normalizations that wait for it, and behind nothing else."""
        before = self.neighbors.before.get(activation, [])
        return bool(before) and all(each in steps and isinstance(steps[each][0].new, DeferredNorm) for each in before)

    def behind(self, norm: nn.Module) -> str:
        """Name what a normalization is joined with."""
        if norm in self.seen_behind:
            return self.seen_behind[norm]
        activation = activation_inside(norm)
        following = self.neighbors.after.get(norm, ["leaky_relu()"])[0] if activation is None else activation
        if isinstance(following, LeakyCall) or following not in self.names:
            return "leaky_relu()"
        return self.names[following][0]

    def unproven(self) -> list[nn.Module]:
        """Return the normalizations of which too little is known without running them."""
        return [norm for norm in self._plain if norm in self.left and self._obstacle(norm) is None]

    def _obstacle(self, norm: nn.Module) -> str | None:
        if kind_of(norm) is None:
            return f"{type(norm).__name__} is a subclass of {type(norm).__mro__[1].__name__} and may do more"
        if (by := self.neighbors.overwritten.get(norm)) is not None:
            return f"{by} changes the output of its activation in place, which the backward pass would need"
        return obstacle_inside(norm) or hooks_obstacle(norm)

    def _keeps(self, norm: nn.Module, reason: str | None) -> bool:
        if reason is not None:
            self.left[norm] = reason
        return reason is None


def not_invertible(activation: Any) -> str | None:
    """Return why a layer after a normalization is no Leaky ReLU that can be inverted, or None."""
    kind = type(activation)
    if kind in (nn.LeakyReLU, LeakyReLU, LeakyCall):
        slope = activation.negative_slope
        if not (is_number(slope) and slope > 0 and math.isfinite(slope)):
            return f"the slope of its activation is {slope}, which is not positive and finite: there is no inverse"
        return hooks_obstacle(activation)
    if isinstance(activation, nn.LeakyReLU):
        return f"its activation is a {kind.__name__}, a subclass of nn.LeakyReLU, and may do more"
    if isinstance(activation, _OTHER):
        return f"{kind.__name__} comes after it, which is no Leaky ReLU of fixed positive slope and has no such inverse"
    return f"{kind.__name__} comes after it, not a Leaky ReLU"


def _obstacle_behind(following: list[Any]) -> str | None:
    for each in following:
        reason = each if isinstance(each, str) else not_invertible(each)
        if reason is not None:
            return reason
    return None


def _is_module(activation: Any) -> bool:
    return isinstance(activation, nn.Module) and not isinstance(activation, LeakyCall)


def _as_leaky_call(node: fx.Node, inside: dict[str, nn.Module]) -> nn.Module | None:
    """Return a call of Leaky ReLU as a function, with a slope that is a number, as a module."""
    if node.op != "call_function" or name_of(node.target) not in ("leaky_relu", "leaky_relu_"):
        return None
    slope: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("negative_slope", 0.01)
    if not is_number(slope):
        return None
    call: nn.Module = node.meta.setdefault("leaky_call", LeakyCall(float(slope)))  # one for each node
    return call
