"""Means of what layers are called on and what they make, of the outputs of activations that the report measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from leakyrelu.torch.graph.call_arguments import reduced_axes
from leakyrelu.torch.graph.calls import Call, Value
from leakyrelu.torch.revival.operations import PRODUCTS, SUMS, NotRevivableError, computed, keeps_channels

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import nn

    from leakyrelu.diagnosis import layer as diagnosis
    from leakyrelu.torch.revival.layers import Layer


_DEEPEST = 100  # calls that are followed back


class Taken(NamedTuple):
    """What a layer is called on: its shape, the axis of its channels, and their means, if these are known.

    `exact` is whether they are no estimate.
    """

    shape: tuple[int, ...]
    axis: int
    means: Tensor | None
    exact: bool

    def made(self, module: nn.Module) -> tuple[Tensor, Tensor]:
        """Return the means of the channels that a layer makes of them, padding included, and which are exact.

        Those that are made of silent units alone, or of unknown ones, are as if all that they are made of were 1.
        """
        ones = torch.ones(self.shape[self.axis], dtype=torch.float64, device="cpu")
        guessed = self._made(module, ones)
        if self.means is None:
            return guessed, torch.zeros_like(guessed, dtype=torch.bool)
        made = self._made(module, self.means)
        known = made != self._made(module, torch.zeros_like(ones))
        return torch.where(known, made, guessed), known & self.exact

    def _made(self, module: nn.Module, means: Tensor) -> Tensor:
        size = [1 if place == 0 != self.axis else length for place, length in enumerate(self.shape)]
        x = means.reshape([-1 if place == self.axis else 1 for place in range(len(size))]).expand(size)
        x = x.to(next(module.parameters()))
        y = module.forward(x)
        if not isinstance(y, Tensor):  # a subclass whose forward method calls several layers of its weights
            plain: Any = next(kind for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn."))
            y = plain.forward(module, x)
        made: Tensor = y.detach().double().cpu().movedim(self.axis, 0).flatten(1).mean(1)
        return made


class Means:
    """Means along one axis of a tensor, over all data of the report, as far as they are known.

    They end at the activations of the report, and at the input of the network. `absent` are calls that count as 0; with
    them, what is not known is 0 where a layer takes it.
    """

    def __init__(
        self, layers: Mapping[Call, Layer], rows: Mapping[Call, diagnosis.Layer], absent: Collection[Call] = ()
    ) -> None:
        self._layers = layers
        self._rows = rows
        self._absent = absent
        self._known: dict[tuple[Call, int], Tensor | None] = {}
        self._estimated: set[Call | Value] = set()
        self._depth = 0

    def taken(self, call: Call) -> Taken:
        """Return what a layer is called on."""
        layer = self._layers[call]
        axis = layer.axis(len(layer.data.shape))
        means = self.of(layer.data, axis)
        return Taken(layer.data.shape, axis, means, layer.data not in self._estimated)

    def of(self, value: Call | Value, axis: int) -> Tensor | None:
        """Return the means along an axis of a tensor; None where they are not known."""
        if not isinstance(value, Call) or value.is_weight or axis >= len(value.shape) or self._depth > _DEEPEST:
            return None
        if (value, axis) not in self._known:
            self._depth += 1
            means = self._found(value, axis)
            self._depth -= 1
            rough = value.name in PRODUCTS or "max" in value.name.lower()
            if value.key is None and (rough or any(each in self._estimated for each in value.inputs)):
                self._estimated.add(value)
            finite = means is not None and bool(means.isfinite().all())
            self._known[value, axis] = means if finite else None
        return self._known[value, axis]

    def _found(self, value: Call, axis: int) -> Tensor | None:
        if value in self._absent:
            return torch.zeros(value.shape[axis], dtype=torch.float64)
        if value.key is not None:
            row = self._rows.get(value)
            known = row is not None and row.axis is not None and row.axis.axes == (axis,)
            return torch.from_numpy(row.output_mean.copy()) if row is not None and known else None
        if value not in self._layers:
            return self._passed(value, axis)
        return self._made(value, self._layers[value]) if axis == self._layers[value].axis(len(value.shape)) else None

    def _made(self, call: Call, layer: Layer) -> Tensor | None:
        taken = self.taken(call)
        if taken.means is None and self._absent:
            taken = taken._replace(means=torch.zeros(taken.shape[taken.axis], dtype=torch.float64))
        plain = isinstance(call.function, type) and not layer.computed
        module = layer.module if plain or layer.effective is not None else None
        if layer.kind in ("linear", "convolution", "transposed"):
            return taken.made(module)[0] if module is not None and taken.means is not None else None
        weight, bias, mean, variance = (
            tensor.detach().double().cpu() if (tensor := layer.tensors.get(name)) is not None else None
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        means = torch.zeros(call.shape[layer.axis(len(call.shape))], dtype=torch.float64)
        if mean is not None and variance is not None and taken.means is not None:
            means = (taken.means - mean) / (variance + layer.eps).sqrt() * (1.0 if weight is None else weight)
        return None if layer.is_mixing and not self._absent else means if bias is None else means + bias

    def _passed(self, call: Call, axis: int) -> Tensor | None:
        """Return the means behind a call that keeps or joins channels."""
        inputs = [each for each in call.inputs if not each.is_weight]
        if not inputs:  # a layer that is called on weights, such as a table of positions
            return None
        if call.name in SUMS and len(inputs) == 2 == len(call.inputs) and call.name.endswith("add"):
            first, second = (self.of(each, axis) if each.shape == call.shape else None for each in inputs)
            return first + second if first is not None and second is not None else None
        if call.name in PRODUCTS and len(inputs) == 2:  # with a gate, which changes no sign
            gated = [each for each in inputs if each.shape == call.shape]
            return next((means for each in gated if (means := self.of(each, axis)) is not None), None)
        if call.name in PRODUCTS | SUMS and len(call.inputs) == 1 and (means := self.of(inputs[0], axis)) is not None:
            return computed(call, None, means, NotRevivableError(""))  # with a number
        if call.name in ("cat", "concat", "concatenate"):
            place: Any = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else 0)
            parts = [means for each in inputs if (means := self.of(each, axis)) is not None]
            joined = place % len(call.shape) == axis and len(parts) == len(inputs)
            return torch.cat(parts) if joined else None
        if len(call.inputs) != 1 or (means := self.of(inputs[0], axis)) is None:
            return None
        if keeps_channels(call.name) or (call.name == "mean" and min(reduced_axes(call) or (0,)) > axis):
            return means
        if (
            call.name == "getitem"
            and isinstance(parts := call.args[1], tuple)
            and len(call.shape) == len(inputs[0].shape)
        ):
            part = parts[axis] if axis < len(parts) else slice(None)
            return means[part] if Ellipsis not in parts and isinstance(part, slice) else None
        flat = call.name in ("flatten", "Flatten", "reshape", "view") and axis == 1 and len(call.shape) == 2
        return means.repeat_interleave(call.shape[1] // len(means)) if flat else None
