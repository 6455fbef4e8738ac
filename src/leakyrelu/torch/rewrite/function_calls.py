"""Forward methods whose calls of ReLU as a function become Leaky ReLU, without a change of their code.

The class of a module is exchanged for a subclass whose forward method runs the original one under a
`TorchFunctionMode`, which PyTorch asks about every call of a function or method of tensors. So the forward method
itself still decides what is called, by `self.training` or anything else; a graph of `torch.fx` in its place could not.

The mode also sees what other modules call that run meanwhile. Whose call it is, the frames of Python say: what lies
between the call and the forward method. Under `torch.compile` there are no frames, and no module in between either that
calls a ReLU and is to keep it: `replace_relu` exchanges the classes of these, too. (A hook of the user's that calls one
there is compiled as part of the forward method.)
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
from leakyrelu.torch.graph.relu_functions import _ALL, _is_in_place, _is_relu, called

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["LeakyFunction", "follow", "keep", "obstacle", "redirect"]


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
    """Makes the ReLUs of the forward method around it leaky; `state` is None where `torch.compile` traces it."""

    def __init__(self, slope: float, state: tuple[bool, int] | None) -> None:
        super().__init__()
        self.slope = slope
        self.state = state

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (
            func in _ALL
            and _is_relu(func, args, kwargs)
            and (is_dynamo_compiling() or (self.state is not None and _is_own(self.state)))
        ):
            x = args[0] if args else kwargs.get("input", kwargs.get("self"))
            # Of integers, such as indices that a clamp keeps from falling below 0, there is no Leaky ReLU.
            if not isinstance(x, Tensor) or x.is_floating_point():
                return leaky_relu(x, self.slope, _is_in_place(func, args, kwargs))
        return func(*args, **kwargs)


class _Keeping(TorchFunctionMode):
    """Hides calls of ReLU from the modes around it, and nothing else."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _ALL:
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
    """What the subclasses have besides their forward method. Copies and pickles name the original class."""

    _exchange: tuple[Callable[..., type], type, tuple[Any, ...]]

    def __init_subclass__(cls) -> None:
        """Keep the original class from taking notice of a subclass, as registries do."""

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


def keep(module: nn.Module) -> None:
    """Keep a module that computes a ReLU as it is, also where `torch.compile` looks through a redirected one."""
    if not isinstance(module, _Exchanged):
        _exchange(module, _kept(type(module)))


def obstacle(module: nn.Module) -> str | None:
    """Say what keeps Python from exchanging the class of a module, if anything does."""
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


def _forward_of(original: Any, slope: float) -> Callable[..., Any]:
    inner = original.forward

    @functools.wraps(inner)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling():
            with _Mode(slope, None):
                return inner(self, *args, **kwargs)
        if is_fx_symbolic_tracing():
            return follow(inner, slope, self, args, kwargs)
        state = autograd_state()
        if (depth := count_function_modes()) > 0:
            top: Any = function_mode(depth - 1)
            if type(top) is _Mode and (top.slope, top.state) == (slope, state):
                return inner(self, *args, **kwargs)
        with _Mode(slope, state):
            return inner(self, *args, **kwargs)

    def run_on_proxies(inner: Any, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return follow(inner, slope, module, args, kwargs)

    forward.run_on_proxies = run_on_proxies  # type: ignore[attr-defined]
    return forward


_FORWARD = _forward_of(nn.Module, 0.0).__code__


def _kept_forward_of(original: Any) -> Callable[..., Any]:
    inner = original.forward

    @functools.wraps(inner)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling():
            with _Keeping():
                return inner(self, *args, **kwargs)
        return inner(self, *args, **kwargs)

    return forward


def follow(
    inner: Callable[..., Any], slope: float, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run a forward method on stand-ins of `torch.fx`, which write down calls of methods without asking a mode."""
    tracer: Any = next((x.tracer for x in tree_leaves((args, kwargs)) if isinstance(x, fx.Proxy)), None)
    before = 0 if tracer is None else len(tracer.graph.nodes)
    here = None if tracer is None else next(reversed(getattr(tracer, "module_stack", {})), None)
    with _Mode(slope, autograd_state()):
        result = inner(module, *args, **kwargs)
    for node in [] if tracer is None else list(tracer.graph.nodes)[before:]:
        own = next(reversed(node.meta.get("nn_module_stack") or {}), None) == here
        if own and node.op == "call_method" and called(node) is not None:
            function = getattr(torch.Tensor, node.target)
            x, in_place = node.args[0], _is_in_place(function, node.args, node.kwargs)
            node.op, node.target, node.args, node.kwargs = "call_function", F.leaky_relu, (x, slope, in_place), {}
    return result


REDIRECTED.update((_FORWARD, follow.__code__))
