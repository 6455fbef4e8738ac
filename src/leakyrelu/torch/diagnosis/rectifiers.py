"""Rectifiers of PyTorch: modules, functions and operators, each read as the same few numbers.

All of them are three straight pieces: a slope (or a constant) up to a threshold, the input itself above it, and
perhaps a ceiling. So whatever is asked of the output follows from counts and moments of the input, piece by piece, and
the output need not be read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from leakyrelu.torch.activations.layers import CenteredLeakyReLU
from leakyrelu.torch.graph.functions import functions_named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Reader = Callable[[tuple[Any, ...], Mapping[str, Any]], "Rectifier | None"]


RECTIFIERS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ReLU6, nn.Threshold, CenteredLeakyReLU)
"""Modules that are watched, subclasses too (`leakyrelu.torch.LeakyReLU` is one)."""


KINDS = frozenset(kind.__name__ for kind in RECTIFIERS)
"""Names of these modules."""


class Rectifier(NamedTuple):
    """A rectifier: x above `low` and below `ceiling`, the ceiling from there on, and slope * x (or `rest`) up to `low`.

    The output is (that - shift) / scale. `slope_variance` is that of a slope drawn at random for each element.
    """

    kind: str
    slope: float | Tensor = 0.0
    rest: float | None = None
    low: float = 0.0
    ceiling: float = math.inf
    slope_variance: float = 0.0
    shift: float = 0.0
    scale: float = 1.0
    slope_axis: int = 1  # where an input has the units that have a slope each

    @property
    def is_leaky_relu(self) -> bool:
        """Whether it is a ReLU or a Leaky ReLU, by the name of its function: another slope could stand in it."""
        return (
            self.kind in ("relu", "leaky_relu", "clamp", "threshold")
            and self.rest in (None, 0.0)
            and self.low == 0.0
            and self.ceiling == math.inf
        )

    @property
    def slope_per_unit(self) -> bool:
        """Whether each unit has a slope of its own, which puts the units on `slope_axis`."""
        return isinstance(self.slope, Tensor) and self.slope.numel() > 1


class InputProbe(nn.ReLU):
    """Module for one call of a rectifier: it is called with the input of the rectifier and returns it.

    `source` is file and line of the call, as far as they are known.
    """

    def __init__(self, rectifier: Rectifier, source: str = "") -> None:
        super().__init__()
        self.rectifier = rectifier
        self.source = source

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` as it is."""
        return x


_RELU = Rectifier("ReLU", rest=0.0)


def rectifier_of(module: nn.Module) -> Rectifier:
    """Read a module of `RECTIFIERS`."""
    if type(module) is nn.ReLU:
        return _RELU
    if isinstance(module, InputProbe):
        return module.rectifier
    kind = type(module).__name__
    if isinstance(module, nn.RReLU):
        return _random(kind, module.lower, module.upper, module.training)
    if isinstance(module, nn.PReLU):
        return Rectifier(kind, module.weight.detach())
    if isinstance(module, nn.ReLU6):
        return Rectifier(kind, rest=0.0, ceiling=float(module.max_val))
    if isinstance(module, nn.Threshold):
        return Rectifier(kind, rest=float(module.value), low=float(module.threshold))
    if isinstance(module, CenteredLeakyReLU):
        return Rectifier(kind, module.negative_slope, shift=module._mean, scale=module._std)
    if isinstance(module, nn.LeakyReLU):
        return Rectifier(kind, float(module.negative_slope))
    return Rectifier(kind, rest=0.0)


def _random(kind: str, lower: float, upper: float, training: bool) -> Rectifier:
    return Rectifier(kind, (lower + upper) / 2, slope_variance=(upper - lower) ** 2 / 12 if training else 0.0)


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], index: int, name: str, default: Any) -> Any:
    return args[index] if len(args) > index else kwargs.get(name, default)


_RELU_CALL = Rectifier("relu", rest=0.0)
_RELU6_CALL = Rectifier("relu6", rest=0.0, ceiling=6.0)


def _leaky_relu(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Rectifier | None:
    return Rectifier("leaky_relu", float(_argument(args, kwargs, 1, "negative_slope", 0.01)))


def _prelu(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Rectifier | None:
    weight = _argument(args, kwargs, 1, "weight", None)
    return Rectifier("prelu", weight.detach().flatten()) if isinstance(weight, Tensor) else None


def _rrelu(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Rectifier | None:
    lower = _argument(args, kwargs, 1, "lower", 1 / 8)
    upper = _argument(args, kwargs, 2, "upper", 1 / 3)
    return _random("rrelu", float(lower), float(upper), bool(_argument(args, kwargs, 3, "training", False)))


def _threshold(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Rectifier | None:
    low, value = _argument(args, kwargs, 1, "threshold", None), _argument(args, kwargs, 2, "value", None)
    return None if low is None or value is None else Rectifier("threshold", rest=float(value), low=float(low))


def _hardtanh(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Rectifier | None:
    low, high = _argument(args, kwargs, 1, "min_val", -1.0), _argument(args, kwargs, 2, "max_val", 1.0)
    return _between("hardtanh", low, high)


def _clamp(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Rectifier | None:
    return _between("clamp", _argument(args, kwargs, 1, "min", None), _argument(args, kwargs, 2, "max", None))


def _between(kind: str, low: Any, high: Any) -> Rectifier | None:
    """Read a clamp. One from 0 rectifies; one from another number limits values and is no rectifier."""
    numbers = isinstance(low, float | int) and (high is None or isinstance(high, float | int))
    if not numbers or low != 0 or (high is not None and high <= 0):
        return None
    return Rectifier(kind, rest=0.0, ceiling=math.inf if high is None else float(high))


READERS: dict[str, Reader] = {
    "relu": lambda args, kwargs: _RELU_CALL,
    "relu6": lambda args, kwargs: _RELU6_CALL,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "rrelu": _rrelu,
    "threshold": _threshold,
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp,
}
"""Readers of the arguments of functions that can rectify, by name."""


FUNCTIONS: dict[Any, Reader] = {
    function: reader
    for name, reader in READERS.items()
    for spelling in (name, f"{name}_")
    for function in functions_named(spelling)
}
"""Readers of every function, method and operator that can rectify."""
