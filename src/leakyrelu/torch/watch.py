"""The census of a PyTorch model: every rectifier module watched by hooks, while batches stream through.

What is counted is what goes *into* an activation, in a forward-pre-hook: an in-place activation has overwritten it
afterwards. The counts live on the model's device, one number a unit, and no batch waits for the host.

Which axis holds the units is asked of the layer that feeds the activation, since the shape alone cannot say:
(8, 16, 32) is channels and positions behind a convolution, positions and features behind a linear layer.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from leakyrelu.census import Counts, Layer, Report, merge_moments
from leakyrelu.torch.layers import CenteredLeakyReLU

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from torch.utils.hooks import RemovableHandle

__all__ = ["diagnose", "watch"]

RECTIFIERS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, CenteredLeakyReLU)
"""Modules that are watched, subclasses too (`leakyrelu.torch.LeakyReLU` is one)."""

# Where the units stand in the output of the layers that can feed an activation, counted from the end where a sample may
# come without its batch axis.
_FEEDERS: tuple[tuple[tuple[type[nn.Module], ...], int], ...] = (
    ((nn.Conv1d, nn.ConvTranspose1d, nn.InstanceNorm1d), -2),
    ((nn.Conv2d, nn.ConvTranspose2d, nn.InstanceNorm2d, nn.BatchNorm2d), -3),
    ((nn.Conv3d, nn.ConvTranspose3d, nn.InstanceNorm3d, nn.BatchNorm3d), -4),
    ((nn.BatchNorm1d, nn.SyncBatchNorm, nn.GroupNorm), 1),
    ((nn.Linear, nn.Bilinear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.RNNBase, nn.MultiheadAttention), -1),
)

_REMEMBERED = 64  # outputs of feeding layers kept in mind; an activation stands a few layers behind its own


class watch:  # noqa: N801  (a verb, used as `with watch(model) as census:`)
    """Count what the rectifiers of a model do, for as long as the context is open.

    Per unit (an output channel) and over every sample, position and call: how often the input of the activation was
    positive, NaN, or at the ceiling, and mean and standard deviation of the output. Memory is one number a unit; the
    model computes what it computed before. Training may go on meanwhile. Watches can be nested, and whatever happens
    inside the context, the hooks are gone after it.

    Parameters
    ----------
    model
        The model. Watched are `torch.nn.ReLU`, `LeakyReLU`, `PReLU`, `ReLU6`, the layers of `leakyrelu.torch`, and
        subclasses. Calls of functions such as ``F.relu`` are not seen.
    unit_axis
        Which axis of its input holds the units, for activations named here, such as ``{"body.relu": 2}``. Without it,
        the layer that feeds the activation says: convolutions and batch, group and instance norm the channels; linear,
        layer norm, embedding, recurrent and attention layers the last. Behind anything else (a flatten, a functional
        pooling) it is the axis of the last such layer whose output had as many axes, or axis 1.

    Raises
    ------
    TypeError
        `model` is not a module.
    ValueError
        The model has no rectifier module, is compiled, or `unit_axis` names something that is not watched.

    Notes
    -----
    A module called several times is one layer, whose `samples` count every call. Where it stands behind several layers
    (one ``relu`` used throughout a block), its units are not the same units; each place is then a layer of its own,
    named ``relu after conv1``. A module shared under two names goes by the first.

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

    def __init__(self, model: nn.Module, *, unit_axis: Mapping[str, int] | None = None) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        _refuse_compiled(model)
        self._rectifiers = {
            name or type(module).__name__: module
            for name, module in model.named_modules()
            if isinstance(module, RECTIFIERS)
        }
        if not self._rectifiers:
            raise ValueError(_nothing_to_watch(model))
        self._feeders = {
            name: (module, axis)
            for name, module in model.named_modules()
            for kinds, axis in _FEEDERS
            if isinstance(module, kinds)
        }
        self._unit_axis = dict(unit_axis or {})
        if unknown := [name for name in self._unit_axis if name not in self._rectifiers]:
            raise ValueError(
                f"unit_axis names {unknown[0]!r}, which is not watched; watched are "
                f"{', '.join(repr(name) for name in self._rectifiers)}"
            )
        self._trail: deque[_Fed] = deque(maxlen=_REMEMBERED)
        self._sites: dict[_Site, _Tally] = {}  # in the order of first call
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        if self._handles:
            raise RuntimeError("this watch is already open: open a second one with watch(model)")
        try:
            for name, (module, axis) in self._feeders.items():
                self._handles.append(module.register_forward_hook(_Hook(self._feeding(name, axis))))
            for name, module in self._rectifiers.items():
                before, after = self._counting(name, module)
                self._handles.append(module.register_forward_pre_hook(_Hook(before), with_kwargs=True))
                self._handles.append(module.register_forward_hook(_Hook(after)))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._trail.clear()

    def report(self) -> Report:
        """Return what has been counted so far, inside the context or after it.

        Raises
        ------
        RuntimeError
            No watched activation has been called yet.
        """
        if not self._sites:
            raise RuntimeError(
                f"nothing counted yet: none of {', '.join(repr(name) for name in self._rectifiers)} was called. "
                "Run the model itself inside `with watch(model)`; a compiled or scripted copy of it is not seen"
            )
        called = {site.name for site in self._sites}
        names = _site_names(list(self._sites))
        return Report(
            [self._layer(site, tally, names[site]) for site, tally in self._sites.items()],
            [name for name in self._rectifiers if name not in called],
        )

    def _layer(self, site: _Site, tally: _Tally, name: str) -> Layer:
        module = self._rectifiers[site.name]
        slope: Any = getattr(module, "negative_slope", 0.0)
        if isinstance(module, nn.PReLU):
            weight = module.weight.detach().double().cpu().numpy()
            slope = weight.item() if weight.size == 1 else weight
        return Layer(name, type(module).__name__, slope, tally.counts(), _ceiling(module))

    def _feeding(self, name: str, axis: int) -> Callable[..., None]:
        def feeding(module: nn.Module, args: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) and output else output  # recurrent and attention layers
            if isinstance(first, Tensor):
                self._trail.append(_Fed(weakref.ref(first), first.shape, name, axis % max(first.ndim, 1)))

        return feeding

    def _counting(self, name: str, module: nn.Module) -> tuple[Callable[..., None], Callable[..., None]]:
        ceiling = _ceiling(module)
        open_calls: list[tuple[_Tally, int]] = []

        @torch.no_grad()
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else next(iter(kwargs.values()), None)
            open_calls.clear()  # an earlier call may have raised
            if not isinstance(x, Tensor):
                return  # the activation's own error says more
            feeder, axis = self._place(name, module, x)
            units = x.shape[axis] if x.ndim else 1
            site = _Site(name, feeder, units)
            tally = self._sites.get(site)
            if tally is None:
                tally = self._sites[site] = _Tally(units, x.device)
            tally.add_inputs(*_by_unit(x, axis), ceiling)
            open_calls.append((tally, axis))

        @torch.no_grad()
        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if open_calls and isinstance(output, Tensor):
                tally, axis = open_calls.pop()
                tally.add_outputs(*_by_unit(output, axis))

        return before, after

    def _place(self, name: str, module: nn.Module, x: Tensor) -> tuple[str | None, int]:
        """Find the layer whose output this is, if it is one untouched, and the axis of the units."""
        feeder = next((fed for fed in reversed(self._trail) if fed.output() is x), None)
        fed_by = feeder.name if feeder else None
        if name in self._unit_axis:
            axis = self._unit_axis[name]
            if not -x.ndim <= axis < x.ndim:
                raise ValueError(
                    f"unit_axis says axis {axis} for {name!r}, but its input has shape {tuple(x.shape)}: "
                    f"give an axis from {-x.ndim} to {x.ndim - 1}"
                )
            return fed_by, axis % x.ndim
        if isinstance(module, nn.PReLU) and module.num_parameters > 1:
            return fed_by, 1  # PyTorch's rule for its slopes
        by_shape = (fed for fed in reversed(self._trail) if fed.shape == x.shape)
        by_axes = (fed for fed in reversed(self._trail) if len(fed.shape) == x.ndim)
        feeder = feeder or next(by_shape, None) or next(by_axes, None)
        return fed_by, feeder.axis if feeder else min(1, max(x.ndim - 1, 0))


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
    leakyrelu.census.Report
        Its repr is the table.

    Raises
    ------
    TypeError
        `model` is not a module, `data` cannot be iterated, or a batch is none of the above.
    ValueError
        There is no batch, or as for `watch`.

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
        raise TypeError(f"data must be an iterable of batches, not {type(data).__name__}: [batch] makes one of a batch")
    device = next((tensor.device for tensor in [*model.parameters(), *model.buffers()][:1]), None)
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
            module.training = training
    if number < 0:
        raise ValueError(
            "data holds no batch: an empty loader, or a generator that was used up before? "
            "Give a list of batches or a DataLoader, or make the generator anew"
        )
    return census.report()


class _Site(NamedTuple):
    """A place where an activation is called; one module may have several."""

    name: str
    feeder: str | None
    units: int


class _Fed(NamedTuple):
    """The output of a layer that can feed an activation."""

    output: weakref.ReferenceType[Tensor]
    shape: torch.Size
    name: str
    axis: int


class _Hook:
    """A hook that copies of the model do not carry on: what a copy or a pickle holds in its place does nothing."""

    def __init__(self, function: Callable[..., None] | None = None) -> None:
        self.function = function

    def __call__(self, *args: Any) -> None:
        if self.function is not None:
            self.function(*args)

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


class _Tally:
    """Running counts of one site, on the device where its first input lay."""

    def __init__(self, units: int, device: torch.device) -> None:
        # Apple's GPUs have no float64; there the moments keep float32.
        self.real = torch.float32 if device.type == "mps" else torch.float64
        self.samples = 0
        self.calls = 0
        self.positive, self.nan, self.saturated, self.outputs = torch.zeros(
            4, units, dtype=torch.int64, device=device
        ).unbind()
        self.mean, self.m2, self.relu_sum = torch.zeros(3, units, dtype=self.real, device=device).unbind()

    def add_inputs(self, x: Tensor, others: list[int], ceiling: float) -> None:
        device = self.positive.device
        self.calls += 1
        self.samples += math.prod(x.shape[axis] for axis in others)
        self.positive += (x > 0).sum(others).to(device)
        self.nan += x.isnan().sum(others).to(device)
        bounded = math.isfinite(ceiling)
        if bounded:
            self.saturated += (x >= ceiling).sum(others).to(device)
        part = x.nan_to_num(0, 0, 0).clamp_(min=0, max=ceiling if bounded else None)
        self.relu_sum += part.sum(others, dtype=self.real).to(device)

    def add_outputs(self, y: Tensor, others: list[int]) -> None:
        device = self.positive.device
        outputs = y.isfinite().sum(others, keepdim=True)
        missing = math.prod(y.shape[axis] for axis in others) - outputs
        y = y.to(self.real, copy=True).nan_to_num_(0, 0, 0)  # our own: the model's output stays as it is
        mean = y.sum(others, keepdim=True) / outputs.clamp(min=1)
        # The zeros in place of what is not finite stand mean^2 off; taking that off is cheaper than another mask.
        m2 = y.sub_(mean).square_().sum(others, keepdim=True).sub_(missing * mean.square()).clamp_(min=0)
        outputs, mean, m2 = (value.flatten().to(device) for value in (outputs, mean, m2))
        _, self.mean, self.m2 = merge_moments(
            (self.outputs.to(self.real), self.mean, self.m2), (outputs.to(self.real), mean, m2)
        )
        self.outputs += outputs

    def counts(self) -> Counts:
        names = ("positive", "nan", "saturated", "outputs", "mean", "m2", "relu_sum")
        return Counts(self.samples, self.calls, **{name: getattr(self, name).cpu().numpy() for name in names})


def _by_unit(x: Tensor, axis: int) -> tuple[Tensor, list[int]]:
    """Give the tensor with at least one axis beside that of the units, and those axes. A scalar is one unit."""
    x = x.detach()
    if x.ndim < 2:
        return x.reshape(1, -1), [0]
    return x, [other for other in range(x.ndim) if other != axis]


def _ceiling(module: nn.Module) -> float:
    return float(module.max_val) if isinstance(module, nn.ReLU6) else math.inf


def _site_names(sites: list[_Site]) -> dict[_Site, str]:
    """Name the sites: as the module where it has one place, else by what stands before it, else by width too."""

    def shared(name: str) -> list[_Site]:
        return [site for site in sites if site.name == name]

    names = {}
    for site in sites:
        text = site.name
        if len(shared(site.name)) > 1:
            text += f" after {site.feeder}" if site.feeder else " elsewhere"
            if sum(other.feeder == site.feeder for other in shared(site.name)) > 1:
                text += f" ({site.units} units)"
        names[site] = text
    return names


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
        inside = "" if first is batch else f" that starts with a {type(first).__name__}"
        raise TypeError(
            f"batch {number} is a {type(batch).__name__}{inside}: a batch must be a tensor, a tuple or list that "
            "starts with one, or a dict of keyword arguments (torch.from_numpy makes a tensor of an array)"
        )
    return [moved(first)], {}


def _refuse_compiled(model: nn.Module) -> None:
    for module in model.modules():
        if type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None:
            raise ValueError(
                f"the model is compiled by torch.compile ({type(module).__name__}), and compiled code passes hooks by: "
                "watch the model it was made from, uncompiled"
            )


def _nothing_to_watch(model: nn.Module) -> str:
    kinds = ", ".join(f"nn.{kind.__name__}" for kind in RECTIFIERS[:-1])
    text = (
        f"no rectifier to watch in {type(model).__name__}: among its {sum(1 for _ in model.modules())} modules is none "
        f"of {kinds}, those of leakyrelu.torch, or a subclass. Calls of functions such as F.relu are not seen: make "
        "them modules"
    )
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        text += ". The model is scripted, which hides its modules: watch the one it was scripted from"
    return text
