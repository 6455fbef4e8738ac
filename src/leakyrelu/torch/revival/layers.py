"""Layers with weights, as they were called: the tensors of weights, and which of their entries are those of a unit."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leakyrelu.torch.graph.calls import Call, Value
from leakyrelu.torch.revival.operations import NotRevivableError, described

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_KINDS: tuple[tuple[Any, str], ...] = (
    (nn.Linear, "linear"),
    (TRANSPOSED, "transposed"),
    (_CONVOLUTIONS, "convolution"),
    ((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm), "batch_norm"),
    ((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), "instance_norm"),
    (nn.GroupNorm, "group_norm"),
    (nn.LayerNorm, "layer_norm"),
    (nn.RMSNorm, "rms_norm"),
)
_FUNCTIONS = {
    "linear": "linear",
    **{f"conv{d}d": "convolution" for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": "transposed" for d in (1, 2, 3)},
    **{name: name for name in ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm")},
}
# Arguments, where the function is one in C, which has no signature.
_ARGUMENTS = {
    "linear": "input weight bias",
    **{f"conv{d}d": "input weight bias stride padding dilation groups" for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": "input weight bias stride padding output_padding groups dilation" for d in (1, 2, 3)},
    "batch_norm": "input weight bias running_mean running_var training momentum eps",
    "instance_norm": "input weight bias running_mean running_var use_input_stats momentum eps",
    "group_norm": "input num_groups weight bias eps",
    "layer_norm": "input normalized_shape weight bias eps",
    "rms_norm": "input normalized_shape weight eps",
}
NORMS = frozenset(("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"))
_CASTS = frozenset(("to", "float", "half", "double", "bfloat16", "type", "contiguous", "detach", "alias", "clone"))


class Layer(NamedTuple):
    """One call of a layer.

    Parameters
    ----------
    kind
        "linear", "convolution", "transposed", or the name of a normalization.
    name
        For messages.
    data
        What it is called on.
    module
        The module that holds the weights; None for weights that no module of a known kind holds.
    tensors
        weight, bias, running_mean and running_var, as far as there are any.
    computed
        Why the weights cannot be set, if they are computed of others; else empty.
    groups
        Of a convolution or group norm.
    eps, padded
        Of a normalization; whether a convolution pads.
    effective
        Computes the weights of such tensors, if they are computed of the `weight` and `gain` of `tensors`.
    centered
        Whether the mean of each row is taken off then; otherwise they are those of a weight norm.
    """

    kind: str
    name: str
    data: Call | Value
    module: nn.Module | None
    tensors: dict[str, Tensor]
    computed: str
    groups: int
    eps: float
    padded: bool
    effective: Callable[[Tensor, Tensor], Tensor] | None = None
    centered: bool = True

    @property
    def key(self) -> int:
        """Identity of the layer, whichever call it is."""
        weight = self.tensors.get("weight")
        return id(self.module if weight is None else weight)

    def channels(self, shape: tuple[int, ...]) -> Tensor:
        """Label the channels that a call made, from 1 on, in the shape of its result."""
        axis = self.axis(len(shape))
        numbers = torch.arange(1.0, shape[axis] + 1)
        return numbers.reshape([-1 if place == axis else 1 for place in range(len(shape))]).expand(shape)

    def axis(self, dimensions: int) -> int:
        """Return the axis of the channels, of what it is called on and of what it makes."""
        if self.kind in ("linear", "layer_norm", "rms_norm"):
            return dimensions - 1
        if self.kind in NORMS or self.module is None:
            return 1
        weight: Any = self.tensors["weight"]
        return int(dimensions - weight.ndim + 1)  # a sample may come without its batch axis

    @property
    def is_mixing(self) -> bool:
        """Whether the statistics of a normalization are those of several channels together."""
        return self.kind in ("layer_norm", "rms_norm") or (self.kind == "group_norm" and self.groups == 0)

    def rows(self, units: Tensor) -> dict[str, Tensor]:
        """Label the entries of each tensor that make the channels, which are labeled in a vector."""
        found = dict.fromkeys(self.tensors, units)
        if self.kind == "transposed":
            inputs, outputs = self.tensors["weight"].shape[:2]
            grouped = units.reshape(self.groups, 1, outputs).expand(-1, inputs // self.groups, -1)
            found["weight"] = _labels(grouped.reshape(inputs, outputs), self.tensors["weight"])
        elif self.kind not in NORMS:
            for name in ("weight", "gain"):
                if name in found:
                    found[name] = _labels(units[:, None], self.tensors[name])
        return found

    def columns(self, units: Tensor) -> Tensor:
        """Label the entries of the weight that take the channels, which are labeled in a vector."""
        weight = self.tensors["weight"]
        if self.kind == "linear":
            return _labels(units[None], weight)
        if self.kind == "transposed":
            return _labels(units[:, None], weight)
        outputs, inputs = weight.shape[:2]
        grouped = units.reshape(self.groups, 1, inputs).expand(-1, outputs // self.groups, -1)
        return _labels(grouped.reshape(outputs, inputs), weight)


def _labels(units: Tensor, weight: Tensor) -> Tensor:
    return units.reshape(*units.shape, *(1,) * (weight.ndim - units.ndim)).expand(weight.shape)


class Tensors(NamedTuple):
    """Modules, parameters and buffers of a model by name."""

    modules: Mapping[str, nn.Module]
    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module) -> Tensors:
        """Collect those of a model."""
        named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        return cls(dict(model.named_modules(remove_duplicate=False)), dict(named))

    def module(self, call: Call) -> nn.Module | None:
        """Return the layer that was called, for one that was not looked into."""
        if not isinstance(call.function, type):
            return None
        module = self.modules.get(call.module) if call.module != call.name else None
        if module is None:
            module = self.modules.get(call.module, self.modules[""])
        if type(module) is not call.function:
            raise NotRevivableError(f"the report is of another model: {call.module} is no {call.name} here")
        return module

    def layer(self, call: Call) -> Layer | None:
        """Read a call of a layer with weights, or of a normalization; None for any other call."""
        if call.is_weight or call.output is not None:
            return None
        module = self.module(call)
        if module is not None:
            kind = next((kind for kinds, kind in _KINDS if isinstance(module, kinds)), "")
            return _of_module(kind, call, module) if kind else None
        kind = _FUNCTIONS.get(call.name, "")
        return self._of_function(kind, call) if kind else None

    def is_frozen_scale(self, call: Call) -> bool:
        """Whether a call is the product within a batch norm that is frozen, ``x * scale + bias`` of its buffers."""
        frozen = type(self.modules.get(call.module)).__name__ == "FrozenBatchNorm2d"
        return frozen and call.name == "mul" and len(call.inputs) == 2 and not call.is_weight

    def frozen(self, call: Call) -> Layer | None:
        """Read the sum of a batch norm that is frozen, as a batch norm that takes what its product takes."""
        scaled = call.inputs[0] if call.inputs else None
        if call.name != "add" or not isinstance(scaled, Call) or scaled.module != call.module:
            return None
        return _of_module("batch_norm", scaled, self.modules[call.module]) if self.is_frozen_scale(scaled) else None

    def _own(self, weight: Call, name: str) -> dict[str, Tensor] | None:
        """Return the weight and gain of a module of which weights of rows with a gain are computed."""
        owner = self.modules.get(name)
        raw: Any = getattr(owner, "weight", None)
        gain: Any = getattr(owner, "gain", None)
        if weight.name == "weight_norm" and weight.args[2:] in ((), (0,)):
            raw, gain = (self.tensors.get(getattr(each, "name", "")) for each in weight.args[:2])
        both = isinstance(raw, nn.Parameter) and isinstance(gain, nn.Parameter)
        fits = both and tuple(raw.shape) == weight.shape and gain.numel() == raw.shape[0]
        return {"weight": raw, "gain": gain} if fits else None

    def evaluated(self, value: Any, given: Mapping[int, Tensor]) -> Any:
        """Compute a tensor that was computed of weights alone, of the present ones or those given in their place.

        `given` is by identity of the tensor.
        """
        if isinstance(value, tuple):
            return tuple(self.evaluated(each, given) for each in value)
        if isinstance(value, Value):
            return given.get(id(self.tensors[value.name]), self.tensors[value.name])
        if not isinstance(value, Call):
            return value
        kwargs = {name: self.evaluated(each, given) for name, each in value.kwargs.items()}
        result = value.function(*self.evaluated(value.args, given), **kwargs)
        return result if value.output is None else result[value.output]

    def _of_function(self, kind: str, call: Call) -> Layer | None:
        if getattr(F, call.name) is call.function and inspect.isfunction(call.function):
            names = list(inspect.signature(call.function).parameters)
        else:
            names = _ARGUMENTS[call.name].split()
        given: dict[str, Any] = {**dict(zip(names, call.args, strict=False)), **call.kwargs}
        if not isinstance(given.get("input"), Call | Value) or given["input"].is_weight:
            return None
        tensors, computed, holder = {}, "", ""
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = given.get(name)
            if not isinstance(value, Call | Value):
                continue
            if not value.is_weight:
                return None  # weights that are made of data
            while isinstance(value, Call) and value.name in _CASTS:
                value = value.inputs[0]
            if isinstance(value, Call) or value.name not in self.tensors:
                computed = f"computed by {described(value)}" if isinstance(value, Call) else "not the model's"
                tensors[name] = torch.empty(value.shape, device="meta")
                continue
            tensors[name] = self.tensors[value.name]
            if name == "weight":
                holder = value.name.rpartition(".")[0]
        module = self.modules.get(holder) if "weight" in tensors and not computed else None
        if module is not None and not any(tensors["weight"] is each for each in module.parameters(recurse=False)):
            module = None
        if isinstance(weight := given.get("weight"), Call) and (own := self._own(weight, call.module)) is not None:
            tensors |= own
            if kind in ("linear", "convolution") and not any(tensor.is_meta for tensor in tensors.values()):
                keys = id(own["weight"]), id(own["gain"])
                return Layer(
                    *(kind, call.module, given["input"], self.modules[call.module], tensors, computed),
                    *(given.get("groups", 1), 0.0, False),
                    effective=lambda *both: self.evaluated(weight, dict(zip(keys, both, strict=True))),
                    centered=weight.name != "weight_norm",
                )
        path = holder or call.module or call.name
        if kind not in NORMS and "weight" not in tensors:
            return None
        if (owner := self.modules.get(call.module)) is not None and torch.nn.utils.parametrize.is_parametrized(owner):
            computed = "parametrized"
        groups = given.get("groups", 1)
        if kind == "group_norm":
            groups = _apart(given["num_groups"], given["input"].shape)
        padding = given.get("padding", 0)
        padded = any(padding) if isinstance(padding, tuple) else padding not in (0, "valid")
        eps = given.get("eps")
        return Layer(
            kind, path, given["input"], module, tensors, computed, groups, 1e-5 if eps is None else eps, padded
        )


def _of_module(kind: str, call: Call, module: Any) -> Layer:
    tensors = {
        name: tensor
        for name in ("weight", "bias", "running_mean", "running_var")
        if isinstance(tensor := getattr(module, name, None), Tensor)
    }
    computed = ""
    if torch.nn.utils.parametrize.is_parametrized(module) or hasattr(module, "weight_g"):
        computed = "parametrized"
    groups = getattr(module, "groups", 1)
    data = call.inputs[0]
    raw, gain = getattr(module, "weight_v", None), getattr(module, "weight_g", None)
    if kind in ("linear", "convolution") and raw is not None and gain is not None and gain.numel() == raw.shape[0]:
        tensors |= {"weight": raw, "gain": gain}
        return Layer(
            *(kind, call.module, data, module, tensors, computed, groups, 0.0, False),
            effective=lambda weight, gain: gain * weight / weight.flatten(1).norm(dim=1).reshape(gain.shape),
            centered=False,
        )
    if kind == "group_norm":
        groups = _apart(module.num_groups, data.shape)
    padding = getattr(module, "padding", 0)
    padded = any(padding) if isinstance(padding, tuple) else padding not in (0, "valid")
    return Layer(
        kind, call.module, data, module, tensors, computed, groups, getattr(module, "eps", None) or 0.0, padded
    )


def _apart(groups: int, shape: tuple[int, ...]) -> int:
    """Return the groups of a group norm where each is one channel, otherwise 0."""
    return groups if shape[1:2] == (groups,) else 0
