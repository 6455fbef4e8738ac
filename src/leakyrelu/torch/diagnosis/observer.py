"""Observer of the rectifiers that a model calls, modules and functions alike, and of the modules that call them.

Hooks on the modules record which module is running, and count the inputs of rectifier modules (in a forward-pre-hook:
an in-place activation has overwritten its input afterwards). While a module of the model runs, a `TorchFunctionMode`
observes calls of functions and methods. Rectifier modules call the same functions inside, which are not counted again.
(A dispatch mode would see operators only, below autograd and autocast, and cost each of them a call of Python, in the
backward pass too.)

Each hook and each call under a mode costs some microseconds. So layers of PyTorch that are known not to rectify have
a hook only where their output is recorded, and the mode is closed while they run; a model of such layers and
rectifiers alone runs without the mode; and while nothing is to be counted, `set_active(False)` removes all of it.

State is kept for each thread, since `DataParallel` runs replicas of the model in threads of their own.
"""

from __future__ import annotations

import threading
from functools import cache
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
from leakyrelu.torch.activations.functional import leaky_relu
from leakyrelu.torch.diagnosis.rectifiers import FUNCTIONS, RECTIFIERS, Rectifier, rectifier_of
from leakyrelu.torch.diagnosis.unit_axes import CONTAINERS, PLAIN_MODULES, PRODUCER_MODULES, RECURRENT
from leakyrelu.torch.graph.call_sites import CallSite, caller_frame, position
from leakyrelu.torch.graph.layout_rules import rule_name
from leakyrelu.torch.graph.recording import Recording, names_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType

    from torch.utils.hooks import RemovableHandle


class Framework(NamedTuple):
    """How the modules of a framework are read: PyTorch's own, or those of one that runs on it."""

    named_modules: Callable[[nn.Module], Iterable[tuple[str, nn.Module]]]
    is_rectifier: Callable[[nn.Module], bool]
    output_axis: Callable[[nn.Module], int | None]  # where its output holds units, of layers that are not looked into
    rectifier_of: Callable[[nn.Module], Rectifier | None]


class _ModuleInfo(NamedTuple):
    """What the hooks know about a module. Compared by identity: a module may be on the stack twice."""

    name: str
    is_rectifier: bool
    output_axis: int | None


class _ThreadState(threading.local):
    def __init__(self) -> None:
        self.stack: list[_ModuleInfo] = []
        self.in_call = False  # whether a call of the model is under way
        self.counting = False  # and whether it is counted
        self.rectifiers = 0  # how many of the stack are rectifiers
        self.mode: _CallMode | None = None
        self.paused = False  # whether the mode is closed for a layer that calls no rectifier
        self.recording = Recording({})
        self.key: Any = None  # of the rectifier module that runs


class CallObserver:
    """Observer of the rectifiers that a model calls; each call is reported as `on_call(site, rectifier, x, recording)`.

    What `on_call` returns identifies the row that counts the call, and is recorded with it.
    `is_wanted()` is asked at the beginning of each call of the model whether to observe it.
    """

    def __init__(
        self,
        model: nn.Module,
        on_call: Callable[[CallSite, Rectifier, Tensor, Recording], Any],
        is_wanted: Callable[[], bool],
        framework: Framework,
    ) -> None:
        self.model = model
        self.on_call = on_call
        self.is_wanted = is_wanted
        self.framework = framework
        self.modules = {
            name: (module, _ModuleInfo(name, framework.is_rectifier(module), framework.output_axis(module)))
            for name, module in framework.named_modules(model)
        }
        self.rectifiers = {
            name or type(module).__name__: module for name, (module, info) in self.modules.items() if info.is_rectifier
        }
        self.is_open = False
        self._thread = _ThreadState()
        self._handles: list[RemovableHandle] = []
        self._lock = threading.RLock()
        self._active = False
        self._bare = False  # whether the model is of plain layers and rectifiers alone, so that no mode is needed
        self._names = names_of(model)
        self._calls = 0  # calls of the model that are under way, in all threads
        self._call_sites: dict[tuple[str, str, int, int], tuple[CallSite, CodeType]] = {}

    def open(self) -> None:
        """Begin to observe."""
        self.is_open = True
        self._names = names_of(self.model)
        try:
            self.set_active(True)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End observing and remove all hooks."""
        self.is_open = self._active = False
        self._detach()
        self._leave(self._thread)
        self._thread = _ThreadState()
        self._calls = 0

    def set_active(self, active: bool) -> None:
        """Put the hooks in place or take them away, the latter not before the calls under way have ended."""
        with self._lock:
            self._active = active
            if active and not self._handles:
                self._attach()
            elif not active and self._calls == 0:
                self._detach()

    def _attach(self) -> None:
        plain = {name: _is_plain(module) for name, (module, _) in self.modules.items()}
        self._bare = bare = all(
            plain[name] or (info.is_rectifier and next(module.children(), None) is None)
            for name, (module, info) in self.modules.items()
        )
        for name, (module, info) in self.modules.items():
            if name != "" and plain[name]:
                if (not bare and info.output_axis is None) or type(module) in CONTAINERS:
                    continue  # the mode sees what it calls, or it calls nothing
                if not bare:
                    self._handles.append(module.register_forward_pre_hook(_PauseMode(self, info)))
                self._handles.append(module.register_forward_hook(_RecordOutput(self, info), always_call=not bare))
            elif name != "" and bare:
                self._handles.append(module.register_forward_pre_hook(_CountInput(self, info), with_kwargs=True))
                self._handles.append(module.register_forward_hook(_RecordRectifier(self, info), with_kwargs=True))
            else:
                self._handles.append(module.register_forward_pre_hook(_EnterModule(self, info), with_kwargs=True))
                leave = _LeaveModule(self, info)
                self._handles.append(module.register_forward_hook(leave, with_kwargs=True, always_call=True))

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _is_wanted(self) -> bool:
        # In the middle of a backward pass a checkpoint computes again what has been counted.
        return not in_backward_pass() and self.is_wanted()

    def _begin(self, thread: _ThreadState) -> None:
        with self._lock:
            self._calls += 1
        thread.in_call, thread.counting = True, self._is_wanted()
        if thread.recording.is_full:
            thread.recording = Recording(self._names)
        thread.recording.repeats.clear()
        if thread.counting and not self._bare:
            thread.mode = _CallMode(self, thread)
            thread.mode.__enter__()  # type: ignore[no-untyped-call]

    def _leave(self, thread: _ThreadState) -> None:
        if not thread.in_call:
            return
        thread.stack.clear()
        thread.in_call, thread.counting, thread.rectifiers = False, False, 0
        if thread.mode is not None:
            if not thread.paused:
                thread.mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            thread.mode, thread.paused = None, False
        with self._lock:
            self._calls -= 1
            if self._calls == 0 and not self._active:
                self._detach()

    def _count_module(
        self,
        thread: _ThreadState,
        call_site: CallSite,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        x = args[0] if args else next(iter(kwargs.values()), None)
        # For anything but a tensor, the activation's own error is clearer.
        if isinstance(x, Tensor) and (rectifier := self.framework.rectifier_of(module)) is not None:
            thread.key = self._count(thread, call_site, rectifier, x)

    def _call_site(self, thread: _ThreadState, kind: str) -> CallSite:
        frame = caller_frame()
        code = frame.f_code
        # The address identifies a code object as long as it is kept; its hash would be computed from all that it holds.
        key = thread.stack[-1].name, kind, id(code), frame.f_lasti
        known = self._call_sites.get(key)
        if known is None:
            known = self._call_sites[key] = CallSite(_path(thread, kind), position(frame)), code
        return known[0]

    def _count(self, thread: _ThreadState, call_site: CallSite, rectifier: Rectifier, x: Tensor) -> Any:
        if are_transforms_active():
            raise RuntimeError(
                f"{call_site.name!r} is called under a transform of torch.func (vmap, grad, ...), where a batch has no "
                "numbers to count: watch the model itself, outside the transform"
            )
        with DisableTorchFunction():
            if x.is_meta or torch.compiler.is_compiling() or x.is_complex():  # the activation's own error names complex
                return None
            if x.layout is not torch.strided or x.is_nested or x.is_quantized:
                kind = "nested" if x.is_nested else "quantized" if x.is_quantized else f"sparse ({x.layout})"
                raise TypeError(
                    f"{call_site.name!r} is called on a {kind} tensor, whose units cannot be counted: give the model "
                    "dense ones, or watch the model it was made from"
                )
            return self.on_call(call_site, rectifier, x, thread.recording)


@cache
def _known(function: Any) -> tuple[str, Any]:
    """Return the name that rules know a function by, and the reader of its arguments if it can rectify."""
    return rule_name(function), FUNCTIONS.get(function)


class _CallMode(TorchFunctionMode):
    """Mode that observes calls of functions while a module of the model runs."""

    def __init__(self, observer: CallObserver, thread: _ThreadState) -> None:
        super().__init__()
        self.observer = observer
        self.thread = thread

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        thread = self.thread
        name, reader = _known(func)
        if not name or thread.rectifiers or not thread.stack:
            return func(*args, **kwargs)
        if reader is not None:
            x = args[0] if args else kwargs.get("input", kwargs.get("self"))
            if isinstance(x, Tensor) and (rectifier := reader(args, kwargs)) is not None:
                call_site, key = self._observe(rectifier, x)
                result = func(*args, **kwargs)
                thread.recording.add_rectifier(func, rectifier.kind, call_site.name, key, args, kwargs, result)
                return result
        result = func(*args, **kwargs)
        thread.recording.add(func, name, thread.stack[-1].name, args, kwargs, result)
        return result

    def _observe(self, rectifier: Rectifier, x: Tensor) -> tuple[CallSite, Any]:
        call_site = self.observer._call_site(self.thread, rectifier.kind)
        return call_site, self.observer._count(self.thread, call_site, rectifier, x)

    def observe_leaky_relu(self, x: Tensor, slope: float) -> Callable[[Tensor], None]:
        """Count a call of `leakyrelu.torch.leaky_relu`; what is returned records its result."""
        thread = self.thread
        if thread.rectifiers or not thread.stack:
            return lambda result: None
        call_site, key = self._observe(Rectifier("leaky_relu", slope), x)
        arguments = (thread.recording.what_made(x), slope)  # before the result takes its place
        return lambda result: thread.recording.add_rectifier(
            leaky_relu, "leaky_relu", call_site.name, key, arguments, {}, result
        )


TRANSPARENT.add(_CallMode)


class _Hook:
    """Base of the hooks; a copy or a pickle of the model holds a hook that does nothing in its place."""

    def __call__(self, *args: Any) -> None:
        """Do nothing."""

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


class _ModuleHook(_Hook):
    def __init__(self, observer: CallObserver, info: _ModuleInfo) -> None:
        self.observer, self.info = observer, info
        self.call_site = CallSite(info.name)


class _EnterModule(_ModuleHook):
    """Hook before a module that may call rectifiers inside."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        observer, info = self.observer, self.info
        thread = observer._thread
        if info.name == "":
            thread.recording = Recording(observer._names)
            if thread.in_call:
                observer._leave(thread)  # an interrupt ended the call before, and no hook ran
        if not thread.in_call:
            observer._begin(thread)
        thread.stack.append(info)
        if info.is_rectifier:
            thread.rectifiers += 1
            if thread.counting and thread.rectifiers == 1:
                call_site = self.call_site if info.name else CallSite(type(module).__name__)
                observer._count_module(thread, call_site, module, args, kwargs)


class _LeaveModule(_ModuleHook):
    """Hook after a module that may call rectifiers inside."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        info = self.info
        thread = self.observer._thread
        if not thread.stack or thread.stack[-1] is not info:
            return  # another hook raised before ours was called
        thread.stack.pop()
        thread.rectifiers -= info.is_rectifier
        if thread.counting and thread.rectifiers == 0:
            if info.is_rectifier:
                _record_rectifier(thread, info, module, args, kwargs, output)
            elif info.output_axis is not None:
                kind = type(module)
                thread.recording.add(kind, kind.__name__, info.name, args, kwargs, output, info.output_axis)
        if not thread.stack:
            self.observer._leave(thread)


def _record_rectifier(
    thread: _ThreadState, info: _ModuleInfo, module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any
) -> None:
    kind = type(module)
    thread.recording.add_rectifier(kind, kind.__name__, info.name or kind.__name__, thread.key, args, kwargs, output)
    thread.key = None


class _CountInput(_ModuleHook):
    """Hook that counts the input of a rectifier module while no mode is open."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        observer = self.observer
        thread = observer._thread
        if thread.counting or (not thread.in_call and observer._is_wanted()):
            observer._count_module(thread, self.call_site, module, args, kwargs)


class _RecordRectifier(_ModuleHook):
    """Hook that records the output of a rectifier module while no mode is open."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        thread = self.observer._thread
        if thread.counting or not thread.in_call:
            _record_rectifier(thread, self.info, module, args, kwargs, output)


class _PauseMode(_ModuleHook):
    """Hook before a layer that calls no rectifier inside; it closes the mode for as long as the layer runs.

    Each call that a mode observes costs microseconds: twice what these hooks do, in a batch norm.
    """

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        thread = self.observer._thread
        mode = thread.mode
        depth = count_function_modes() if mode is not None else 0
        if mode is not None and depth and function_mode(depth - 1) is mode:  # not one that came later
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            thread.paused = True


class _RecordOutput(_ModuleHook):
    """Hook that records the output of a layer of PyTorch that calls no rectifier inside."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        thread = self.observer._thread
        if thread.paused and thread.mode is not None:
            thread.mode.__enter__()  # type: ignore[no-untyped-call]
            thread.paused = False
        if thread.counting or not thread.in_call:
            kind, info = type(module), self.info
            thread.recording.add(kind, kind.__name__, info.name, args, {}, output, info.output_axis)


def _output_axis(module: nn.Module) -> int | None:
    """Return the axis of the units in the output of a layer; of a subclass only where all of them keep to it.

    Within a subclass of another layer the functions that it calls show where the units are: a channels-first layer
    norm may be a subclass of `nn.LayerNorm`.
    """
    if isinstance(module, RECURRENT):
        return -1
    return next((axis for kinds, axis in PRODUCER_MODULES if type(module) in kinds), None)


PYTORCH = Framework(nn.Module.named_modules, lambda module: isinstance(module, RECTIFIERS), _output_axis, rectifier_of)


def _is_plain(module: nn.Module) -> bool:
    """Whether this is a layer of PyTorch, unchanged, that calls no rectifier."""
    return type(module) in PLAIN_MODULES and "forward" not in module.__dict__ and not has_forward_hooks(module)


def _path(thread: _ThreadState, function: Any) -> str:
    name = function if isinstance(function, str) else function.__name__.removesuffix(".default")
    inside = thread.stack[-1].name
    return f"{inside}.{name}()" if inside else f"{name}()"
