"""Calls of a model, along all paths that were recorded, and how units are followed through them."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from leakyrelu.torch.graph.calls import Call, Value
from leakyrelu.torch.graph.functions import VIEWS, is_in_place
from leakyrelu.torch.revival.layers import NORMS, Layer, Tensors
from leakyrelu.torch.revival.operations import Marks, NotRevivableError, along, described, passed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leakyrelu.torch.graph.recording import Program
    from leakyrelu.torch.revival.operations import Way


class CallGraph:
    """Calls of a model: who uses what they made, the layers among them, and which memory they change."""

    def __init__(self, model: nn.Module, program: Program) -> None:
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

        In front of the activation they are followed to it, through the calls `between`; `others` is the reason if
        anything else takes them.
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
            if between is not None and call not in between:
                raise NotRevivableError(others)
            layer = self.layers.get(call)
            if layer is not None and layer.data in marks:
                norm = layer.kind in NORMS and "weight" not in layer.tensors and not layer.is_mixing
                if not norm or way != "zero":
                    ends[call] = marks[layer.data]
                    continue
                marks[call] = _normalized(layer, marks[layer.data])
            elif in_front and call.key is not None:
                ends[call] = marks[call.inputs[0]]
                continue
            elif call in starts:
                raise NotRevivableError(f"{described(call)} is called on its own output")
            elif way == "zero" and (shifted := self._shifted(call, marks)) is not None:
                marks[call] = shifted
            else:
                marks[call] = passed(call, marks, way, self.tensors.module(call), in_front)
            self._reach(call, pending, others)
        return ends

    def _shifted(self, call: Call, marks: Mapping[Call | Value, Marks]) -> Marks | None:
        """Follow units through the addition of a single weight, behind which they give out a constant."""
        if call.name not in ("add", "radd", "iadd") or len(call.inputs) != 2 or call.kwargs:
            return None
        weight = next((each for each in call.inputs if isinstance(each, Value) and each not in marks), None)
        tensor = self.tensors.tensors.get(weight.name) if weight is not None else None
        units = next((marks[each] for each in call.inputs if each in marks), None)
        if tensor is None or tensor.numel() != 1 or units is None or tuple(units.labels.shape) != call.shape:
            return None
        return Marks(units.labels, units.constants + tensor.item())

    def _reach(self, call: Call, pending: list[int], others: str) -> None:
        if call in self.outputs:
            raise NotRevivableError(others or "they are the network's output")
        if (changing := self.overwritten.get(self.roots.get(call, call))) is not None:
            raise NotRevivableError(f"{described(changing)} changes in place what other tensors still show")
        for place in self.users[call]:
            heapq.heappush(pending, place)


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
    return Marks(marks.labels, constants)
