"""Producers and consumers of the units of an activation, and what reviving them does to each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from leakyrelu.torch.graph.calls import Call, Value
from leakyrelu.torch.revival.call_graph import CallGraph, pairs, unit_labels
from leakyrelu.torch.revival.layers import NORMS, Layer
from leakyrelu.torch.revival.means import Means
from leakyrelu.torch.revival.normalized_weights import is_normalized
from leakyrelu.torch.revival.operations import (
    OTHER,
    ApartError,
    CarrierNeededError,
    Marks,
    NotRevivableError,
    along,
    described,
)
from leakyrelu.torch.revival.producers import Producer, lowest
from leakyrelu.torch.revival.unit_plan import Plan

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
        super().__init__(model, program, rows)
        self.means = Means(self.layers, self.counted)
        self._normalized: dict[int, bool] = {}

    def plans(self, row: diagnosis.Layer, units: tuple[int, ...], fold_mean: bool) -> Iterable[Plan | tuple[Any, str]]:
        """Plan how to revive units: those with a slope, and those without; a plan of them, or they and a reason."""
        slopes = torch.as_tensor(row.negative_slope, dtype=torch.float64).expand(row.units)
        for sloped in (False, True):
            pending = [tuple(unit for unit in units if bool(slopes[unit] != 0) is sloped)]
            while pending:
                some = pending.pop()
                if not some:
                    continue
                try:
                    yield self._plan(row, some, slopes, fold_mean)
                except NotRevivableError as reason:
                    if isinstance(reason, CarrierNeededError) and not fold_mean:
                        yield from self._carried(row, some, slopes, reason)
                        continue
                    told = tuple(unit for unit in some if unit in reason.units) or some
                    pending.append(tuple(unit for unit in some if unit not in told))
                    if isinstance(reason, ApartError) and told != some:
                        pending.append(told)
                    else:
                        yield told, str(reason)

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
        labels = {call: unit_labels(call, row, units) for call in calls}
        taken = {call: unit_labels(call, row, (carrier, *units)) for call in calls} if carrier is not None else labels
        starts = {call: Marks(each, constants) for call, each in taken.items()}
        self._take(starts, slopes, Plan(row.name, units, flips, carrier))  # what takes them is the better reason
        plan = Plan(row.name, units, flips, carrier)
        beside = self._make(labels, frozenset(units), plan, flips)
        zero = torch.zeros_like(constants)
        self._take({**{call: Marks(each, zero, chained=True) for call, each in beside.items()}, **starts}, slopes, plan)
        return plan

    # Producers

    def _make(
        self, targets: Labels, units: frozenset[int], plan: Plan, flips: bool, joined: bool = True
    ) -> dict[Call, Tensor]:
        """Plan what happens to the layers that make the units which these calls are called on.

        Where `joined`, they may be a branch of a sum. Returned are other activations of theirs, where they are silent.
        """
        way: Way = "linear" if flips else "joined" if joined else "own"
        reason: NotRevivableError | None = None
        found: list[Producer] = []
        keys, between = self._feeding(targets)
        for key in keys:
            group = self.groups[key]
            try:
                self._check(self.layers[group[0]], group)
                found.append(self._producer(group, targets, units, way, between))
                reason = reason or found[-1].refusal
            except NotRevivableError as error:
                reason = reason or error
        beside: dict[Call, Tensor] = {}
        missing = units
        while found:
            producer, covered = lowest(found, missing)
            found.remove(producer)
            if not covered:
                continue
            layer, channels = self.layers[producer.group[0]], producer.of(covered)
            try:
                if layer.kind in NORMS:
                    self._make_norm(layer, producer.group, channels, covered, plan, flips)
                elif flips:
                    plan.scale_rows(layer, channels)
                else:
                    plan.renew(layer, channels, self.means.taken(producer.group[0]))
            except NotRevivableError as error:
                reason = reason or error
                continue
            if producer.others:
                plan.shift(layer, channels, producer.others)
            missing -= covered
            for call, labels in producer.beside.items():
                labels = torch.where(producer.of(covered, labels) > 0, labels, OTHER)
                beside[call] = torch.maximum(labels, beside[call]) if call in beside else labels
        for inner in self._activations(targets) if missing and joined and not flips else ():
            try:
                labels = self._inside(inner, targets, missing, between)
                beside |= self._make({inner: labels}, missing, plan, flips)
            except NotRevivableError as error:
                reason = error if reason is None or not keys else reason
                continue
            beside[inner] = labels
            return beside
        if missing:
            reason = reason or NotRevivableError(f"they come out of {self._origin(targets)}, not out of a layer")
            raise NotRevivableError(str(reason), missing)
        return beside

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
                if self._make(targets, units, deeper, flips, joined=weight is None):
                    raise reason  # they are units of other activations, too
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

    def _activations(self, targets: Labels) -> list[Call]:
        """Return the activations whose output reaches these calls before that of any layer does."""
        pending = [self._data(call) for call in targets]
        found: dict[Call, None] = {}
        for value in pending:  # which grows
            if not isinstance(value, Call) or value.is_weight or value in self.layers:
                continue
            if value.key is not None:
                found[value] = None
            else:
                pending += [each for each in value.inputs if each not in pending]
        return list(found)

    def _inside(self, inner: Call, targets: Labels, units: frozenset[int], between: set[Call | Value]) -> Tensor:
        """Label the output of a silent activation with the units that it makes of another one."""
        row = self.counted.get(inner)
        refusal = NotRevivableError(f"they come out of {self._origin(targets)}, not out of a layer")
        if row is None or len(targets) > 1:
            raise refusal
        own = Marks(unit_labels(inner, row, range(row.units)), torch.zeros(1, dtype=torch.float64))
        ((target, wanted),) = targets.items()
        marks = self.follow({inner: own}, "joined", between, str(refusal)).get(target)
        found = [(a, b) for a, b in pairs(marks.labels, wanted) if b > 0] if marks is not None else []
        names = dict(found)
        if len(names) < len(found) or {unit - 1 for unit in names.values()} != units or len(names) != len(units):
            raise refusal
        table = torch.full((row.units + 1,), OTHER)
        table[list(names)] = torch.tensor([float(unit) for unit in names.values()])
        labels = table[own.labels.long()]
        if units - self.silent(inner, Marks(labels, own.constants)):
            raise refusal
        return labels

    def _data(self, call: Call) -> Call | Value:
        return self.layers[call].data if call in self.layers else call.inputs[0]

    def _origin(self, targets: Labels) -> str:
        return described(self._data(next(iter(targets))))

    def _producer(
        self,
        group: Sequence[Call],
        targets: Labels,
        units: frozenset[int],
        way: Way,
        between: set[Call | Value],
    ) -> Producer:
        """Find which units the channels of a layer are, and where else these channels go."""
        name = self.layers[group[0]].name
        count = 0
        starts = {}
        for call in group:
            if not call.shape:  # in a trace
                raise NotRevivableError(f"the report holds no shape of what {name} makes: diagnose the model again")
            numbers = self.layers[call].channels(call.shape)
            count = numbers.shape[self.layers[call].axis(len(call.shape))]
            starts[call] = Marks(numbers, torch.zeros(1, dtype=torch.float64))
        others = NotRevivableError(
            f"{name} is used in several places"
            if len(group) > 1
            else f"their producer, {name}, has other consumers too"
        )
        ends = self.follow(starts, way, between, str(others))
        aims = {call: marks for call, marks in ends.items() if call in targets}
        if any(call not in aims and (way != "joined" or call in self.layers) for call in ends):
            raise others
        if not aims:
            raise NotRevivableError(f"they come out of {self._origin(targets)}, not out of a layer")
        if len(aims) < len(targets):
            raise NotRevivableError(f"{name} feeds the activation in one call of {len(targets)}")
        found: set[tuple[int, int]] = set()
        for call, marks in aims.items():
            found |= pairs(marks.labels, targets[call])
        of_unit, of_channel = Counter(unit for _, unit in found), Counter(channel for channel, _ in found)
        producer = Producer(group, torch.zeros(count))
        for channel, unit in found:
            if unit - 1 in units and channel > 0:
                if of_unit[unit] > 1 or of_channel[channel] > 1:
                    raise NotRevivableError(f"they are not the units of {name}, which come apart or together behind it")
                producer.channels[channel - 1] = unit
        for call in ends.keys() - aims.keys():
            labels = torch.cat([torch.full((1,), OTHER), producer.channels])[ends[call].labels.clamp(min=0).long()]
            marks = Marks(torch.where(labels > 0, labels, OTHER), ends[call].constants)
            alive = marks.units - self.silent(call, marks)
            producer.beside[call] = marks.labels
            if alive:
                producer.channels = producer.of(producer.units - alive)
                producer.refusal = others
        for call, marks in aims.items():
            if marks.summed:
                self._note_others(producer, call, marks, targets[call])
        return producer

    def _note_others(self, producer: Producer, call: Call, marks: Marks, labels: Tensor) -> None:
        """Note the mean of what a sum adds to the channels of a producer, as far as it is known."""
        axes = [axis for axis in range(labels.ndim) if labels.stride(axis) and labels.shape[axis] > 1]
        if len(axes) != 1 or not marks.scale:
            return
        others = Means(self.layers, self.counted, producer.group).of(self._data(call), axes[0])
        total = Means(self.layers, self.counted, (call,)).of(self._data(call), axes[0])
        if others is None or total is None:
            return
        units = producer.units
        for place, label in enumerate(along(labels, axes[0], "").tolist()):
            unit = int(label) - 1
            if unit in units:
                producer.branch[unit] = float(total[place] - others[place])
                producer.others[unit] = float(others[place]) / marks.scale

    def _check(self, layer: Layer, group: Sequence[Call]) -> None:
        """Raise for a layer whose weights cannot be set for these calls alone."""
        if layer.computed and not self._is_normalized(layer):
            raise NotRevivableError(f"the weights of {layer.name} are {layer.computed}")
        if layer.kind == "layer_norm" and any(each.ndim > 1 for each in layer.tensors.values()):
            raise NotRevivableError(f"{layer.name} has a weight for each position")
        for name in ("weight", "bias", "gain"):
            tensor = layer.tensors.get(name)
            if tensor is None:
                continue
            if id(tensor) in self.tied:
                raise NotRevivableError(f"the weights of {layer.name} are tied to those of another layer")
            if not self.using[id(tensor)] <= set(group):
                raise NotRevivableError(f"{layer.name} is used in several places")

    def _is_normalized(self, layer: Layer) -> bool:
        if layer.key not in self._normalized:
            self._normalized[layer.key] = is_normalized(layer)
        return self._normalized[layer.key]

    # Consumers

    def _take(self, starts: Mapping[Call, Marks], slopes: Tensor, plan: Plan) -> None:
        """Plan what happens to the layers that take the units."""
        ends = self.follow(starts, "linear" if plan.flips else "zero")
        if not ends:
            raise NotRevivableError("nothing takes their output")
        for key in dict.fromkeys(self.layers[call].key for call in ends):
            group = self.groups[key]
            layer = self.layers[group[0]]
            self._check(layer, group)
            if any(call not in ends for call in group):
                raise NotRevivableError(f"{layer.name} is used in several places")
            if layer.kind in NORMS and layer.is_mixing:
                raise NotRevivableError(
                    f"their output goes into {layer.name}, whose statistics are of several units together"
                )
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


def _spread_over(channels: Tensor, layer: Layer, shape: tuple[int, ...]) -> Tensor:
    """Label a tensor whose channels are labeled in a vector; the channels of no unit are `OTHER`."""
    axis = layer.axis(len(shape))
    labels = torch.where(channels > 0, channels, OTHER)
    return labels.reshape([-1 if place == axis else 1 for place in range(len(shape))]).expand(shape)
