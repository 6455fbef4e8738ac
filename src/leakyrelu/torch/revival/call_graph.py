"""Calls of a model, along all paths that were recorded, and how units are followed through them."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from leakyrelu.diagnosis.layout import unit_axes
from leakyrelu.torch.graph.calls import Call, Value
from leakyrelu.torch.graph.functions import VIEWS, is_in_place
from leakyrelu.torch.revival.layers import NORMS, Layer, Tensors
from leakyrelu.torch.revival.operations import (
    OTHER,
    SUMS,
    ApartError,
    Marks,
    NotRevivableError,
    along,
    described,
    passed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from leakyrelu.diagnosis import layer as diagnosis
    from leakyrelu.torch.graph.recording import Program
    from leakyrelu.torch.revival.operations import Way


class CallGraph:
    """Calls of a model: who uses what they made, the layers among them, and which memory they change."""

    def __init__(self, model: nn.Module, program: Program, rows: Iterable[diagnosis.Layer]) -> None:
        self.tensors = Tensors.of(model)
        owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
        self.tied = {key for key, number in owners.items() if number > 1}
        self.recorded = program.recorded
        self.unrecorded = program.unrecorded
        self.calls: list[Call] = []
        self.rows: dict[str, list[Call]] = defaultdict(list)
        self.outputs: set[Call | Value] = set()
        self.users: dict[Call | Value, list[int]] = defaultdict(list)
        self.layers: dict[Call, Layer] = {}
        self.groups: dict[int, list[Call]] = defaultdict(list)  # the calls of each layer
        self.using: dict[int, set[Call]] = defaultdict(set)  # the calls that depend on each parameter or buffer
        self.overwritten: dict[Call | Value, Call] = {}
        self.roots: dict[Call | Value, Call | Value] = {}
        for calls, outputs, names in program.passes.values():
            self._add(_outermost(calls), outputs, names)
        self._known_zeros: dict[Call, Tensor | None] = {}
        self.counted = {call: row for row in rows for call in self.rows.get(row.name, ())}

    def _add(self, calls: Sequence[Call], outputs: Any, names: Mapping[Any, str]) -> None:
        start = len(self.calls)
        self.calls += calls
        for place, call in enumerate(calls, start):
            if call.key in names:
                self.rows[names[call.key]].append(call)
            layer = self.tensors.layer(call) or self.tensors.frozen(call)
            inputs = call.inputs if layer is None or layer.module is None else (layer.data, *call.inputs)
            for each in dict.fromkeys(inputs):
                self.users[each].append(place)
            if layer is not None:
                self.layers[call] = layer
                self.groups[layer.key].append(call)
            self._note_weights(call)
        if outputs is None:
            outputs = [call for call in calls if call not in self.users]
        self.outputs.update(outputs)
        self._note_memory(calls, start)

    def _note_weights(self, call: Call) -> None:
        if call.is_weight or self.tensors.is_frozen_scale(call):
            return
        if (module := self.tensors.module(call)) is not None:
            for tensor in module.parameters():
                self.using[id(tensor)].add(call)
        pending = [each for each in call.inputs if each.is_weight]
        while pending:
            value = pending.pop()
            if isinstance(value, Call):
                pending += value.inputs
            elif value.name in self.tensors.tensors:
                self.using[id(self.tensors.tensors[value.name])].add(call)

    def _note_memory(self, calls: Sequence[Call], start: int) -> None:
        """Find memory that a call changes while another tensor still shows it as it was before."""
        roots = self.roots
        shared: dict[Call | Value, list[Call | Value]] = defaultdict(list)
        for place, call in enumerate(calls, start):
            first = call.inputs[0] if call.inputs else None
            if first is None:
                continue
            changes = self._changes(call)
            if changes:
                root = roots.get(first, first)
                for each in (root, *shared[root]):
                    if self.users[each] and self.users[each][-1] > place:
                        self.overwritten[root] = call
            if changes or call.name in VIEWS:
                roots[call] = roots.get(first, first)
                shared[roots[call]].append(call)

    def _changes(self, call: Call) -> bool:
        module = self.tensors.module(call)
        if module is not None:
            return getattr(module, "inplace", False) is True
        name = str(getattr(call.function, "__name__", ""))
        if name.startswith("__"):
            return name == "__setitem__" or (name[2:3] == "i" and name not in ("__invert__", "__index__"))
        return is_in_place(call.function, call.args, call.kwargs)

    def follow(
        self,
        starts: Mapping[Call, Marks],
        way: Way,
        between: set[Call | Value] | None = None,
        others: str = "",
    ) -> dict[Call, Marks]:
        """Follow units to the layers that take them.

        In front of the activation they are followed to every activation that they reach, through the calls `between` to
        the one; `others` is the reason if anything else takes them.
        """
        in_front = between is not None
        marks: dict[Call | Value, Marks] = dict(starts.items())
        ends: dict[Call, Marks] = {}
        pending: list[int] = []
        for call in starts:
            self._reach(call, pending, others)
        last = -1
        while pending:
            place = heapq.heappop(pending)
            if place == last:
                continue
            last, call = place, self.calls[place]
            if between is not None and call not in between and way == "linear":
                raise NotRevivableError(others)
            layer = self.layers.get(call)
            if layer is not None and layer.data in marks:
                units = marks[layer.data]
                apart = layer.kind in NORMS and not layer.is_mixing
                if units.summed and apart and not in_front:
                    along(units.labels, layer.axis(units.labels.ndim), layer.name)
                    marks[call] = units
                elif way == "zero" and apart and "weight" not in layer.tensors:
                    marks[call] = _normalized(layer, units)
                else:
                    if units.summed and not in_front:
                        raise NotRevivableError(units.summed, units.units)
                    ends[call] = units
                    continue
            elif in_front and call.key is not None:
                ends[call] = marks[call.inputs[0]]
                continue
            elif call in starts and starts[call].chained != any(marks[e].chained for e in call.inputs if e in marks):
                self._silenced(call, marks)
                arriving = next(marks[each] for each in call.inputs if each in marks).labels
                if arriving.shape != starts[call].labels.shape or bool(
                    ((arriving > 0) & (starts[call].labels <= 0)).any()
                ):
                    raise NotRevivableError(f"{described(call)} takes them in other places than its own units")
                continue
            elif call in starts:
                raise NotRevivableError(f"{described(call)} is called on its own output")
            elif (silenced := self._silenced(call, marks)) is not None:
                marks[call] = silenced
            elif way == "zero" and (shifted := self._shifted(call, marks)) is not None:
                marks[call] = shifted
            else:
                summed = any(marks[each].summed for each in call.inputs if each in marks)
                try:
                    found = passed(call, marks, "joined" if summed else way, self.tensors.module(call), in_front)
                except NotRevivableError:
                    if between is None or call in between:
                        raise
                    raise NotRevivableError(others) from None
                marks[call] = found if in_front or summed or not found.summed else self._mixed(call, marks, found)
            self._reach(call, pending, others)
        return ends

    def silent(self, call: Call, marks: Marks) -> frozenset[int]:
        """Say which of these units are silent in this call of an activation, where they give out 0 on all data."""
        row = self.counted.get(call)
        if row is None or tuple(marks.labels.shape) != call.shape:
            return frozenset()
        found = pairs(marks.labels, unit_labels(call, row, silent_units(row)))
        return marks.units - {unit - 1 for unit, own in found if own <= 0}

    def _silenced(self, call: Call, marks: Mapping[Call | Value, Marks]) -> Marks | None:
        """Follow units out of a sum into an activation, behind which they are 0 where its own units are silent."""
        units = next((marks[each] for each in call.inputs if each in marks and marks[each].summed), None)
        if units is None or call.key is None:
            return None
        if alive := units.units - self.silent(call, units):
            raise NotRevivableError(units.summed, alive)
        return units._replace(summed="", chained=True)

    def _mixed(self, call: Call, marks: Mapping[Call | Value, Marks], found: Marks) -> Marks:
        """Follow units into a sum with another branch, which leaves them alone where it is 0 on all data."""
        zeros = next((self._zeros(each) for each in call.inputs if each not in marks), None)
        if zeros is None:
            return found
        mixed = found._replace(labels=torch.where(zeros > 0, OTHER, found.labels)).units
        if mixed and mixed != found.units:
            raise ApartError(found.summed, mixed)
        return found if mixed else found._replace(summed="")

    def _zeros(self, value: Call | Value) -> Tensor | None:
        """Label where a tensor is 0 on all data, as silent units are and what is made of them alone."""
        if not isinstance(value, Call) or value.is_weight or value in self.layers or not value.shape:
            return None
        if value not in self._known_zeros:
            self._known_zeros[value] = None  # of a loop
            self._known_zeros[value] = self._found_zeros(value)
        return self._known_zeros[value]

    def _found_zeros(self, call: Call) -> Tensor | None:
        row = self.counted.get(call)
        if row is not None or call.key is not None:
            try:
                return unit_labels(call, row, silent_units(row)) if row is not None else None
            except NotRevivableError:
                return None
        known = {each: zeros for each in call.inputs if (zeros := self._zeros(each)) is not None}
        if not known or (call.name in SUMS and len(known) < len(call.inputs)):
            return None
        if call.name in SUMS and len(known) == 2:
            first, second = (each.broadcast_to(call.shape) for each in known.values())
            return torch.where((first > 0) & (second > 0), 1.0, OTHER)
        marks = {each: Marks(torch.where(zeros > 0, 1.0, zeros), torch.zeros(1)) for each, zeros in known.items()}
        try:
            return passed(call, marks, "zero", self.tensors.module(call), False).labels
        except NotRevivableError:
            return None

    def _shifted(self, call: Call, marks: Mapping[Call | Value, Marks]) -> Marks | None:
        """Follow units through the addition of a single weight, behind which they give out a constant."""
        if call.name not in ("add", "radd", "iadd") or len(call.inputs) != 2 or call.kwargs:
            return None
        weight = next((each for each in call.inputs if isinstance(each, Value) and each not in marks), None)
        tensor = self.tensors.tensors.get(weight.name) if weight is not None else None
        units = next((marks[each] for each in call.inputs if each in marks), None)
        if (
            weight is None
            or tensor is None
            or tensor.numel() != 1
            or units is None
            or tuple(units.labels.shape) != call.shape
        ):
            return None
        if units.chained:
            raise NotRevivableError(f"{weight.name} is added behind a sum that they go into ({described(call)})")
        return units._replace(constants=units.constants + tensor.item())

    def _reach(self, call: Call, pending: list[int], others: str) -> None:
        if call in self.outputs:
            raise NotRevivableError(others or "they are the network's output")
        if (changing := self.overwritten.get(self.roots.get(call, call))) is not None:
            raise NotRevivableError(f"{described(changing)} changes in place what other tensors still show")
        for place in self.users[call]:
            heapq.heappush(pending, place)


def silent_units(row: diagnosis.Layer) -> list[int]:
    """Return the units of an activation that give out 0 on all data."""
    slopes = torch.as_tensor(row.negative_slope, dtype=torch.float64).expand(row.units)
    return [unit for unit in row.silent_units.tolist() if not slopes[unit] and not row.output_mean[unit]]


def _outermost(calls: Sequence[Call]) -> list[Call]:
    """Leave out the calls that a layer made inside, where the layer was recorded too."""
    kept: list[Call] = []
    for call in calls:
        if isinstance(call.function, type) and call.key is None and call.output in (None, 0):
            while (
                kept
                and not (isinstance(kept[-1].function, type) and kept[-1].module == call.module)
                and f"{kept[-1].module}.".startswith(f"{call.module}.")
            ):
                kept.pop()
        kept.append(call)
    return kept


def _normalized(layer: Layer, marks: Marks) -> Marks:
    """Follow constants through a normalization of each unit alone, without weights."""
    constants = torch.zeros_like(marks.constants)
    mean, variance = layer.tensors.get("running_mean"), layer.tensors.get("running_var")
    if layer.kind == "batch_norm" and mean is not None and variance is not None:
        units = along(marks.labels, layer.axis(marks.labels.ndim), layer.name)
        rows = (units > 0).nonzero().flatten()
        made = units[rows].long() - 1
        deviation = (variance.cpu()[rows].double() + layer.eps).sqrt()
        constants[made] = (marks.constants[made] - mean.cpu()[rows].double()) / deviation
    return marks._replace(constants=constants)


def unit_labels(call: Call, row: diagnosis.Layer, units: Sequence[int]) -> Tensor:
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


def pairs(channels: Tensor, units: Tensor) -> set[tuple[int, int]]:
    """Return which labels of two tensors stand in the same place."""
    channels = channels.expand(units.shape)
    for axis in range(units.ndim):
        if channels.stride(axis) == units.stride(axis) == 0 and units.shape[axis]:
            channels, units = channels.narrow(axis, 0, 1), units.narrow(axis, 0, 1)
    codes = (channels.long() << 32) + (units.long() + 1)
    return {(int(code) >> 32, (int(code) & 0xFFFFFFFF) - 1) for code in set(codes.flatten().tolist())}
