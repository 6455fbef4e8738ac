"""Operations on the units of a layer: what becomes of units, and of the constant each gives out, in each call."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from leakyrelu.torch.graph.call_arguments import reduced_axes
from leakyrelu.torch.graph.calls import Call, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Way = Literal["zero", "linear", "own", "joined"]
"""What is asked of the calls that units pass: that silent units stay constant, that they are linear in each unit, only
that each unit stays apart from the others, or not even from other branches that a sum joins with it."""


OTHER = -1.0
"""Label of numbers that are of no unit asked for."""


class NotRevivableError(Exception):
    """The reason why units of a layer are left: those of these numbers, or all without."""

    def __init__(self, reason: str, units: Iterable[int] = ()) -> None:
        super().__init__(reason)
        self.units = frozenset(units)


class ApartError(NotRevivableError):
    """The reason why some units are left, unless they are followed apart from the others."""


class CarrierNeededError(NotRevivableError):
    """The reason why units that give out a constant are left, unless one of them gives it out for the others."""


class Marks(NamedTuple):
    """Where units lie in a tensor, and what they give out there.

    `labels` has the shape of the tensor: 1 + the number of the unit, `OTHER` for other data, 0 where padding put 0.
    `constants` holds a number for each unit. `scale` is what numbers multiplied them by. `summed` is the reason to
    leave them, if a sum with another branch goes into anything but silent units; `chained` is whether it went there.
    """

    labels: Tensor
    constants: Tensor
    scale: float = 1.0
    summed: str = ""
    chained: bool = False

    @property
    def units(self) -> frozenset[int]:
        """Numbers of the units that lie there."""
        labels = self.labels
        for axis in range(labels.ndim):
            if labels.stride(axis) == 0 and labels.shape[axis]:
                labels = labels.narrow(axis, 0, 1)
        return frozenset(int(label) - 1 for label in set(labels.flatten().tolist()) if label > 0)


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_MOVES = _names(
    "reshape reshape_as flatten unflatten view view_as unsafe_view squeeze unsqueeze ravel Flatten Unflatten permute "
    "transpose swapaxes swapdims mT mH adjoint t T H numpy_T movedim moveaxis expand expand_as broadcast_to repeat "
    "tile repeat_interleave cat concat concatenate stack narrow chunk split split_with_sizes tensor_split unsafe_chunk "
    "unsafe_split select unbind getitem roll flip pixel_shuffle PixelShuffle pixel_unshuffle PixelUnshuffle "
    "channel_shuffle native_channel_shuffle pad ZeroPad2d unfold"
)
_SAME = _names(
    "to float half double bfloat16 type type_as cpu cuda requires_grad detach data alias contiguous clone positive "
    "dropout dropout1d dropout2d dropout3d feature_dropout Dropout Dropout1d Dropout2d Dropout3d Identity"
)
_ALONE = _names(  # functions of each number alone
    "neg negative abs absolute square sqrt exp exp2 expm1 log1p sin cos tan tanh arctan atan sigmoid erf erfc pow "
    "round floor ceil trunc clamp clip clamp_min clamp_max relu leaky_relu rrelu relu6 threshold hardtanh elu selu "
    "celu gelu silu mish softplus softsign hardswish hardsigmoid logsigmoid tanhshrink softshrink hardshrink Sigmoid "
    "Tanh GELU SiLU ELU SELU Softplus Hardswish Hardsigmoid Mish"
)
PRODUCTS = _names("mul rmul imul multiply div idiv divide truediv itruediv true_divide")
SUMS = _names("add radd iadd sub rsub isub subtract")
_MEANS = _names("mean sum")
_REDUCTIONS = _MEANS | {"amax", "amin", "max", "min", "norm", "std", "var"}
_LINEAR_WINDOWS = ("avg_pool", "AvgPool", "adaptive_avg_pool", "AdaptiveAvgPool")
_WINDOWS = (*_LINEAR_WINDOWS, "max_pool", "MaxPool", "adaptive_max_pool", "AdaptiveMaxPool", "lp_pool")
_RESIZED = frozenset(("interpolate", "upsample", "Upsample", "upsample_nearest", "upsample_bilinear"))


def described(call: Call | Value) -> str:
    """Name a call for a message: the layer, or the function and the module that calls it."""
    if isinstance(call, Value):
        return call.name or "the network's input"
    if isinstance(call.function, type):
        return call.module or call.name
    return f"{call.name}()" + (f" in {call.module}" if call.module else "")


def origin(value: Call | Value) -> str:
    """Name what feeds a tensor."""
    sources = " and ".join(value.sources[:2])
    return sources or described(value)


def passed(
    call: Call, marks: Mapping[Call | Value, Marks], way: Way, module: nn.Module | None, in_front: bool
) -> Marks:
    """Return where units lie behind a call, and what they give out; `NotRevivableError` where that may not be.

    `module` is the layer that was called, for one that was not looked into; `in_front` is whether the call stands in
    front of the activation.
    """
    before = [marks[each] for each in dict.fromkeys(call.inputs) if each in marks]
    first = before[0]._replace(
        summed=next((each.summed for each in before if each.summed), ""),
        chained=any(each.chained for each in before),
    )
    where = described(call)
    refusal = NotRevivableError(
        f"they come out of {where}, not out of a layer" if in_front else f"their output goes into {where}"
    )
    name = call.name
    constants = first.constants
    if any(not torch.equal(each.constants, constants) for each in before):
        raise refusal
    if name in _MOVES:
        return first._replace(labels=_moved(call, marks, module, refusal))
    if name in _SAME:
        return first
    kind = name.partition("_with")[0].rstrip("123d")
    if kind in _WINDOWS or name in _RESIZED:
        if call.output:  # the places of maxima
            raise refusal
        folds = way in ("own", "joined") or kind in _LINEAR_WINDOWS[2:] or not bool(constants.any())
        if kind in _WINDOWS and not folds:
            raise NotRevivableError(f"the mean cannot be folded through {where}")
        if way == "linear" and kind in _WINDOWS and kind not in _LINEAR_WINDOWS:
            raise NotRevivableError(f"between them and their weights stands {where}, which is not linear")
        dimensions = int(name.partition("d_with")[0].rstrip("d")[-1]) if kind in _WINDOWS else len(call.shape) - 2
        labels = _one_place(first.labels, range(len(call.shape) - dimensions, len(call.shape)), where)
        return first._replace(labels=labels.expand(call.shape))
    if name in _REDUCTIONS and len(call.inputs) == 1 and not call.output:
        axes = reduced_axes(call)
        if axes is None or (way == "linear" and name not in _MEANS) or (name != "mean" and bool(constants.any())):
            raise refusal
        labels = _one_place(first.labels, axes, where)
        return first._replace(labels=labels.reshape(call.shape))
    numbers = len(call.inputs) == 1
    if name in PRODUCTS | SUMS and len(call.inputs) == 2:
        labels, summed = _joined(call, marks, way, in_front, refusal)
        return first._replace(labels=labels, summed=first.summed or summed)
    if name in PRODUCTS and numbers:
        factor = computed(call, None, torch.ones(1, dtype=torch.float64), refusal).item() if in_front else 1.0
        return first._replace(constants=computed(call, module, constants, refusal), scale=first.scale * factor)
    rectifies = call.key is not None or name == "prelu"
    if (name in _ALONE or name in SUMS or rectifies) and call.shape == tuple(first.labels.shape):
        if way == "linear" and name not in ("neg", "negative"):
            raise NotRevivableError(f"between them and their weights stands {where}, which is not linear")
        if rectifies and not numbers and bool(constants.any()) and way == "zero":
            raise refusal
        exact = numbers and way == "zero"
        return first._replace(constants=computed(call, module, constants, refusal)) if exact else first
    raise refusal


def _joined(
    call: Call, marks: Mapping[Call | Value, Marks], way: Way, in_front: bool, refusal: NotRevivableError
) -> tuple[Tensor, str]:
    """Follow units through a sum or product of two tensors; return where they lie, and what joined another branch."""
    both = [marks[each].labels.broadcast_to(call.shape) for each in call.inputs if each in marks]
    other = next((each for each in call.inputs if each not in marks), None)
    if call.name in PRODUCTS:
        if other is None and (way == "linear" or not torch.equal(*both)):
            raise refusal
        if call.name not in ("mul", "rmul", "imul", "multiply") and (call.inputs[0] not in marks or other is None):
            raise refusal  # they divide
        if bool(marks[next(each for each in call.inputs if each in marks)].constants.any()):
            raise refusal
        return both[0], ""
    if other is None and torch.equal(*both) and not bool(marks[call.inputs[0]].constants.any()):
        return both[0], ""
    what = f"{call.name}()" + (f" in {call.module}" if call.module else "")
    if other is not None and (way == "joined" or (other.is_weight and way == "own")):
        return both[0], "" if other.is_weight else what
    if in_front:
        branches = " and ".join(dict.fromkeys(origin(each) for each in call.inputs))
        raise NotRevivableError(f"they come out of a sum of {branches} ({what}), so they are units of both branches")
    if other is not None and other.is_weight:
        raise NotRevivableError(
            f"{other.weight_name} is added to their output ({what}), so that they give out a constant"
        )
    beside = origin(other) if other is not None else "itself"
    reason = f"their output goes into a sum with {beside} ({what}), so they are units of both branches"
    units = marks[next(each for each in call.inputs if each in marks)]
    if other is None or way != "zero" or bool(units.constants.any()):
        raise NotRevivableError(reason)
    return both[0], reason


def _one_place(labels: Tensor, axes: Any, where: str) -> Tensor:
    """Keep one index of axes along which every unit lies; raise where these axes hold different units."""
    for axis in axes:
        first = labels.narrow(axis, 0, min(1, labels.shape[axis]))
        if labels.stride(axis) and labels.shape[axis] > 1:
            first = labels.amax(axis, keepdim=True)
            if not bool(((labels == first) | (labels == 0) | (first <= 0)).all()):
                raise NotRevivableError(f"{where} takes them together with other units")
            first = torch.where(first == 0, labels.amin(axis, keepdim=True), first)
        labels = first
    return labels


def along(labels: Tensor, axis: int, where: str) -> Tensor:
    """Return the labels along one axis, on which alone the units must lie."""
    axis %= labels.ndim
    return _one_place(labels, [each for each in range(labels.ndim) if each != axis], where).reshape(-1)


def _moved(
    call: Call, marks: Mapping[Call | Value, Marks], module: nn.Module | None, refusal: NotRevivableError
) -> Tensor:
    """Run a call that moves numbers on labels in place of these."""

    def argument(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(argument(each) for each in value)
        if not isinstance(value, Call | Value):
            return value
        labels = marks[value].labels if value in marks else torch.full((), OTHER).expand(value.shape)
        return labels.contiguous() if call.name in ("view", "view_as", "unsafe_view") else labels

    args, kwargs = argument(call.args), {name: argument(value) for name, value in call.kwargs.items()}
    if call.name == "getitem" and any(isinstance(each, Call | Value) for each in leaves(call.args[1:])):
        raise refusal  # the numbers of the index are not recorded
    if call.name == "pad":
        mode = args[2] if len(args) > 2 else kwargs.get("mode", "constant")
        value = args[3] if len(args) > 3 else kwargs.get("value")
        if mode == "constant" and value not in (None, 0, -math.inf):
            raise refusal
        args, kwargs = args[:2], {**{key: kwargs[key] for key in ("input", "pad") if key in kwargs}, "mode": mode}
    try:
        result = (module.forward if module is not None else call.function)(*args, **kwargs)
    except Exception:
        raise refusal from None
    result = result if call.output is None else result[call.output]
    if not isinstance(result, Tensor) or tuple(result.shape) != call.shape:
        raise refusal
    return result


def leaves(value: Any) -> Iterator[Any]:
    """Yield what tuples, lists and dicts hold, however deep."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if not isinstance(value, tuple | list):
        yield value
        return
    for each in value:
        yield from leaves(each)


def keeps_shape(name: str) -> bool:
    """Whether a call of this name gives out as many numbers as it takes, in the same places."""
    return name in _SAME | _ALONE or "Norm" in name or name.endswith("_norm")


def keeps_channels(name: str) -> bool:
    """Whether a call of this name keeps the mean of each channel, or about so."""
    return name in _SAME or name in _RESIZED or pools(name)


def pools(name: str) -> bool:
    """Whether a call of this name pools within windows."""
    return name.rstrip("123d") in _WINDOWS


def computed(call: Call, module: nn.Module | None, constants: Tensor, refusal: NotRevivableError) -> Tensor:
    """Compute what a function of each number alone makes of the constants."""
    if not bool(constants.any()) and (call.name in PRODUCTS or "prelu" in call.name):
        return constants
    like = next(module.parameters(), constants) if module is not None else constants
    numbers = constants.to(like, copy=True)  # the call may be in place
    args = tuple(numbers if isinstance(each, Call | Value) else each for each in call.args)
    kwargs = {key: numbers if isinstance(each, Call | Value) else each for key, each in call.kwargs.items()}
    try:
        result = (module.forward if module is not None else call.function)(*args, **kwargs)
    except Exception:
        raise refusal from None
    if not isinstance(result, Tensor) or result.shape != constants.shape or not bool(result.isfinite().all()):
        raise refusal
    return result.double().cpu()
