"""Counts of a model, row by row of a report: which row a call of a rectifier goes to, and where its units lie.

Which axis holds the units follows from the layer that feeds the rectifier, through reshapes and all else, not from the
shape alone: (8, 16, 32) is channels and positions behind a convolution, positions and features behind a linear layer.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import torch

from leakyrelu.diagnosis.layout import unit_axes
from leakyrelu.diagnosis.place import Place
from leakyrelu.diagnosis.unit_axis import checked_axis
from leakyrelu.torch.diagnosis.forward_pass import Row
from leakyrelu.torch.diagnosis.unit_counts import Location, UnitCounts
from leakyrelu.torch.graph.call_sites import CallSite, LayerKey, row_name, rows_in_order, source_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from leakyrelu.torch.diagnosis.rectifiers import InputProbe, Rectifier
    from leakyrelu.torch.graph.calls import Call, Value
    from leakyrelu.torch.graph.recording import Recording

_SHOWN_SOURCES = 3


class RowCounts:
    """Counts of the calls of rectifiers: those of the step that is under way, and those of all steps before it.

    `gradients` says whether gradients are counted too. `unit_axis` may give axes by the name of a row, and `probes`
    modules that stand for one node of a program each, by name.
    """

    def __init__(self, gradients: bool) -> None:
        self.unit_axis: Mapping[str, int] = {}
        self.probes: Mapping[str, InputProbe] = {}
        self.rectifiers: dict[LayerKey, Rectifier] = {}
        self.places: dict[LayerKey, Place] = {}
        self.lock = threading.Lock()
        self._gradients = gradients
        self._before: dict[LayerKey, UnitCounts] = {}  # in the order of first call
        self._step: dict[LayerKey, UnitCounts] = {}
        self._rows: dict[str, list[tuple[CallSite, tuple[str, ...], int]]] = {}  # the places of each name

    def total(self) -> dict[LayerKey, UnitCounts]:
        """Return a copy of what has been counted, the step under way included."""
        total: dict[LayerKey, UnitCounts] = {}
        with self.lock:
            add_counts(total, self._before)
            add_counts(total, self._step)
        return total

    def end_step(self) -> dict[LayerKey, UnitCounts]:
        """End the step that is under way and return its counts; the caller holds the lock."""
        now, self._step = self._step, {}
        add_counts(self._before, now)
        return now

    def count(self, call_site: CallSite, rectifier: Rectifier, x: Tensor, recording: Recording) -> Row:
        """Count a call, and return what its row is and where its units lie."""
        made = recording.what_made(x)
        weights = tuple(sorted({each.weight_name for each in made.weights}))
        repeat = 0
        if call_site.name not in self.probes:
            calls = call_site, tuple(map(id, made.weights))
            repeat = recording.repeats.get(calls, 0)
            recording.repeats[calls] = repeat + 1
        name = self._row_name((call_site, weights, repeat))
        location = self._location(name, rectifier, x, made, recording)
        key = LayerKey(call_site, weights, repeat, location.units)
        with self.lock:
            if key not in self.places:
                probe = self.probes.get(call_site.name)
                source = source_line() if probe is None else probe.source
                self.places[key] = _place(call_site.name, made.sources, source)
        row = Row(call_site, x.shape, key, location)
        self.repeat(row, rectifier, x)
        return row

    def repeat(self, row: Row, rectifier: Rectifier, x: Tensor) -> None:
        """Count another call that goes to a row."""
        key, location = row.key, row.location
        with self.lock:
            counts = self._step.get(key)
            if counts is None:
                counts = self._step[key] = UnitCounts(key.units, x.device)
            counts.add_located(x, location, rectifier)
            self.rectifiers[key] = rectifier
        if self._gradients and x.requires_grad:
            # For an in-place activation, too, this is the gradient with respect to its input.
            x.register_hook(lambda gradient: self._count_gradient(counts, gradient, location))  # type: ignore[no-untyped-call]

    def _row_name(self, place: tuple[CallSite, tuple[str, ...], int]) -> str:
        name = place[0].name
        rows = self._rows.setdefault(name, [])
        if place not in rows:
            with self.lock:
                if place not in rows:
                    rows[:] = rows_in_order([*rows, place])
        return row_name(name, rows.index(place))

    def _location(
        self, name: str, rectifier: Rectifier, x: Tensor, made: Call | Value, recording: Recording
    ) -> Location:
        """Find where the units of an input lie, and whether that is known."""
        shape, last = tuple(x.shape), max(x.ndim - 1, 0)
        axis = self.unit_axis.get(name, self.unit_axis.get(name.partition(", call ")[0]))
        if axis is not None:
            return Location(shape, (checked_axis(axis, name, shape) % len(shape),), True)
        if rectifier.slope_per_unit:
            return Location(shape, (rectifier.slope_axis % len(shape),), True)
        if made.layout is not None and made.shape == shape:
            split, axes = unit_axes(made.layout)
            if axes:
                return Location(split, axes, True)
        if x.ndim < 3:
            return Location(shape or (1,), (last,), True)  # the only axis beside that of the samples
        axis = 1
        if x.ndim == 3 and (like := recording.nearest(shape)) is not None:
            axis = next(iter(unit_axes(like.layout)[1]), 1) if like.layout is not None else 1
        return Location(shape, (min(axis, last),), False)

    def _count_gradient(self, counts: UnitCounts, gradient: Tensor, location: Location) -> None:
        with self.lock, torch.no_grad():
            counts.add_gradient(*location.gather(gradient))


def _place(name: str, sources: Sequence[str], source: str) -> Place:
    """Describe a place when it is first reached: it is the source of the call under way."""
    shown = [*sources[:_SHOWN_SOURCES]]
    if len(sources) > _SHOWN_SOURCES:
        shown.append("others")
    return Place(name.rpartition(".")[0], " + ".join(shown), source)


def add_counts(total: dict[LayerKey, UnitCounts], counts: Mapping[LayerKey, UnitCounts]) -> None:
    """Add counts to a total, in place."""
    for key, units in counts.items():
        if key in total:
            total[key] += units
        else:
            total[key] = units.clone()
