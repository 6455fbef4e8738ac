"""The census of a PyTorch model: counts of every rectifier, module or function, while the model runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from leakyrelu._checks import integer
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.report import Report
from leakyrelu.torch._checks import require_module, trains
from leakyrelu.torch.diagnosis.framework import PYTORCH
from leakyrelu.torch.diagnosis.observer import CallObserver
from leakyrelu.torch.diagnosis.rectifiers import InputProbe
from leakyrelu.torch.diagnosis.row_counts import RowCounts, add_counts
from leakyrelu.torch.diagnosis.step_history import HistoryRecorder
from leakyrelu.torch.diagnosis.unit_counts import UnitCounts, slope_of
from leakyrelu.torch.diagnosis.watch_checks import checked_axes, refuse_compiled
from leakyrelu.torch.graph.call_sites import layer_names
from leakyrelu.torch.graph.recording import Program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from torch.utils.hooks import RemovableHandle

    from leakyrelu.diagnosis.history import History
    from leakyrelu.diagnosis.place import Place
    from leakyrelu.torch.diagnosis.rectifiers import Rectifier
    from leakyrelu.torch.graph.call_sites import LayerKey


__all__ = ["watch"]


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
        refuse_compiled(model)
        for name, number in (("every", every), ("keep", keep)):
            if number is not None:
                integer(number, name, least=1)
        if every is None and to is not None:
            raise ValueError("`to` takes one census at a time: say how often, with every=50")
        self.model = model
        self._every = every
        self._counts = counts = RowCounts(gradients)
        self._observer = CallObserver(model, counts.count, counts.repeat, self._is_wanted, self._framework)
        modules = self._observer.rectifiers
        counts.unit_axis = checked_axes(unit_axis, self._observer)
        counts.probes = {name: module for name, module in modules.items() if isinstance(module, InputProbe)}
        self._recorder = HistoryRecorder(keep, to, self._report)
        self._steps = 0
        self._step_handle: RemovableHandle | None = None
        self._trainers: WeakSet[torch.optim.Optimizer] = WeakSet()  # those known to hold a parameter of the model

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
        return self._report(self._counts.total())

    def reduce(self, group: Any = None) -> Report:
        """Return what all processes of a `torch.distributed` group have counted together: the same report on each.

        Every process of the group has to call it. What each has counted stays as it is, so calling twice counts
        nothing twice. Without a process group it is `report`.
        """
        from torch import distributed

        if not (distributed.is_available() and distributed.is_initialized()):
            return self.report()
        rows = self._counts
        own = [(key, rows.rectifiers[key], rows.places[key], units.state()) for key, units in rows.total().items()]
        parts: list[Any] = [None] * distributed.get_world_size(group)
        distributed.all_gather_object(parts, own, group)
        total: dict[LayerKey, UnitCounts] = {}
        rectifiers: dict[LayerKey, Rectifier] = {}
        places: dict[LayerKey, Place] = {}
        for part in parts:
            for key, rectifier, place, state in part:
                add_counts(total, {key: UnitCounts.load(state, torch.device("cpu"))})
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
        with self._counts.lock:
            now = self._counts.end_step()
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

    def _report(
        self,
        counts: Mapping[LayerKey, UnitCounts],
        rectifiers: Mapping[LayerKey, Rectifier] | None = None,
        places: Mapping[LayerKey, Place] | None = None,
    ) -> Report:
        rectifiers = self._counts.rectifiers if rectifiers is None else rectifiers
        places = self._counts.places if places is None else places
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
