"""The census of a PyTorch model: counts of every rectifier, module or function, while the model runs.

Which axis holds the units follows from the layer that feeds the rectifier, through reshapes and all else, not from the
shape alone: (8, 16, 32) is channels and positions behind a convolution, positions and features behind a linear layer.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from leakyrelu._checks import integer
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.layout import unit_axes
from leakyrelu.diagnosis.place import Place
from leakyrelu.diagnosis.report import Report
from leakyrelu.diagnosis.unit_axis import checked_axis
from leakyrelu.torch._checks import require_module, trains
from leakyrelu.torch._compat import is_compiled
from leakyrelu.torch.diagnosis.forward_pass import Row
from leakyrelu.torch.diagnosis.observer import PYTORCH, CallObserver
from leakyrelu.torch.diagnosis.rectifiers import InputProbe
from leakyrelu.torch.diagnosis.step_history import HistoryRecorder
from leakyrelu.torch.diagnosis.unit_counts import Location, UnitCounts, slope_of
from leakyrelu.torch.graph.call_sites import CallSite, LayerKey, layer_names, row_name, rows_in_order, source_line
from leakyrelu.torch.graph.recording import Program

if TYPE_CHECKING:
    from typing import Self

    from torch.utils.hooks import RemovableHandle

    from leakyrelu.diagnosis.history import History
    from leakyrelu.torch.diagnosis.rectifiers import Rectifier
    from leakyrelu.torch.graph.calls import Call, Value
    from leakyrelu.torch.graph.recording import Recording


__all__ = ["watch"]


_SHOWN_SOURCES = 3


class watch:  # noqa: N801  (a verb, used as `with watch(model) as census:`)
    """Count what the rectifiers of a model do, for as long as the context is open.

    Per unit (an output channel) and over every sample, position and call: how often the input of the activation was
    positive, NaN, or at the ceiling, and mean and standard deviation of the output, before it is rounded to its dtype.
    Memory is one number a unit; the model computes what it computed before. Training may go on meanwhile. Watches can
    be nested, and whatever happens inside the context, the hooks are gone after it.

    Parameters
    ----------
    model
        The model. Watched are the modules `torch.nn.ReLU`, `LeakyReLU`, `PReLU`, `RReLU`, `ReLU6`, `Threshold`, the
        layers of `leakyrelu.torch`, and subclasses; and calls, inside the model, of ``relu``, ``leaky_relu``,
        ``prelu``, ``rrelu``, ``relu6``, ``threshold``, and of ``clamp`` and ``hardtanh`` from 0, as functions, methods
        or operators, in place or not.
    unit_axis
        Which axis of its input holds the units, for activations named here, such as ``{"body.relu": 2}``,
        ``{"body.relu()": 2}``, or for one place of several ``{"body.relu, call 2": 2}``. Without it, the layer that
        feeds the activation decides: the output channels of a convolution, a normalization, a linear, embedding,
        recurrent or attention layer are followed through reshapes, permutations, slices, sums, poolings and products.
        Where that is lost, the axis is an assumption, and the report says so: the channels of an image-like tensor,
        otherwise the axis of the last layer whose output had as many axes, or axis 1.
    gradients
        Also count, in backward passes, which units the gradient of the loss with respect to the activation's input
        reaches: `leakyrelu.diagnosis.Layer.gradient_share`.
    every
        Count one training step in so many, the first included, and keep a history; see `history`. A step ends when an
        optimizer that holds a parameter of the model takes one, or when `step` is called. Calls in evaluation mode are
        not counted.
    keep
        How many of the latest censuses the history holds.
    to
        Where each census goes: anything with TensorBoard's ``add_scalar`` and ``add_histogram``, a callable that takes
        ``(step, report)``, or a list of them. Reading a census waits for the device.

    Raises
    ------
    TypeError
        `model` is not a module, `unit_axis` no mapping from names to integers, `every` or `keep` no integer, or `to` is
        none of the above.
    ValueError
        The model is compiled or scripted, `unit_axis` names a module that is not there, or `every` is not at least 1.

    Notes
    -----
    Functions are named by the module that calls them and their own name, ``body.relu()``. A module or function that is
    called at several places is a layer at each, in the order of the calls: ``relu``, ``relu, call 2``. Calls that the
    same weights feed, in a loop over time for instance, are one place, whose `samples` count every call. A module
    shared under two names goes by the first.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import watch
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    >>> _ = nn.init.constant_(model[0].bias, -100.0)
    >>> with watch(model) as census:
    ...     _ = model(torch.ones(5, 3))
    >>> census.report().layers[0].silent_units
    array([0, 1, 2, 3])
    """

    _framework = PYTORCH

    def __init__(
        self,
        model: nn.Module,
        *,
        unit_axis: Mapping[str, int] | None = None,
        gradients: bool = False,
        every: int | None = None,
        keep: int = 20,
        to: Any = None,
    ) -> None:
        require_module(model)
        _refuse_compiled(model)
        for name, number in (("every", every), ("keep", keep)):
            if number is not None:
                integer(number, name, least=1)
        if every is None and to is not None:
            raise ValueError("`to` takes one census at a time: say how often, with every=50")
        self.model = model
        self._observer = CallObserver(model, self._count, self._add, self._is_wanted, self._framework)
        self._unit_axis = _checked(unit_axis, self._observer)
        self._gradients = gradients
        self._every = every
        self._counts: dict[LayerKey, UnitCounts] = {}  # in the order of first call
        self._rectifiers: dict[LayerKey, Rectifier] = {}
        self._places: dict[LayerKey, Place] = {}
        self._rows: dict[str, list[tuple[CallSite, tuple[str, ...], int]]] = {}  # the places of each name
        # Modules that stand for one node of a program each.
        self._probes = {name: each for name, each in self._observer.rectifiers.items() if isinstance(each, InputProbe)}
        self._recorder = HistoryRecorder(keep, to, self._report)
        self._steps = 0
        self._step_counts: dict[LayerKey, UnitCounts] = {}  # of the step that is under way, where steps are counted
        self._step_handle: RemovableHandle | None = None
        self._trainers: WeakSet[torch.optim.Optimizer] = WeakSet()  # those known to hold a parameter of the model
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self._observer.is_open:
            raise RuntimeError("this watch is already open: open a second one with watch(model)")
        self._observer.open()
        if self._every is not None:
            self._observer.set_active(self._is_turn())
            self._step_handle = register_optimizer_step_post_hook(self._after_optimizer)
        return self

    def __exit__(self, *error: object) -> None:
        self._observer.close()
        if self._step_handle is not None:
            self._step_handle.remove()
            self._step_handle = None

    def report(self) -> Report:
        """Return what has been counted so far, inside the context or after it.

        Raises
        ------
        RuntimeError
            No watched activation has been called yet.
        """
        return self._report(self._total())

    def reduce(self, group: Any = None) -> Report:
        """Return what all processes of a `torch.distributed` group have counted together: the same report on each.

        Every process of the group has to call it. What each has counted stays as it is, so calling twice counts
        nothing twice. Without a process group it is `report`.
        """
        from torch import distributed

        if not (distributed.is_available() and distributed.is_initialized()):
            return self.report()
        own = [(key, self._rectifiers[key], self._places[key], counts.state()) for key, counts in self._total().items()]
        parts: list[Any] = [None] * distributed.get_world_size(group)
        distributed.all_gather_object(parts, own, group)
        total: dict[LayerKey, UnitCounts] = {}
        rectifiers: dict[LayerKey, Rectifier] = {}
        places: dict[LayerKey, Place] = {}
        for part in parts:
            for key, rectifier, place, state in part:
                _add(total, {key: UnitCounts.load(state, torch.device("cpu"))})
                rectifiers.setdefault(key, rectifier)
                places.setdefault(key, place)
        return self._report(total, rectifiers, places)

    @property
    def history(self) -> History:
        """What the units did over the steps that were counted; needs `every`.

        Raises
        ------
        RuntimeError
            The watch was made without `every`.
        """
        if self._every is None:
            raise RuntimeError("no history is kept: say how often to count, with watch(model, every=50)")
        return self._recorder.read()

    def step(self) -> None:
        """End a training step, where no optimizer of PyTorch does."""
        if self._every is None:
            raise RuntimeError("steps are counted for the history only: say how often, with watch(model, every=50)")
        with self._lock:
            now, self._step_counts = self._step_counts, {}
            _add(self._counts, now)
            if now:
                self._recorder.add(self._steps, now)
            self._steps += 1
        if self._observer.is_open:
            self._observer.set_active(self._is_turn())
        if now:
            self._recorder.write(self._steps - 1, now)

    def _after_optimizer(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if optimizer not in self._trainers:
            if not trains(optimizer, self.model):
                return
            self._trainers.add(optimizer)
        self.step()

    def _is_turn(self) -> bool:
        return self._every is None or self._steps % self._every == 0

    def _is_wanted(self) -> bool:
        return self._every is None or (self.model.training and self._is_turn())

    def _total(self) -> dict[LayerKey, UnitCounts]:
        """Return a copy of what has been counted, the step under way included."""
        total: dict[LayerKey, UnitCounts] = {}
        with self._lock:
            _add(total, self._counts)
            _add(total, self._step_counts)
        return total

    def _report(
        self,
        counts: Mapping[LayerKey, UnitCounts],
        rectifiers: Mapping[LayerKey, Rectifier] | None = None,
        places: Mapping[LayerKey, Place] | None = None,
    ) -> Report:
        rectifiers = self._rectifiers if rectifiers is None else rectifiers
        places = self._places if places is None else places
        modules = self._observer.rectifiers
        if not counts:
            called = f"none of {', '.join(map(repr, modules))} was called" if modules else "no rectifier was called"
            raise RuntimeError(
                f"nothing counted yet: {called}. "
                "Run the model itself inside `with watch(model)`; a compiled or scripted copy of it is not seen"
            )
        names = layer_names(list(counts))
        layers = []
        for key, units in counts.items():
            rectifier = rectifiers[key]
            read, axis = units.read(rectifier), units.unit_axis(rectifier)
            slope, ceiling = slope_of(rectifier), rectifier.ceiling
            layers.append(Layer(names[key], rectifier.kind, slope, read, ceiling, places[key], axis))
        seen = {key.call_site.name for key in counts}
        unused = [name for name in modules if name not in seen]
        return Report(layers, unused, program=self._program(names))

    def _program(self, names: Mapping[LayerKey, str]) -> Program | None:
        """Gather what was recorded; None where no pass of the whole model was."""
        observer = self._observer
        passes = {path: (each.calls, each.outputs, names) for path, each in observer.paths.items()}
        others = {names[key] for keys in observer.unrecorded.values() for key in keys if key in names}
        return Program(passes, others) if passes else None

    def _count(self, call_site: CallSite, rectifier: Rectifier, x: Tensor, recording: Recording) -> Row:
        made = recording.what_made(x)
        weights = tuple(sorted({each.weight_name for each in made.weights}))
        repeat = 0
        if call_site.name not in self._probes:
            calls = call_site, tuple(map(id, made.weights))
            repeat = recording.repeats.get(calls, 0)
            recording.repeats[calls] = repeat + 1
        name = self._row_name((call_site, weights, repeat))
        location = self._location(name, rectifier, x, made, recording)
        key = LayerKey(call_site, weights, repeat, location.units)
        with self._lock:
            if key not in self._places:
                probe = self._probes.get(call_site.name)
                source = source_line() if probe is None else probe.source
                self._places[key] = _place(call_site.name, made.sources, source)
        row = Row(call_site, x.shape, key, location)
        self._add(row, rectifier, x)
        return row

    def _add(self, row: Row, rectifier: Rectifier, x: Tensor) -> None:
        key, location = row.key, row.location
        with self._lock:
            counted = self._counts if self._every is None else self._step_counts
            counts = counted.get(key)
            if counts is None:
                counts = counted[key] = UnitCounts(key.units, x.device)
            counts.add_located(x, location, rectifier)
            self._rectifiers[key] = rectifier
        if self._gradients and x.requires_grad:
            # For an in-place activation, too, this is the gradient with respect to its input.
            x.register_hook(lambda gradient: self._count_gradient(counts, gradient, location))  # type: ignore[no-untyped-call]

    def _row_name(self, place: tuple[CallSite, tuple[str, ...], int]) -> str:
        name = place[0].name
        rows = self._rows.setdefault(name, [])
        if place not in rows:
            with self._lock:
                if place not in rows:
                    rows[:] = rows_in_order([*rows, place])
        return row_name(name, rows.index(place))

    def _location(
        self, name: str, rectifier: Rectifier, x: Tensor, made: Call | Value, recording: Recording
    ) -> Location:
        """Find where the units of an input lie, and whether that is known."""
        shape, last = tuple(x.shape), max(x.ndim - 1, 0)
        axis = self._unit_axis.get(name, self._unit_axis.get(name.partition(", call ")[0]))
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
        with self._lock, torch.no_grad():
            counts.add_gradient(*location.gather(gradient))


def _place(name: str, sources: Sequence[str], source: str) -> Place:
    """Describe a place when it is first reached: it is the source of the call under way."""
    shown = [*sources[:_SHOWN_SOURCES]]
    if len(sources) > _SHOWN_SOURCES:
        shown.append("others")
    return Place(name.rpartition(".")[0], " + ".join(shown), source)


def _add(total: dict[LayerKey, UnitCounts], counts: Mapping[LayerKey, UnitCounts]) -> None:
    for key, units in counts.items():
        if key in total:
            total[key] += units
        else:
            total[key] = units.clone()


def _checked(unit_axis: Any, observer: CallObserver) -> dict[str, int]:
    if unit_axis is None:
        return {}
    if not isinstance(unit_axis, Mapping):
        raise TypeError(
            f'unit_axis must be a mapping from names to axes, such as {{"body.relu": 2}}, '
            f"not {type(unit_axis).__name__}: {unit_axis!r}"
        )
    for name, axis in unit_axis.items():
        if not isinstance(name, str) or isinstance(axis, bool) or not isinstance(axis, Integral):
            raise TypeError(f'unit_axis maps names to integers, such as {{"body.relu": 2}}, not {name!r} to {axis!r}')
        base = name.partition(", call ")[0]
        caller, call = base.rpartition(".")[::2] if base.endswith("()") else (base, "")
        if base not in observer.rectifiers and not (call and caller in observer.modules):
            example = next((f"{module}.relu()" for module in observer.modules if module), "relu()")
            watched = ", ".join([*map(repr, observer.rectifiers), f"functions, as in {example!r}"])
            raise ValueError(f"unit_axis names {name!r}, which is not watched; watched are {watched}")
    return dict(unit_axis)


def _refuse_compiled(model: nn.Module) -> None:
    for module in model.modules():
        if is_compiled(module):
            raise ValueError(
                f"the model is compiled by torch.compile ({type(module).__name__}), and compiled code passes hooks by: "
                "watch the model it was made from, uncompiled"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"the model is scripted ({type(module).__name__}), which hides what it calls: watch the one it was "
                "scripted from"
            )
