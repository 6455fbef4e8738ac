"""Redirection of the calls of ReLU as a function in a forward method to Leaky ReLU, without a change of its code.

The class of a module is exchanged for a subclass whose forward method runs the original one under a
`TorchFunctionMode`, which sees every call of a function or method of tensors. So the forward method itself still
decides what is called, by `self.training` or anything else; a graph of `torch.fx` in its place could not.

The mode also sees the calls of other modules that run meanwhile. Whose call it is follows from what lies between the
call and the forward method on Python's stack. Under `torch.compile` there is no stack; modules in between that call a
ReLU and are to go on doing so get a class of their own there. (A hook of the user's that calls one is compiled as part
of the forward method.)
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.compiler import is_dynamo_compiling
from torch.overrides import TorchFunctionMode

from leakyrelu.torch._compat import (
    DisableTorchFunction,
    autograd_state,
    count_function_modes,
    function_mode,
    is_fx_symbolic_tracing,
    tree_leaves,
)
from leakyrelu.torch.activations.eager import TRANSPARENT
from leakyrelu.torch.activations.functional import leaky_relu
from leakyrelu.torch.graph.call_sites import REDIRECTED, boundary
from leakyrelu.torch.graph.relu_functions import MAYBE_RELUS, is_in_place_relu, is_relu, relu_call

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["LeakyFunction", "exempt", "obstacle", "redirect", "run_on_proxies"]


@dataclass(frozen=True)
class LeakyFunction:
    """Leaky ReLU of a fixed slope to be stored where `torch.nn.functional.relu` was: on a module, in a pickle.

    Attributes
    ----------
    negative_slope
        Slope for x <= 0.
    always_inplace
        Whether it stands for `relu_`, which writes over its input unasked.

    Examples
    --------
    >>> import torch
    >>> from leakyrelu.torch.rewrite.function_calls import LeakyFunction
    >>> LeakyFunction(0.5)(torch.tensor([-2.0, 3.0])).tolist()
    [-1.0, 3.0]
    """

    negative_slope: float
    always_inplace: bool = False

    def __call__(self, input: Tensor, inplace: bool = False) -> Tensor:  # noqa: A002
        """Return f(input), with the arguments of `torch.nn.functional.relu`."""
        return leaky_relu(input, self.negative_slope, inplace or self.always_inplace)


class _Mode(TorchFunctionMode):
    """The mode that makes the ReLUs of a forward method leaky; `state` is None where `torch.compile` traces it."""

    def __init__(self, slope: float, state: tuple[bool, int] | None) -> None:
        super().__init__()
        self.slope = slope
        self.state = state

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (
            func in MAYBE_RELUS
            and is_relu(func, args, kwargs)
            and (is_dynamo_compiling() or (self.state is not None and _is_own(self.state)))
        ):
            x = args[0] if args else kwargs.get("input", kwargs.get("self"))
            # Of integers, such as indices that a clamp keeps from falling below 0, there is no Leaky ReLU.
            if not isinstance(x, Tensor) or x.is_floating_point():
                return leaky_relu(x, self.slope, is_in_place_relu(func, args, kwargs))
        return func(*args, **kwargs)


class _HiddenReLU(TorchFunctionMode):
    """A mode that hides calls of ReLU, and nothing else, from the modes around it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in MAYBE_RELUS:
            with DisableTorchFunction():
                return func(*args, **kwargs)
        return func(*args, **kwargs)


TRANSPARENT.add(_Mode)


def _is_own(state: tuple[bool, int]) -> bool:
    """Whether the call under way is one of a redirected forward method, and not of a module that this one calls."""
    between = boundary(state)
    if between == "torch.utils.checkpoint":
        raise RuntimeError(
            "a ReLU that replace_relu made leaky is called inside torch.utils.checkpoint, which would call it "
            "again in the backward pass, outside of the forward method, as a ReLU: give checkpoint a module "
            "instead of a function, or call leakyrelu.torch.leaky_relu there"
        )
    return between == "none"


class _Exchanged:
    """The base of the subclasses: their copies and pickles name the original class."""

    _exchange: tuple[Callable[..., type], type, tuple[Any, ...]]

    def __init_subclass__(cls) -> None:
        """Do not run that of the original class, which may add subclasses to a registry."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        (make, args), rest = reduced[:2], reduced[2:]
        kind, original, more = self._exchange
        made_by = tuple(original if each is type(self) else each for each in (make, *args))
        return _remake, (kind, more, *made_by), *rest


def _remake(kind: Callable[..., type], more: tuple[Any, ...], make: Callable[..., Any], *args: Any) -> Any:
    made = make(*args)
    _exchange(made, kind(type(made), *more))
    return made


def _exchange(module: nn.Module, kind: type) -> None:
    object.__setattr__(module, "__class__", kind)  # a module's own __setattr__ may be anything


def redirect(module: nn.Module, slope: float) -> None:
    """Make the calls of ReLU in the forward method of a module Leaky ReLU of this slope."""
    _exchange(module, _redirected(type(module), slope))


def exempt(module: nn.Module) -> None:
    """Let a module go on computing a ReLU also where `torch.compile` traces it as a part of a redirected one."""
    if not isinstance(module, _Exchanged):
        _exchange(module, _kept(type(module)))


def obstacle(module: nn.Module) -> str | None:
    """Return why Python cannot exchange the class of a module, or None if it can."""
    original = type(module)
    try:
        redirect(module, 0.0)
    except TypeError as error:
        return str(error)
    _exchange(module, original)
    return None


_classes: WeakValueDictionary[tuple[Any, ...], type] = WeakValueDictionary()


def _redirected(original: type, slope: float) -> type:
    return _subclass(original, _redirected, (slope,), _forward_of(original, slope), f"relu=leaky_relu({slope})")


def _kept(original: type) -> type:
    return _subclass(original, _kept, (), _kept_forward_of(original), "")


def _subclass(original: Any, kind: Callable[..., type], more: tuple[Any, ...], forward: Any, words: str) -> type:
    key = (original, kind, *map(repr, more))  # 0.0 and -0.0 are two slopes, and NaN is one
    if (known := _classes.get(key)) is not None:
        return known

    def extra_repr(self: Any) -> str:
        return ", ".join(filter(None, (original.extra_repr(self), words)))

    namespace = {
        "forward": forward,
        "extra_repr": extra_repr,
        "_exchange": (kind, original, more),
        **{name: getattr(original, name) for name in ("__module__", "__qualname__", "__doc__")},
    }
    new: type = type(original)(original.__name__, (_Exchanged, original), namespace)
    return _classes.setdefault(key, new)


def run_on_proxies(
    slope: float, inner: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run a forward method on proxies of `torch.fx`, whose calls of methods do not reach a mode, and rewrite these."""
    tracer: Any = next((x.tracer for x in tree_leaves((args, kwargs)) if isinstance(x, fx.Proxy)), None)
    before = 0 if tracer is None else len(tracer.graph.nodes)
    here = None if tracer is None else next(reversed(getattr(tracer, "module_stack", {})), None)
    with _Mode(slope, autograd_state()):
        result = inner(module, *args, **kwargs)
    for node in [] if tracer is None else list(tracer.graph.nodes)[before:]:
        own = next(reversed(node.meta.get("nn_module_stack") or {}), None) == here
        if own and node.op == "call_method" and relu_call(node) is not None:
            function = getattr(torch.Tensor, node.target)
            x, in_place = node.args[0], is_in_place_relu(function, node.args, node.kwargs)
            node.op, node.target, node.args, node.kwargs = "call_function", F.leaky_relu, (x, slope, in_place), {}
    return result


def _forward_of(original: Any, slope: float) -> Callable[..., Any]:
    inner = original.forward

    @functools.wraps(inner)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling():
            with _Mode(slope, None):
                return inner(self, *args, **kwargs)
        if is_fx_symbolic_tracing():
            return run_on_proxies(slope, inner, self, args, kwargs)
        state = autograd_state()
        if (depth := count_function_modes()) > 0:
            top: Any = function_mode(depth - 1)
            if type(top) is _Mode and (top.slope, top.state) == (slope, state):
                return inner(self, *args, **kwargs)
        with _Mode(slope, state):
            return inner(self, *args, **kwargs)

    forward.run_on_proxies = functools.partial(run_on_proxies, slope)  # type: ignore[attr-defined]
    return forward


_FORWARD = _forward_of(nn.Module, 0.0).__code__


def _kept_forward_of(original: Any) -> Callable[..., Any]:
    inner = original.forward

    @functools.wraps(inner)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling():
            with _HiddenReLU():
                return inner(self, *args, **kwargs)
        return inner(self, *args, **kwargs)

    return forward


REDIRECTED.update((_FORWARD, run_on_proxies.__code__))
