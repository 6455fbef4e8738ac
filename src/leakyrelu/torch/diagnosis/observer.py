"""Sees every rectifier that a model calls, modules and functions alike, and who called it.

Hooks on the modules say where in the model execution stands, and count what goes into rectifier modules (a
forward-pre-hook: an in-place activation has overwritten it afterwards). While a module of the model runs, a
`TorchFunctionMode` sees calls of functions and methods. Modules call the same functions inside; those are theirs and
not counted again. (A dispatch mode would see operators only, below autograd and autocast, and cost each of them a call
of Python, in the backward pass too.)

Each hook and each call under a mode costs some microseconds. So layers of PyTorch that are known not to rectify have
a hook only where their output is to be noted, and there the mode is off while they run; a model of such layers and
rectifiers alone runs without the mode; and while nothing is to be counted, `look(False)` takes all of it away.

All state is one a thread, since `DataParallel` runs replicas of the model in threads of their own.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from leakyrelu.torch._compat import (
    DisableTorchFunction,
    are_transforms_active,
    count_function_modes,
    function_mode,
    has_forward_hooks,
    in_backward_pass,
)
from leakyrelu.torch.activations.eager import TRANSPARENT
from leakyrelu.torch.diagnosis.rectifiers import FUNCTIONS, RECTIFIERS, Rule, rule_of
from leakyrelu.torch.diagnosis.unit_axes import FEEDING_FUNCTIONS, FEEDING_MODULES, QUIET_MODULES
from leakyrelu.torch.graph.call_sites import Place, _caller, _source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType

    from torch.utils.hooks import RemovableHandle


__all__ = ["PYTORCH", "Fed", "Host", "Sight"]


_REMEMBERED = 64  # outputs of feeding layers kept in mind; an activation stands a few layers behind its own


class Fed(NamedTuple):
    """The output of a layer that can feed an activation."""

    output: weakref.ReferenceType[Tensor]
    shape: torch.Size
    name: str
    axis: int


class Host(NamedTuple):
    """What a framework's modules are: PyTorch's own, or those of one that runs on it."""

    modules: Callable[[nn.Module], Iterable[tuple[str, nn.Module]]]
    is_rectifier: Callable[[nn.Module], bool]
    feeds: Callable[[nn.Module], int | None]  # the axis of the units of its output, where it can feed an activation
    rule_of: Callable[[nn.Module], Rule | None]


class _Module(NamedTuple):
    """What the hooks know of a module. Compared by identity: a module may be on the stack twice."""

    name: str
    is_rectifier: bool
    feeds: int | None


class _Thread(threading.local):
    def __init__(self) -> None:
        self.stack: list[_Module] = []
        self.begun = False  # whether a call of the model is under way
        self.open = False  # and whether it is counted
        self.rectifiers = 0  # how many of the stack are rectifiers
        self.mode: _Mode | None = None
        self.paused = False  # whether the mode is off the stack of modes, for a layer with nothing to see
        self.trail: deque[Fed] = deque(maxlen=_REMEMBERED)


class Sight:
    """Reports every call of a rectifier of a model to `counted(place, rule, x, trail)`.

    `wanted()` is asked at the beginning of each call of the model whether to look at it.
    """

    def __init__(
        self,
        model: nn.Module,
        counted: Callable[[Place, Rule, Tensor, deque[Fed]], None],
        wanted: Callable[[], bool],
        host: Host,
    ) -> None:
        self.model = model
        self.counted = counted
        self.wanted = wanted
        self.host = host
        self.modules = {
            name: (module, _Module(name, host.is_rectifier(module), host.feeds(module)))
            for name, module in host.modules(model)
        }
        self.rectifiers = {
            name or type(module).__name__: module
            for name, (module, record) in self.modules.items()
            if record.is_rectifier
        }
        self.is_open = False
        self._thread = _Thread()
        self._handles: list[RemovableHandle] = []
        self._lock = threading.RLock()
        self._looking = False
        self._inside = 0  # calls of the model that are under way, in all threads
        self._places: dict[tuple[str, str, int, int], tuple[Place, CodeType]] = {}

    def open(self) -> None:
        """Begin to look."""
        self.is_open = True
        try:
            self.look(True)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Look no more, and leave nothing behind."""
        self.is_open = self._looking = False
        self._detach()
        self._leave(self._thread)
        self._thread = _Thread()
        self._inside = 0

    def look(self, looking: bool) -> None:
        """Put the hooks in place or take them away, the latter not before the calls under way have ended."""
        with self._lock:
            self._looking = looking
            if looking and not self._handles:
                self._attach()
            elif not looking and self._inside == 0:
                self._detach()

    def _attach(self) -> None:
        quiet = {name: _is_quiet(module) for name, (module, _) in self.modules.items()}
        bare = all(
            quiet[name] or (record.is_rectifier and next(module.children(), None) is None)
            for name, (module, record) in self.modules.items()
        )
        for name, (module, record) in self.modules.items():
            if name != "" and quiet[name]:
                if record.feeds is None:
                    continue
                if not bare:
                    self._handles.append(module.register_forward_pre_hook(_Pause(self)))
                self._handles.append(module.register_forward_hook(_Note(self, record), always_call=not bare))
            elif name != "" and bare:
                self._handles.append(module.register_forward_pre_hook(_Count(self, record), with_kwargs=True))
            else:
                before, after = _Enter(self, record, None if bare else _Mode), _Leave(self, record)
                self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
                self._handles.append(module.register_forward_hook(after, always_call=True))

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _is_wanted(self) -> bool:
        # In the middle of a backward pass a checkpoint computes again what has been counted.
        return not in_backward_pass() and self.wanted()

    def _begin(self, thread: _Thread, mode: type[_Mode] | None) -> None:
        with self._lock:
            self._inside += 1
        thread.begun, thread.open = True, self._is_wanted()
        if thread.open and mode is not None:
            thread.mode = mode(self, thread)
            thread.mode.__enter__()  # type: ignore[no-untyped-call]

    def _leave(self, thread: _Thread) -> None:
        if not thread.begun:
            return
        thread.stack.clear()
        thread.begun, thread.open, thread.rectifiers = False, False, 0
        if thread.mode is not None:
            if not thread.paused:
                thread.mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            thread.mode, thread.paused = None, False
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and not self._looking:
                self._detach()

    def _count_module(
        self, thread: _Thread, place: Place, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        x = args[0] if args else next(iter(kwargs.values()), None)
        # Of anything but a tensor, the activation's own error says more.
        if isinstance(x, Tensor) and (rule := self.host.rule_of(module)) is not None:
            self._count(thread, place, rule, x)

    def _place_of_call(self, thread: _Thread, kind: str) -> Place:
        frame = _caller()
        code = frame.f_code
        # Of a code object that is kept, the address is a name; its hash would be one of all that it holds.
        key = thread.stack[-1].name, kind, id(code), frame.f_lasti
        known = self._places.get(key)
        if known is None:
            known = self._places[key] = Place(_path(thread, kind), _source(frame)), code
        return known[0]

    def _count(self, thread: _Thread, place: Place, rule: Rule, x: Tensor) -> None:
        if are_transforms_active():
            raise RuntimeError(
                f"{place.name!r} is called under a transform of torch.func (vmap, grad, ...), where a batch has no "
                "numbers to count: watch the model itself, outside the transform"
            )
        with DisableTorchFunction():
            if x.is_meta or torch.compiler.is_compiling():
                return
            if x.is_complex():
                return  # the activation's own error says more
            if x.layout is not torch.strided or x.is_nested or x.is_quantized:
                raise TypeError(_uncountable(place, x))
            self.counted(place, rule, x, thread.trail)


def _uncountable(place: Place, x: Tensor) -> str:
    kind = "nested" if x.is_nested else "quantized" if x.is_quantized else f"sparse ({x.layout})"
    return (
        f"{place.name!r} is called on a {kind} tensor, whose units cannot be counted: give the model dense ones, or "
        "watch the model it was made from"
    )


_SEEN: dict[Any, Any] = {**FEEDING_FUNCTIONS, **FUNCTIONS}  # what is done about a function: one look for all others


class _Mode(TorchFunctionMode):
    """Looks at calls of functions while a module of the model runs."""

    def __init__(self, sight: Sight, thread: _Thread) -> None:
        super().__init__()
        self.sight = sight
        self.thread = thread

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        what = _SEEN.get(func)
        if what is None:
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        thread = self.thread
        if type(what) is int:
            result = func(*args, **kwargs)
            if thread.stack and thread.stack[-1].feeds is None:
                _remember(thread, result, _path(thread, func), what)
            return result
        if thread.rectifiers == 0 and thread.stack:
            x = args[0] if args else kwargs.get("input", kwargs.get("self"))
            if isinstance(x, Tensor) and (rule := what(args, kwargs)) is not None:
                self.saw(rule, x)
        return func(*args, **kwargs)

    def saw(self, rule: Rule, x: Tensor) -> None:
        place = self.sight._place_of_call(self.thread, rule.kind)
        self.sight._count(self.thread, place, rule, x)

    def saw_leaky_relu(self, x: Tensor, slope: float) -> None:
        """Take note of a call of `leakyrelu.torch.leaky_relu`."""
        if self.thread.rectifiers == 0 and self.thread.stack:
            self.saw(Rule("leaky_relu", slope), x)


TRANSPARENT.add(_Mode)


class _Hook:
    """A hook that copies of the model do not carry on: what a copy or a pickle holds in its place does nothing."""

    def __call__(self, *args: Any) -> None:
        """Do nothing."""

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


class _Enter(_Hook):
    """Begins a module inside which there is something to see."""

    def __init__(self, sight: Sight, record: _Module, mode: type[_Mode] | None) -> None:
        self.sight, self.record, self.mode = sight, record, mode
        self.place = Place(record.name)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sight, record = self.sight, self.record
        thread = sight._thread
        if record.name == "":
            thread.trail.clear()  # what fed an activation in the call before says nothing of this one
            if thread.begun:
                sight._leave(thread)  # an interrupt ended the call before, and no hook was told
        if not thread.begun:
            sight._begin(thread, self.mode)
        thread.stack.append(record)
        if record.is_rectifier:
            thread.rectifiers += 1
            if thread.open and thread.rectifiers == 1:
                place = self.place if record.name else Place(type(module).__name__)
                sight._count_module(thread, place, module, args, kwargs)


class _Leave(_Hook):
    """Ends it."""

    def __init__(self, sight: Sight, record: _Module) -> None:
        self.sight, self.record = sight, record

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        record = self.record
        thread = self.sight._thread
        if not thread.stack or thread.stack[-1] is not record:
            return  # another hook raised before ours was called
        thread.stack.pop()
        thread.rectifiers -= record.is_rectifier
        if thread.open and record.feeds is not None:
            _remember(thread, output, record.name, record.feeds)
        if not thread.stack:
            self.sight._leave(thread)


class _Count(_Hook):
    """Counts what goes into a rectifier, where no mode could see the function that it calls."""

    def __init__(self, sight: Sight, record: _Module) -> None:
        self.sight, self.place = sight, Place(record.name)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sight = self.sight
        thread = sight._thread
        if thread.open or (not thread.begun and sight._is_wanted()):
            sight._count_module(thread, self.place, module, args, kwargs)


class _Pause(_Hook):
    """Takes the mode away for as long as a layer runs in which there is nothing to see.

    Each call that a mode looks at costs microseconds: twice what these hooks do, in a batch norm.
    """

    def __init__(self, sight: Sight) -> None:
        self.sight = sight

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        thread = self.sight._thread
        mode = thread.mode
        depth = count_function_modes() if mode is not None else 0
        if mode is not None and depth and function_mode(depth - 1) is mode:  # not one that came later
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            thread.paused = True


class _Note(_Hook):
    """Notes the output of a layer of PyTorch's own, in which there is nothing else to see."""

    def __init__(self, sight: Sight, record: _Module) -> None:
        self.sight, self.name, self.axis = sight, record.name, record.feeds or 0

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        thread = self.sight._thread
        if thread.paused and thread.mode is not None:
            thread.mode.__enter__()  # type: ignore[no-untyped-call]
            thread.paused = False
        if thread.open or not thread.begun:
            _remember(thread, output, self.name, self.axis)


def _remember(thread: _Thread, output: Any, name: str, axis: int) -> None:
    if isinstance(output, tuple) and output:
        output = output[0]  # recurrent, attention layers
    if isinstance(output, Tensor):
        with DisableTorchFunction():  # or a mode is asked for the shape
            shape = output.shape
        thread.trail.append(Fed(weakref.ref(output), shape, name, axis % max(len(shape), 1)))


def _feeds(module: nn.Module) -> int | None:
    return next((axis for kinds, axis in FEEDING_MODULES if isinstance(module, kinds)), None)


PYTORCH = Host(nn.Module.named_modules, lambda module: isinstance(module, RECTIFIERS), _feeds, rule_of)


def _is_quiet(module: nn.Module) -> bool:
    """Tell a layer of PyTorch's own, unchanged, that calls nothing of interest."""
    return type(module) in QUIET_MODULES and "forward" not in module.__dict__ and not has_forward_hooks(module)


def _path(thread: _Thread, function: Any) -> str:
    name = function if isinstance(function, str) else function.__name__.removesuffix(".default")
    inside = thread.stack[-1].name
    return f"{inside}.{name}()" if inside else f"{name}()"
