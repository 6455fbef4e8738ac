"""Revival of silent units without a change of what the network computes: fresh weights in, zero weights out.

After Sokar, Agarwal, Castro and Evci, "The Dormant Neuron Phenomenon in Deep Reinforcement Learning" (ICML 2023, ReDo).
The producers and consumers of a unit come from the calls that were recorded; units without them are left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from leakyrelu._text import counted
from leakyrelu.diagnosis.report import Report
from leakyrelu.torch._checks import require_module, trains
from leakyrelu.torch.normalization.layer import NormLeakyReLU
from leakyrelu.torch.revival.normalized_weights import carriers, columns_of
from leakyrelu.torch.revival.operations import NotRevivableError
from leakyrelu.torch.revival.reinitialize import carry_out, reset_state
from leakyrelu.torch.revival.traced import traced_program
from leakyrelu.torch.revival.unit_graph import UnitGraph
from leakyrelu.torch.revival.unit_plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from leakyrelu.diagnosis.layer import Layer

__all__ = ["Revival", "revive"]


@dataclass(frozen=True)
class Revival:
    """Result of `revive`; its repr is a short report.

    Attributes
    ----------
    revived
        Indices of the revived units, by the layer's name in the report.
    left
        (layer, indices, reason) for silent units that were left as they are.
    optimizer
        What was reset in the optimizer's state, in words.
    flipped
        Those of the revived units whose sign was changed, as they had a slope: they are always on on these data.

    Examples
    --------
    >>> from leakyrelu.torch import Revival
    >>> Revival({"1": (0, 1, 2)}, (("4", (7,), "they are the network's output"),), ())
    3 units revived, 1 left
      revived  1: 3 units
      left  4: 1 unit, they are the network's output
    """

    revived: Mapping[str, tuple[int, ...]]
    left: tuple[tuple[str, tuple[int, ...], str], ...]
    optimizer: tuple[str, ...]
    flipped: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """Number of revived units, of all layers together."""
        return sum(len(units) for units in self.revived.values())

    def __repr__(self) -> str:
        left = sum(len(units) for _, units, _ in self.left)
        lines = [f"{counted(self.units, 'unit')} revived, {left} left"]
        for name, units in self.revived.items():
            flipped = len(self.flipped.get(name, ()))
            note = f", the sign of {flipped} changed, which are always on now" if flipped else ""
            lines.append(f"  revived  {name}: {counted(len(units), 'unit')}{note}")
        lines += [f"  left  {name}: {counted(len(units), 'unit')}, {reason}" for name, units, reason in self.left]
        lines += [f"  {line}" for line in self.optimizer]
        return "\n".join(lines)


def revive(
    model: nn.Module,
    report: Report,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    initializer: Callable[[nn.Module], object] | None = None,
    fold_mean: bool = False,
) -> Revival:
    """Revive the silent units of a report: fresh weights in, zero weights out, the optimizer state of both reset.

    A silent ReLU unit gives out 0 on all data seen, so its outgoing weights may become 0 without any change; behind
    these zeros its incoming weights may be anything. The network computes what it computed, on the data of the report
    and in evaluation mode, and the unit learns again: first its outgoing weights, then the others. A unit of slope
    alpha gives out ``alpha * x`` instead: the sign of its weights is changed and the next weights are multiplied by
    -alpha, which leaves the outputs as they are; it is always on then, with a derivative of 1 (`Revival.flipped`).

    Of each unit are reset: the rows of weight and bias of the layer that makes it (drawn as ``reset_parameters`` of
    that layer draws them, with the sign for which the means of the report make them positive; as an `initializer` draws
    them otherwise); mean, variance, weight and bias of a normalization of each unit alone between the two; the
    columns of the layers that take it. A normalization that takes units together in front, or whose input others take
    too, is set alone: its weight and bias. A batch or instance norm behind takes the place of the columns: its weight
    becomes 0. The calls in between are those that were recorded while the report was made; a report that was read from
    a file has none, and the model is traced by `torch.fx` with the shapes of the report. Units in front of a sum are
    drawn again in one branch of it, and sums whose units are silent are followed. In front of weights that are
    standardized by row, with a gain, one unit stays silent for the others. Left, with the reason: units that a sum
    behind joins with a branch that fires, that are the network's output, or that a normalization or pooling takes
    together behind the activation; layers used in several places or tied, and other weights that are computed.

    Parameters
    ----------
    model
        The model that `report` is of. It is changed.
    report
        What `leakyrelu.torch.diagnose` or `watch` gave. Layers are found by their names there.
    optimizer
        The one that trains the model. Its state is reset at the entries that changed: momentum, first and second
        moments and the like, every tensor of the parameter's shape, become 0. The step count is one number a parameter
        and stays, so Adam's correction of its bias is over: its first update of such an entry is
        (1 - beta1) / sqrt(1 - beta2) = 3.2 learning rates instead of one.
    initializer
        Draws fresh parameters of a module given to it (a copy of the layer), in place of its ``reset_parameters``.
    fold_mean
        Draw units of a slope again too, in place of a change of sign: what they gave out on average is added to the
        next bias, and what they deviated from it is lost, which is a change of the size of their `output_std`. Not
        through a pooling with windows or in front of a convolution that pads, where a mean is not one number.

    Raises
    ------
    TypeError
        `model` is not a module, `report` no report, or `optimizer` no optimizer.
    ValueError
        The optimizer holds no parameter of the model.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import diagnose, revive
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = nn.init.constant_(model[0].bias[:3], -100.0)
    >>> x = torch.randn(200, 4)
    >>> before = model(x)
    >>> done = revive(model, diagnose(model, x))
    >>> done
    3 units revived, 0 left
      revived  1: 3 units
    >>> done.revived, done.units
    ({'1': (0, 1, 2)}, 3)
    >>> torch.allclose(model(x), before), diagnose(model, x).silent
    (True, 0)
    """
    require_module(model)
    if not isinstance(report, Report):
        raise TypeError(f"report must be what diagnose or watch returned, a Report, not {type(report).__name__}")
    if optimizer is not None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
        if not trains(optimizer, model):
            raise ValueError("the optimizer holds no parameter of this model: give the one that trains it")
    silent = [(layer, tuple(layer.silent_units.tolist())) for layer in report.layers if len(layer.silent_units)]
    if not silent:
        return Revival({}, (), ())
    try:
        graph = _graph(model, report)
    except NotRevivableError as reason:
        return Revival({}, tuple((layer.name, units, str(reason)) for layer, units in silent), ())
    with torch.device("cpu"):  # labels are made there, whatever device is the default
        plans, left = _planned(graph, silent, fold_mean)
        carrying = columns_of(plans)
        if blocked := carriers(plans):  # no unit is planned that was not, so that these stay silent
            rest = {
                name: tuple(each for each in units if each not in blocked.get(name, ()))
                for name, units in _units(plans).items()
            }
            plans, more = _planned(
                graph, [(layer, rest[layer.name]) for layer, _ in silent if layer.name in rest], fold_mean
            )
            left += [*more, *((name, tuple(sorted(units)), _CARRIES) for name, units in blocked.items())]
    with torch.no_grad():
        changed = carry_out(plans, initializer, carrying)
    words = reset_state(optimizer, changed) if optimizer is not None else ()
    return Revival(_units(plans), tuple(left), tuple(words), _units(plan for plan in plans if plan.flips))


_CARRIES = (
    "the next weights are standardized, so that no column of them becomes 0 unless another holds what it held of the "
    "mean: this unit stays silent for that"
)


def _planned(
    graph: UnitGraph, silent: Iterable[tuple[Layer, tuple[int, ...]]], fold_mean: bool
) -> tuple[list[Plan], list[tuple[str, tuple[int, ...], str]]]:
    plans: list[Plan] = []
    left: list[tuple[str, tuple[int, ...], str]] = []
    for layer, units in silent:
        for plan in graph.plans(layer, units, fold_mean):
            if isinstance(plan, Plan):
                plans.append(plan)
            else:
                left.append((layer.name, *plan))
    return plans, left


def _units(plans: Iterable[Plan]) -> dict[str, tuple[int, ...]]:
    units: dict[str, tuple[int, ...]] = {}
    for plan in plans:
        units[plan.name] = tuple(sorted((*units.get(plan.name, ()), *plan.units)))
    return units


def _graph(model: nn.Module, report: Report) -> UnitGraph:
    if any(isinstance(module, NormLeakyReLU) for module in model.modules()):
        raise NotRevivableError(
            "the model holds layers that save_memory joined: take them apart with restore(model), diagnose it again, "
            "and call save_memory afterwards"
        )
    return UnitGraph(model, report.program or traced_program(model, report.layers), report.layers)
