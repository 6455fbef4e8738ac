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
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.compiler import is_dynamo_compiling
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode

from leakyrelu._text import first_line
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
from leakyrelu.torch.graph.functions import MAYBE_RELUS, is_in_place_relu, is_relu, relu_call
from leakyrelu.torch.graph.tracing import trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


__all__ = ["Callers", "LeakyFunction", "exempt", "obstacle", "redirect", "run_on_proxies"]


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
            # Leaky ReLU is not defined on integers, such as indices that a clamp keeps from falling below 0.
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


_MODES = (True, False)  # training, evaluation: what is called may depend on it


@dataclass
class Callers:
    """The calls of ReLU in each forward method, and reasons why some cannot be redirected.

    Attributes
    ----------
    model
        The model whose forward methods are traced.
    calls
        How often a module makes which call, in training or in evaluation mode, whichever has more.
    left
        (name, reason) for forward methods that stay as they are.
    opaque
        Modules other than PyTorch's own whose forward methods `torch.fx` cannot trace.
    """

    model: nn.Module
    calls: dict[nn.Module, Counter[str]] = field(default_factory=dict)
    left: list[tuple[str, str]] = field(default_factory=list)
    opaque: list[nn.Module] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = {module: name for name, module in self.model.named_modules()}
        self._seen: set[nn.Module] = set()
        self._behind_boundary: dict[nn.Module, str] = {}
        for module in list(self.names):
            self._trace(module)
        for module in list(self.calls):
            if (reason := self._unfit(module)) is not None:
                words = ", ".join(self.calls.pop(module))
                self.left.append((self.names[module], f"its forward method calls {words}: this stays, {reason}"))

    def _trace(self, module: nn.Module) -> None:
        """Note the calls within a module, unless a trace of a module around it showed them."""
        if module in self._seen or _is_known(module) or isinstance(module, torch.jit.ScriptModule):
            return
        self._seen.add(module)
        try:
            graphs = [trace(module, _is_known, training) for training in _MODES]
        except Exception as error:  # user code may raise anything under symbolic tracing
            if not _is_pytorchs(module) and type(module).forward is not nn.Module.forward:
                said = first_line(error, 80)
                reason = f"torch.fx cannot trace its forward method, in which a call of a ReLU stays one: {said}"
                self.left.append((self.names[module], reason))
                self.opaque.append(module)
            return
        for graph in graphs:
            self._note(module, graph.nodes)

    def _note(self, root: nn.Module, nodes: Iterable[fx.Node]) -> None:
        counts: dict[nn.Module, Counter[str]] = {}
        for node in nodes:
            if node.op == "call_module" and next(root.get_submodule(str(node.target)).children(), None) is not None:
                continue  # a layer of PyTorch's own, which is one call to torch.fx
            inside = node.meta.get("nn_module_stack") or {}
            self._seen.update(root.get_submodule(path) for path, _ in inside.values())
            if (what := relu_call(node)) is None:
                continue
            owner = root.get_submodule(node.meta["caller"][0])
            if not _is_pytorchs(owner) or is_parametrized(owner):
                counts.setdefault(owner, Counter())[what] += 1
                if (reason := _BOUNDARIES.get(node.meta["boundary"])) is not None:
                    self._behind_boundary[owner] = reason
        for owner, count in counts.items():
            self.calls[owner] = self.calls.get(owner, Counter()) | count

    def _unfit(self, module: nn.Module) -> str | None:
        """Return why a module cannot be redirected, or None."""
        if isinstance(module, fx.GraphModule):
            return "it is a graph of torch.fx; call replace_relu before it is traced"
        if is_parametrized(module):
            return "it is parametrized; call replace_relu before that"
        if "forward" in vars(module):
            return "the method is set on the module itself, not on its class"
        if (reason := self._behind_boundary.get(module)) is not None:
            return reason
        reason = obstacle(module)
        return None if reason is None else f"Python cannot exchange its class ({reason})"


_BOUNDARIES = {
    "torch.utils.checkpoint": "torch.utils.checkpoint calls it again in the backward pass, outside of the method; give "
    "it a module instead of a function",
    "torch.autograd.Function": "it is part of a torch.autograd.Function, which has a backward of its own",
}


def _is_known(module: nn.Module) -> bool:
    """Whether a module is of this package, or a ReLU as a module, which is swapped or reported as one."""
    return type(module).__module__.startswith("leakyrelu.") or isinstance(module, nn.ReLU | nn.ReLU6)


def _is_pytorchs(module: nn.Module) -> bool:
    """Whether a module is a layer of PyTorch's own, whose calls of ReLU are reported or exchanged by its kind."""
    return type(module).__module__.startswith("torch.nn.")
