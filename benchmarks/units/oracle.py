"""Oracle of the unit axes of a network, by measurement alone: it reads no graph and nothing of leakyrelu.

Rectifiers are observed as operators, below the functions and modules that call them. The parameters of one output
channel of a layer are changed, and where the input of a rectifier differs tells which of its axes hold the channels of
that layer: the axes along which the difference is confined to one index that moves with the channel. Of all layers for
which there are such axes, the one that ran last before the rectifier feeds it.
"""

from __future__ import annotations

import math
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ANY_ARGUMENTS = ("relu", "leaky_relu", "prelu", "_prelu_kernel", "rrelu_with_noise", "threshold")
_FROM_ZERO = ("clamp", "clamp_min", "hardtanh")
REVISION = 3
"""Number of this oracle; of another, what was found before counts no more."""
STRONG = 0.3
"""Share of the largest difference from which on a difference counts, where the channels are mixed."""
NEAREST = 24
"""How many of the layers that ran last before a rectifier are tried."""
DEAD = -100.0
"""Value of the channels that are planted dead; what is added to them behind the layer must not outweigh it."""


class Feeder(NamedTuple):
    """The layer that feeds a rectifier, and the axes of the rectifier's input that hold its output channels."""

    layer: str
    axes: tuple[int, ...]


@dataclass(eq=False)
class Call:
    """One call of a rectifier: the shape of its input, where that was positive, and which layers ran before it."""

    shape: tuple[int, ...]
    positive: Tensor
    before: list[str]
    feeder: Feeder | None = None

    def units(self, axes: tuple[int, ...]) -> int:
        """Return how many units there are on these axes; 0 where there are no such axes."""
        return math.prod(self.shape[axis] for axis in axes) if all(axis < len(self.shape) for axis in axes) else 0

    def counts(self, axes: tuple[int, ...]) -> list[int]:
        """Count the positive inputs of each unit, where the units lie on these axes; the first counts slowest."""
        others = [axis for axis in range(len(self.shape)) if axis not in axes]
        ordered = self.positive.permute([*axes, *others]) if self.shape else self.positive
        return [int(count) for count in ordered.reshape(self.units(axes), -1).sum(1)]


def _rectifies(func: Any, args: Any, kwargs: Any) -> bool:
    name = func.overloadpacket.__name__.removesuffix("_")
    if name in _ANY_ARGUMENTS:
        return True
    if name not in _FROM_ZERO:
        return False
    low = args[1] if len(args) > 1 else kwargs.get("min", kwargs.get("min_val"))
    high = args[2] if len(args) > 2 else kwargs.get("max", kwargs.get("max_val"))
    return isinstance(low, int | float) and low == 0 and (high is None or high > 0)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Mode that gives the input of each rectifier to a function, before the operator runs."""

    def __init__(self, on_call: Callable[[Tensor], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.on_call = on_call

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _rectifies(func, args, kwargs) and args[0].is_floating_point():
            self.on_call(args[0].detach())
        return func(*args, **kwargs)


class _EnoughError(Exception):
    """End of a run of which no more is asked."""


class Oracle:
    """The rectifiers of a model on one batch: each call and the axes of its units."""

    def __init__(self, model: nn.Module, run: Callable[[], object]) -> None:
        self.model = model.eval()
        self.run = run
        self.channels = {name: found for name, module in model.named_modules() if (found := _channels(module))}
        self.inputs: list[Tensor] = []
        self.calls = self._record()
        self._effects: dict[tuple[str, int, float], list[list[Tensor] | None]] = {}

    def _record(self) -> list[Call]:
        """Run the model, and note its calls and which layers ran before each."""
        ran: list[str] = []
        calls: list[Call] = []
        self.inputs = []

        def on_call(x: Tensor) -> None:
            before = list(dict.fromkeys(reversed(ran)))[:NEAREST]
            calls.append(Call(tuple(x.shape), x > 0, before))
            self.inputs.append(x.clone())

        def enter(name: str) -> Callable[..., None]:
            # A layer whose parameters are used without a call of it ran when the module around it did.
            inside = [
                child for child in self.channels if child.startswith(f"{name}." if name else "") and child not in own
            ]
            names = [*inside, name] if name in self.channels else inside
            return lambda *_: ran.extend(names)

        called = self._called()
        own = {name for name in self.channels if name in called}
        handles = [
            module.register_forward_pre_hook(enter(name))
            for name, module in self.model.named_modules()
            if name in called
        ]
        try:
            self._observe(on_call)
        finally:
            for handle in handles:
                handle.remove()
        return calls

    def _called(self) -> set[str]:
        called: set[str] = set()
        handles = [
            module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
            for name, module in self.model.named_modules()
        ]
        self._observe(lambda x: None)
        for handle in handles:
            handle.remove()
        return called

    def _observe(self, on_call: Callable[[Tensor], None]) -> None:
        fast_path = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # one operator in place of a layer, its rectifier included
        try:
            with torch.no_grad(), _Recorder(on_call):
                self.run()
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)

    def find_feeders(self) -> None:
        """Find the layer that feeds each call, where the channels of one stand apart in its input."""
        for index, call in enumerate(self.calls):
            for share in (0.0, STRONG):
                found = ((name, self._axes(name, index, share)) for name in call.before)
                call.feeder = call.feeder or next((Feeder(name, axes) for name, axes in found if axes), None)

    def _axes(self, name: str, index: int, share: float) -> tuple[int, ...]:
        """Return the axes of the input of a call that hold the channels of a layer; none where they are mixed."""
        count = self.channels[name]
        shape = self.calls[index].shape
        tried = [0, count // 2, count - 1]
        effects = [self._effect(name, channel, index, share) for channel in tried]
        apart = [effect is not None and any(len(each) == 1 for each in effect) for effect in effects]
        if not all(apart):
            if share or None not in effects:
                return ()
            # Some channels lead nowhere, such as those of the values; the first of each head are not enough.
            tried += [
                min(each, count - 1)
                for third in (0, count // 3, 2 * count // 3)
                for each in (third + 1, third + 2, third + count // 6 + 1)
            ]
        found: list[dict[int, int]] = []
        for channel in dict.fromkeys(tried):
            effect = self._effect(name, channel, index, share)
            if effect is None:
                continue
            alone = {axis for axis, each in enumerate(effect) if len(each) == 1 and shape[axis] > 1}
            if not alone:
                continue
            found.append({axis: int(effect[axis][0]) for axis in alone})
        confined = sorted(set.intersection(*map(set, found))) if found else []
        axes = tuple(axis for axis in confined if len({places[axis] for places in found}) > 1)
        # Where all mix, a few elements may still change along one index by chance.
        apart_by_channel = len({tuple(places[axis] for axis in axes) for places in found}) == len(found)
        return axes if apart_by_channel else ()

    def _effect(self, name: str, channel: int, index: int, share: float) -> list[Tensor] | None:
        """Return the indices along each axis of the input of a call where it follows a channel of a layer."""
        known = self._effects.get((name, channel, share), [])
        if index >= len(known):
            known = self._effects[name, channel, share] = self._effects_until(name, channel, index + 2, share)
        return known[index] if index < len(known) else None

    def _effects_until(self, name: str, channel: int, last: int, share: float) -> list[list[Tensor] | None]:
        effects: list[list[Tensor] | None] = []

        def on_call(x: Tensor) -> None:
            before = self.inputs[len(effects)]
            if before.shape != x.shape or torch.equal(before, x):
                effects.append(None)
            else:
                differences = (before - x).abs().nan_to_num()
                places = (differences > share * differences.max()).nonzero()
                effects.append([torch.unique(places[:, axis]) for axis in range(x.ndim)])
            if len(effects) > last or len(effects) == len(self.inputs):
                raise _EnoughError

        with self._changed(name, channel, 1.5, 0.25), suppress(_EnoughError):
            self._observe(on_call)
        return effects

    @contextmanager
    def _changed(self, name: str, channel: int, factor: float, offset: float) -> Iterator[None]:
        parameters = _of_channels(self.model.get_submodule(name), self.channels[name])
        kept = [parameter.detach().clone() for parameter, _ in parameters]
        try:
            with torch.no_grad():
                for parameter, axis in parameters:
                    part = parameter.select(axis, channel)
                    part.mul_(factor if parameter.ndim == 1 else -factor).add_(offset if parameter.ndim == 1 else 0)
            yield
        finally:
            with torch.no_grad():
                for (parameter, _), before in zip(parameters, kept, strict=True):
                    parameter.copy_(before)

    def plant(self) -> None:
        """Set channels of the layers that feed rectifiers to a negative constant, one in eight and one at least."""
        for name in dict.fromkeys(call.feeder.layer for call in self.calls if call.feeder is not None):
            module, count = self.model.get_submodule(name), self.channels[name]
            weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
            if not isinstance(bias, Tensor) or bias.shape != (count,) or not isinstance(weight, Tensor):
                continue  # it cannot be made a constant
            dead = range(1 if count > 1 else 0, count, 8)
            with torch.no_grad():
                for parameter, axis in _of_channels(module, count):
                    for channel in dead:
                        parameter.select(axis, channel).fill_(DEAD if parameter is bias else 0.0)
        feeders = [call.feeder for call in self.calls]
        self.calls = self._record()
        for call, feeder in zip(self.calls, feeders, strict=True):
            call.feeder = feeder


def _channels(module: nn.Module) -> int:
    """Return the number of output channels of a layer by its own parameters; 0 where it has none."""
    sizes = [parameter.shape[axis] for parameter, axis in _own(module)]
    return max(set(sizes), key=sizes.count) if sizes else 0


def _own(module: nn.Module) -> list[tuple[Tensor, int]]:
    """List the parameters of a module itself, and the axis of each that holds the output channels."""
    across = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Embedding)
    across = across or type(module).__name__ == "Conv1D"  # of transformers: a linear layer, inputs first
    return [
        (parameter, 1 if across and parameter.ndim > 1 else 0)
        for parameter in module.parameters(recurse=False)
        if parameter.ndim > 0 and parameter.is_floating_point()
    ]


def _of_channels(module: nn.Module, count: int) -> list[tuple[Tensor, int]]:
    return [(parameter, axis) for parameter, axis in _own(module) if parameter.shape[axis] == count]


def scatter(model: nn.Module, generator: torch.Generator) -> None:
    """Give parameters and statistics that are constant random values, so that no branch is switched off by a zero."""
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point() and tensor.numel() > 1 and bool((tensor == tensor.reshape(-1)[0]).all()):
                change = torch.rand(tensor.shape, generator=generator).to(tensor) * 0.2 + 0.05
                tensor.add_(-change if name.endswith("running_mean") else change)  # a mean is subtracted
