"""The census of a PyTorch model: every rectifier watched, module or function, while batches stream through.

Which axis holds the units is asked of the layer that feeds the activation, since the shape alone cannot say:
(8, 16, 32) is channels and positions behind a convolution, positions and features behind a linear layer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from itertools import chain
from numbers import Integral
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from leakyrelu._checks import integer
from leakyrelu._text import with_article
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.report import Report
from leakyrelu.torch._checks import require_module
from leakyrelu.torch._compat import is_compiled
from leakyrelu.torch.diagnosis.observer import PYTORCH, Sight
from leakyrelu.torch.diagnosis.rectifiers import RECTIFIERS, Rule
from leakyrelu.torch.diagnosis.step_history import Recorder
from leakyrelu.torch.diagnosis.unit_counts import Tally, slope_of
from leakyrelu.torch.graph.call_sites import Place, Site, site_names

if TYPE_CHECKING:
    from collections import deque
    from types import TracebackType
    from typing import Self

    from torch.utils.hooks import RemovableHandle

    from leakyrelu.diagnosis.history import History
    from leakyrelu.torch.diagnosis.observer import Fed


__all__ = ["NoRectifierError", "diagnose", "watch"]


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
        Which axis of its input holds the units, for activations named here, such as ``{"body.relu": 2}`` or
        ``{"body.relu()": 2}``. Without it, the layer that feeds the activation says: convolutions and batch, group and
        instance norm the channels; linear, layer norm, embedding, recurrent and attention layers the last. Behind
        anything else (a flatten, a functional pooling) it is the axis of the last such layer whose output had as many
        axes, or axis 1.
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
    Functions are named by the module that calls them and their own name, ``body.relu()``; a second call in the source
    of the same module is ``body.relu()#2``. A module called several times is one layer, whose `samples` count every
    call. Where it stands behind several layers (one ``relu`` used throughout a block), its units are not the same
    units; each place is then a layer of its own, named ``relu after conv1``. A module shared under two names goes by
    the first.

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

    _host = PYTORCH

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
        self._sight = Sight(model, self._counted, self._wanted, self._host)
        self._unit_axis = _checked(unit_axis)
        self._check_names()
        self._gradients = gradients
        self._every = every
        self._sites: dict[Site, Tally] = {}  # in the order of first call
        self._rules: dict[Site, Rule] = {}
        self._recorder = Recorder(keep, to)
        self._steps = 0
        self._now: dict[Site, Tally] = {}  # of the step that is under way, where steps are counted
        self._step_handle: RemovableHandle | None = None
        self._trainers: WeakSet[torch.optim.Optimizer] = WeakSet()  # those known to hold a parameter of the model
        self._lock = threading.Lock()

    def _check_names(self) -> None:
        known = self._sight.rectifiers
        modules = self._sight.modules
        for name in self._unit_axis:
            inside, call = name.rpartition(".")[::2] if name.endswith("()") else (name, "")
            if name in known or (call and inside in modules):
                continue
            raise ValueError(
                f"unit_axis names {name!r}, which is not watched; watched are "
                f"{', '.join([repr(known_name) for known_name in known] + ['functions, as in '])}"
                f"{_example_of_a_call(modules)!r}"
            )

    def __enter__(self) -> Self:
        if self._sight.is_open:
            raise RuntimeError("this watch is already open: open a second one with watch(model)")
        self._sight.open()
        if self._every is not None:
            self._sight.look(self._is_turn())
            self._step_handle = register_optimizer_step_post_hook(self._after_optimizer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sight.close()
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
        own = [(site, self._rules[site], tally.state()) for site, tally in self._total().items()]
        parts: list[Any] = [None] * distributed.get_world_size(group)
        distributed.all_gather_object(parts, own, group)
        together: dict[Site, Tally] = {}
        rules: dict[Site, Rule] = {}
        for part in parts:
            for site, rule, state in part:
                tally = Tally.load(state)
                if site in together:
                    together[site] += tally
                else:
                    together[site], rules[site] = tally, rule
        return self._report(together, rules)

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
        names = site_names(list(self._recorder.sites))
        return self._recorder.read(names, self._report)

    def step(self) -> None:
        """End a training step, where no optimizer of PyTorch does."""
        if self._every is None:
            raise RuntimeError("steps are counted for the history only: say how often, with watch(model, every=50)")
        with self._lock:
            now, self._now = self._now, {}
            for site, tally in now.items():
                if site in self._sites:
                    self._sites[site] += tally
                else:
                    self._sites[site] = tally.clone()
            if now:
                self._recorder.add(self._steps, now)
            self._steps += 1
        if self._sight.is_open:
            self._sight.look(self._is_turn())
        if now:
            self._recorder.write(self._steps - 1, now, self._report)

    def _after_optimizer(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if optimizer not in self._trainers:
            own = {id(parameter) for parameter in self.model.parameters()}
            if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
                return
            self._trainers.add(optimizer)
        self.step()

    def _is_turn(self) -> bool:
        return self._every is None or self._steps % self._every == 0

    def _wanted(self) -> bool:
        return self._every is None or (self.model.training and self._is_turn())

    def _total(self) -> dict[Site, Tally]:
        """Return what has been counted, the step under way included."""
        with self._lock:
            total = dict(self._sites)
            for site, tally in self._now.items():
                if site in total:
                    total[site] = total[site].clone()
                    total[site] += tally
                else:
                    total[site] = tally.clone()
            return total

    def _report(self, tallies: Mapping[Site, Tally], rules: Mapping[Site, Rule] | None = None) -> Report:
        rules = self._rules if rules is None else rules
        rectifiers = self._sight.rectifiers
        if not tallies:
            modules = (
                f"none of {', '.join(map(repr, rectifiers))} was called" if rectifiers else "no rectifier was called"
            )
            raise RuntimeError(
                f"nothing counted yet: {modules}. "
                "Run the model itself inside `with watch(model)`; a compiled or scripted copy of it is not seen"
            )
        called = {site.place.name for site in tallies}
        names = site_names(list(tallies))
        layers = []
        for site, tally in tallies.items():
            rule = rules[site]
            layers.append(Layer(names[site], rule.kind, slope_of(rule), tally.read(rule), rule.ceiling))
        return Report(layers, [name for name in rectifiers if name not in called])

    def _counted(self, place: Place, rule: Rule, x: Tensor, trail: deque[Fed]) -> None:
        shape = x.shape
        feeder, axis = self._place(place.name, rule, x, trail)
        site = Site(place, feeder, shape[axis] if shape else 1)
        with self._lock:
            tallies = self._sites if self._every is None else self._now
            tally = tallies.get(site)
            if tally is None:
                tally = tallies[site] = Tally(site.units, x.device)
            tally.add(x, axis, rule)
            self._rules[site] = rule
        if self._gradients and x.requires_grad:
            # Of an in-place activation this is still the gradient of what went into it.
            x.register_hook(lambda gradient: self._gradient(tally, gradient, axis))  # type: ignore[no-untyped-call]

    def _gradient(self, tally: Tally, gradient: Tensor, axis: int) -> None:
        with self._lock, torch.no_grad():
            tally.add_gradient(gradient, axis)

    def _place(self, name: str, rule: Rule, x: Tensor, trail: deque[Fed]) -> tuple[str | None, int]:
        """Find the layer whose output this is, if it is one untouched, and the axis of the units."""
        feeder = trail[-1] if trail and trail[-1].output() is x else _fed_to(x, trail)
        fed_by = feeder.name if feeder else None
        if name in self._unit_axis:
            axis = self._unit_axis[name]
            if not -x.ndim <= axis < x.ndim:
                raise ValueError(
                    f"unit_axis says axis {axis} for {name!r}, but its input has shape {tuple(x.shape)}: "
                    f"give an axis from {-x.ndim} to {x.ndim - 1}"
                )
            return fed_by, axis % x.ndim
        if rule.slope_per_unit:
            return fed_by, rule.slope_axis % x.ndim
        if feeder is None:
            shape = x.shape
            by_shape = (fed for fed in reversed(trail) if fed.shape == shape)
            by_axes = (fed for fed in reversed(trail) if len(fed.shape) == len(shape))
            feeder = next(by_shape, None) or next(by_axes, None)
        return fed_by, feeder.axis if feeder else min(1, max(x.ndim - 1, 0))


def _fed_to(x: Tensor, trail: deque[Fed]) -> Fed | None:
    for fed in reversed(trail):
        if fed.output() is x:
            return fed
    return None


def diagnose(model: nn.Module, data: Any, *, unit_axis: Mapping[str, int] | None = None) -> Report:
    """Run data through a model and report what its rectifiers did.

    The model runs in evaluation mode and without gradients; afterwards every module is back in the mode it was in.
    The counts are those of `leakyrelu.torch.watch`, over all batches together: their order and size do not matter.

    Parameters
    ----------
    model
        The model, on any device; batches are moved to that of its first parameter.
    data
        Any iterable of batches, such as a DataLoader. A batch is a tensor, a tuple or list whose first item is the
        input (the rest, labels for instance, is left alone), or a dict of keyword arguments. One tensor or one dict in
        place of the iterable is one batch.
    unit_axis
        As for `watch`.

    Returns
    -------
    leakyrelu.diagnosis.Report
        Its repr is the table.

    Raises
    ------
    TypeError
        `model` is not a module, `data` cannot be iterated, or a batch is none of the above.
    ValueError
        There is no batch, the model called no rectifier (`NoRectifierError`), or as for `watch`.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import diagnose
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> _ = model.load_state_dict({"0.weight": torch.eye(3, 2), "0.bias": torch.tensor([0.0, 0.0, -1.0])})
    >>> report = diagnose(model, [torch.tensor([[1.0, 2.0], [3.0, -4.0]])])
    >>> report.layers[0].positive_share
    array([1. , 0.5, 0. ])
    """
    census = watch(model, unit_axis=unit_axis)
    if isinstance(data, Tensor | Mapping):
        data = [data]  # iterating would take it apart: rows without their batch axis, or keys
    if not isinstance(data, Iterable) or isinstance(data, str):
        raise TypeError(
            f"data must be an iterable of batches, not {type(data).__name__}: [batch] makes one of a batch, "
            "torch.utils.data.DataLoader(dataset, batch_size=64) of a data set"
        )
    device = next((tensor.device for tensor in chain(model.parameters(), model.buffers())), None)
    modes = [(module, module.training) for module in model.modules()]
    number = -1
    try:
        model.eval()
        with census, torch.no_grad():
            for number, batch in enumerate(data):
                args, kwargs = _arguments(batch, number, device)
                model(*args, **kwargs)
    finally:
        for module, training in modes:
            if module.training is not training:
                module.training = training
    if number < 0:
        raise ValueError(
            "data holds no batch: an empty loader, or a generator that was used up before? "
            "Give a list of batches or a DataLoader, or make the generator anew"
        )
    if not census._sites:
        raise NoRectifierError(_nothing_seen(model))
    return census.report()


def _checked(unit_axis: Any) -> dict[str, int]:
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
    return dict(unit_axis)


class NoRectifierError(ValueError):
    """The model ran and called nothing that could be counted.

    Examples
    --------
    >>> import torch
    >>> from leakyrelu.torch import NoRectifierError, diagnose
    >>> try:
    ...     diagnose(torch.nn.Linear(2, 2), torch.ones(3, 2))
    ... except NoRectifierError as error:
    ...     print(str(error)[:40])
    no rectifier was called in Linear: neith
    """


def _arguments(batch: Any, number: int, device: torch.device | None) -> tuple[list[Tensor], dict[str, Any]]:
    """Take positional and keyword arguments of the model from a batch, on the model's device."""

    def moved(value: Any) -> Any:
        return value.to(device) if device is not None and isinstance(value, Tensor) else value

    if isinstance(batch, Mapping):
        if wrong := [key for key in batch if not isinstance(key, str)]:
            raise TypeError(f"batch {number} is a dict of keyword arguments, but its key {wrong[0]!r} is not a string")
        return [], {key: moved(value) for key, value in batch.items()}
    first = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(first, Tensor):
        inside = "" if first is batch else f" that starts with {with_article(type(first).__name__)}"
        raise TypeError(
            f"batch {number} is {with_article(type(batch).__name__)}{inside}: a batch must be a tensor, a tuple or "
            "list that starts with one, or a dict of keyword arguments (torch.from_numpy makes a tensor of an array)"
        )
    return [moved(first)], {}


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


def _example_of_a_call(modules: Mapping[str, Any]) -> str:
    name = next((name for name in modules if name), "")
    return f"{name}.relu()" if name else "relu()"


def _nothing_seen(model: nn.Module) -> str:
    kinds = ", ".join(f"nn.{kind.__name__}" for kind in RECTIFIERS[:-1])
    return (
        f"no rectifier was called in {type(model).__name__}: neither {kinds}, a layer of leakyrelu.torch or a subclass "
        f"among its {sum(1 for _ in model.modules())} modules, nor F.relu, x.relu_(), x.clamp(min=0) and the like. "
        "Fused or compiled kernels are not seen: run the model without them"
    )
