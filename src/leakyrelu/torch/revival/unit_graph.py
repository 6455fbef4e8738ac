"""Producers and consumers of the units of an activation, and what reviving them does to each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from leakyrelu.diagnosis.layout import unit_axes
from leakyrelu.torch.graph.calls import Call, Value
from leakyrelu.torch.revival.call_graph import CallGraph
from leakyrelu.torch.revival.layers import NORMS, Layer
from leakyrelu.torch.revival.means import Means
from leakyrelu.torch.revival.operations import OTHER, CarrierNeededError, Marks, NotRevivableError, along, described
from leakyrelu.torch.revival.reinitialize import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import nn

    from leakyrelu.diagnosis import layer as diagnosis
    from leakyrelu.torch.graph.recording import Program
    from leakyrelu.torch.revival.operations import Way

    Labels = Mapping[Call, Tensor]  # where the units lie in what a call is made of, or in its result


class UnitGraph(CallGraph):
    """The calls of a model, with the producers and consumers of its units."""

    def __init__(self, model: nn.Module, program: Program, rows: Iterable[diagnosis.Layer]) -> None:
        super().__init__(model, program)
        self.means = Means(self.layers, {call: row for row in rows for call in self.rows.get(row.name, ())})

    def plans(self, row: diagnosis.Layer, units: tuple[int, ...], fold_mean: bool) -> Iterable[Plan | tuple[Any, str]]:
        """Plan how to revive units: those with a slope, and those without; a plan of them, or they and a reason."""
        slopes = torch.as_tensor(row.negative_slope, dtype=torch.float64).expand(row.units)
        for sloped in (False, True):
            some = tuple(unit for unit in units if bool(slopes[unit] != 0) is sloped)
            if not some:
                continue
            try:
                yield self._plan(row, some, slopes, fold_mean)
            except NotRevivableError as reason:
                if isinstance(reason, CarrierNeededError) and not fold_mean:
                    yield from self._carried(row, some, slopes, reason)
                else:
                    yield some, str(reason)

    def _carried(
        self, row: diagnosis.Layer, units: tuple[int, ...], slopes: Tensor, reason: NotRevivableError
    ) -> Iterator[Plan | tuple[tuple[int, ...], str]]:
        """Let one of the units go on giving out the constant that all of them give out, and revive the others."""
        if len(units) == 1:
            yield units, str(reason)
            return
        try:
            yield self._plan(row, units[1:], slopes, False, carrier=units[0])
        except NotRevivableError as error:
            yield units, str(error)
        else:
            yield units[:1], f"{reason}; this unit goes on to do it for the others"

    def _plan(
        self,
        row: diagnosis.Layer,
        units: tuple[int, ...],
        slopes: Tensor,
        fold_mean: bool,
        carrier: int | None = None,
    ) -> Plan:
        calls = self.rows.get(row.name)
        if row.name in self.unrecorded:
            raise NotRevivableError(
                "the model took another path there with some of the batches, which was not recorded whole: diagnose it "
                "on batches of one path, and add up the reports"
            )
        if not calls:
            name = row.name.partition(", call ")[0]
            raise NotRevivableError(
                "no call of the activation was recorded: diagnose the model again"
                if self.recorded
                else f"torch.fx sees other calls of {name} than the report"
            )
        constants = torch.zeros(row.units, dtype=torch.float64)
        means = torch.from_numpy(row.output_mean.copy())
        slope = slopes[units[0]]
        shifted = "Centered" in row.kind
        flips = bool(slope != 0) and not shifted and not fold_mean
        if not flips and (bool(slope != 0) or shifted or bool((means[list(units)] != 0).any())):
            if not fold_mean:
                what = "slope * x" if bool(slope != 0) or shifted else "a constant"
                raise NotRevivableError(
                    f"they still give out {what}, so cutting them off would change the network: train on, "
                    "or call revive with fold_mean=True"
                )
            constants[list(units)] = means[list(units)]
        labels = {call: _labels(call, row, units) for call in calls}
        plan = Plan(row.name, units, flips, carrier)
        self._make(labels, frozenset(units), plan, flips)
        if carrier is not None:
            labels = {call: _labels(call, row, (carrier, *units)) for call in calls}
        self._take({call: Marks(each, constants) for call, each in labels.items()}, slopes, plan)
        return plan

    # Producers

    def _make(self, targets: Labels, units: frozenset[int], plan: Plan, flips: bool) -> None:
        """Plan what happens to the layers that make the units which these calls are called on."""
        missing = units
        reason: NotRevivableError | None = None
        keys, between = self._feeding(targets)
        for key in keys:
            group = self.groups[key]
            layer = self.layers[group[0]]
            try:
                self._check(layer, group)
                channels, covered = self._channels(group, targets, missing, "linear" if flips else "own", between)
                if covered:
                    if layer.kind in NORMS:
                        self._make_norm(layer, group, channels, covered, plan, flips)
                    elif flips:
                        plan.scale_rows(layer, channels)
                    else:
                        plan.renew(layer, channels, self.means.taken(group[0]))
                    missing -= covered
            except NotRevivableError as error:
                reason = reason or error
        if missing:
            raise reason or NotRevivableError(f"they come out of {self._origin(targets)}, not out of a layer")

    def _make_norm(
        self, layer: Layer, group: Sequence[Call], channels: Tensor, units: frozenset[int], plan: Plan, flips: bool
    ) -> None:
        weight = layer.tensors.get("weight")
        if flips and weight is not None:
            plan.scale_rows(layer, channels)
            return
        reason = NotRevivableError(
            f"between them and their weights stands {layer.name}, whose statistics are of several units together"
        )
        if not layer.is_mixing:
            targets = {call: _spread_over(channels, layer, self.layers[call].data.shape) for call in group}
            deeper = Plan(plan.name, plan.units, flips)
            try:
                self._make(targets, units, deeper, flips)
                plan.extend(deeper)
            except NotRevivableError as error:
                reason = error
            else:
                plan.scale_rows(layer, channels) if flips else plan.reset(layer, channels)
                return
        variance = layer.tensors.get("running_var")
        if weight is None or (variance is not None and bool((variance[channels > 0] == 0).any())):
            raise reason
        plan.reset_affine(layer, channels, self.means.taken(group[0]))

    def _feeding(self, targets: Labels) -> tuple[Iterable[int], set[Call | Value]]:
        """Return the layers whose output reaches these calls, the nearest first, and all that lies between."""
        pending = [self._data(call) for call in targets]
        seen = set(pending)
        keys: dict[int, None] = {}
        while pending:
            value = pending.pop(0)
            if not isinstance(value, Call) or value.is_weight:
                continue
            if value in self.layers:
                keys[self.layers[value].key] = None
                continue
            new = [each for each in dict.fromkeys(value.inputs) if each not in seen]
            seen.update(new)
            pending += new
        return keys, seen | set(targets)

    def _data(self, call: Call) -> Call | Value:
        return self.layers[call].data if call in self.layers else call.inputs[0]

    def _origin(self, targets: Labels) -> str:
        return described(self._data(next(iter(targets))))

    def _channels(
        self,
        group: Sequence[Call],
        targets: Labels,
        units: frozenset[int],
        way: Way,
        between: set[Call | Value],
    ) -> tuple[Tensor, frozenset[int]]:
        """Label the channels of a layer with the units that they are, and say which units these are."""
        name = self.layers[group[0]].name
        count = 0
        starts = {}
        for call in group:
            numbers = self.layers[call].channels(call.shape)
            count = numbers.shape[self.layers[call].axis(len(call.shape))]
            starts[call] = Marks(numbers, torch.zeros(1, dtype=torch.float64))
        others = (
            f"{name} is used in several places"
            if len(group) > 1
            else f"their producer, {name}, has other consumers too"
        )
        ends = self.follow(starts, way, between, others)
        if any(call not in targets for call in ends):
            raise NotRevivableError(others)
        if len(ends) < len(targets):
            raise NotRevivableError(f"{name} feeds the activation in one call of {len(targets)}")
        found: set[tuple[int, int]] = set()
        for call, marks in ends.items():
            found |= _pairs(marks.labels, targets[call])
        of_unit, of_channel = Counter(unit for _, unit in found), Counter(channel for channel, _ in found)
        channels = torch.zeros(count)
        covered = set()
        for channel, unit in found:
            if unit - 1 in units and channel > 0:
                if of_unit[unit] > 1 or of_channel[channel] > 1:
                    raise NotRevivableError(f"they are not the units of {name}, which come apart or together behind it")
                channels[channel - 1] = unit
                covered.add(unit - 1)
        return channels, frozenset(covered)

    def _check(self, layer: Layer, group: Sequence[Call]) -> None:
        """Raise for a layer whose weights cannot be set for these calls alone."""
        if layer.computed:
            raise NotRevivableError(f"the weights of {layer.name} are {layer.computed}")
        if layer.kind == "layer_norm" and any(each.ndim > 1 for each in layer.tensors.values()):
            raise NotRevivableError(f"{layer.name} has a weight for each position")
        for name in ("weight", "bias"):
            tensor = layer.tensors.get(name)
            if tensor is None:
                continue
            if id(tensor) in self.tied:
                raise NotRevivableError(f"the weights of {layer.name} are tied to those of another layer")
            if not self.using[id(tensor)] <= set(group):
                raise NotRevivableError(f"{layer.name} is used in several places")

    # Consumers

    def _take(self, starts: Mapping[Call, Marks], slopes: Tensor, plan: Plan) -> None:
        """Plan what happens to the layers that take the units."""
        ends = self.follow(starts, "linear" if plan.flips else "zero")
        if not ends:
            raise NotRevivableError("nothing takes their output")
        for key in dict.fromkeys(self.layers[call].key for call in ends):
            group = self.groups[key]
            layer = self.layers[group[0]]
            if any(call not in ends for call in group):
                raise NotRevivableError(f"{layer.name} is used in several places")
            if layer.kind in NORMS and layer.is_mixing:
                raise NotRevivableError(
                    f"their output goes into {layer.name}, whose statistics are of several units together"
                )
            self._check(layer, group)
            vectors, constants = [], [ends[call].constants for call in group]
            for call in group:
                labels = ends[call].labels
                vectors.append(along(labels, self.layers[call].axis(labels.ndim), layer.name))
            if any(not torch.equal(each, vectors[0]) for each in vectors) or any(
                not torch.equal(each, constants[0]) for each in constants
            ):
                raise NotRevivableError(f"{layer.name} is used in several places")
            padded = layer.padded or any(bool((ends[call].labels == 0).any()) for call in group)
            units = vectors[0].clamp(min=0)
            if layer.kind in NORMS:
                if padded:
                    raise NotRevivableError(f"their output is padded in front of {layer.name}")
                plan.take_by_norm(layer, units, constants[0], slopes)
            else:
                plan.take(layer, units, constants[0], slopes, padded)


def _labels(call: Call, row: diagnosis.Layer, units: Sequence[int]) -> Tensor:
    """Label the output of an activation: 1 + its number for each of these units, `OTHER` for the rest."""
    labels = torch.full((row.units,), OTHER)
    labels[list(units)] = torch.tensor(units) + 1.0
    shape = call.shape
    layout = call.inputs[0].layout or call.layout
    split, axes = unit_axes(layout) if layout is not None else ((), ())
    if row.axis is not None and len(row.axis.axes) == 1 and len(row.axis.shape) == len(shape):
        (axis,) = row.axis.axes
        if axis < len(shape) and shape[axis] == row.units:
            split, axes = shape, row.axis.axes
    sizes = [split[axis] for axis in axes]
    if not axes or torch.Size(sizes).numel() != row.units:
        raise NotRevivableError("where they lie in the input of the activation is not recorded")
    if list(axes) != sorted(axes):
        raise NotRevivableError("they lie on several axes of the input of the activation")
    return (
        labels.reshape([split[axis] if axis in axes else 1 for axis in range(len(split))]).expand(split).reshape(shape)
    )


def _spread_over(channels: Tensor, layer: Layer, shape: tuple[int, ...]) -> Tensor:
    """Label a tensor whose channels are labeled in a vector; the channels of no unit are `OTHER`."""
    axis = layer.axis(len(shape))
    labels = torch.where(channels > 0, channels, OTHER)
    return labels.reshape([-1 if place == axis else 1 for place in range(len(shape))]).expand(shape)


def _pairs(channels: Tensor, units: Tensor) -> set[tuple[int, int]]:
    """Return which labels of two tensors stand in the same place."""
    channels = channels.expand(units.shape)
    for axis in range(units.ndim):
        if channels.stride(axis) == units.stride(axis) == 0 and units.shape[axis]:
            channels, units = channels.narrow(axis, 0, 1), units.narrow(axis, 0, 1)
    codes = (channels.long() << 32) + (units.long() + 1)
    return {(int(code) >> 32, (int(code) & 0xFFFFFFFF) - 1) for code in set(codes.flatten().tolist())}
