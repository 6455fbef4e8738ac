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
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from leakyrelu.torch._compat import (
    DisableTorchFunction,
    are_transforms_active,
    has_forward_hooks,
    in_backward_pass,
)
from leakyrelu.torch.diagnosis.call_mode import CallMode
from leakyrelu.torch.diagnosis.forward_pass import ModuleInfo, Row, ThreadState, may_choose_weights
from leakyrelu.torch.diagnosis.framework import is_plain, is_plain_rectifier
from leakyrelu.torch.diagnosis.module_hooks import (
    CountInput,
    EnterModule,
    LeaveModule,
    PauseMode,
    RecordOutput,
    RecordRectifier,
)
from leakyrelu.torch.diagnosis.rectifying_code import can_call_rectifier
from leakyrelu.torch.diagnosis.unit_axes import CONTAINERS
from leakyrelu.torch.graph.call_sites import CallSite, caller_frame, position
from leakyrelu.torch.graph.recording import Recording, names_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    from torch.utils.hooks import RemovableHandle

    from leakyrelu.torch.diagnosis.framework import Framework
    from leakyrelu.torch.diagnosis.rectifiers import Rectifier


_MOST_PASSES = 16  # with inputs of different shapes, that are remembered


class CallObserver:
    """Observer of the rectifiers that a model calls; each call is reported as `on_call(site, rectifier, x, recording)`.

    What `on_call` returns is the row that counts the call; another pass that repeats the first one reports the call as
    `on_repeat(row, rectifier, x)`.
    `is_wanted()` is asked at the beginning of each call of the model whether to observe it.
    """

    def __init__(
        self,
        model: nn.Module,
        on_call: Callable[[CallSite, Rectifier, Tensor, Recording], Row],
        on_repeat: Callable[[Row, Rectifier, Tensor], None],
        is_wanted: Callable[[], bool],
        framework: Framework,
    ) -> None:
        self.model = model
        self.on_call = on_call
        self.on_repeat = on_repeat
        self.is_wanted = is_wanted
        self.framework = framework
        self.modules = {
            name: (module, ModuleInfo(name, framework.is_rectifier(module), framework.output_axis(module)))
            for name, module in framework.named_modules(model)
        }
        self.rectifiers = {
            name or type(module).__name__: module for name, (module, info) in self.modules.items() if info.is_rectifier
        }
        self.is_open = False
        self.thread = ThreadState()
        self._handles: list[RemovableHandle] = []
        self._lock = threading.RLock()
        self._active = False
        self._bare = False  # whether the model is of plain layers and rectifiers alone, so that no mode is needed
        self._names: dict[int, Any] = {}
        self._plain: set[str] = set()  # modules that call no rectifier
        self._hooked = False  # whether a module has hooks of others, which may call anything
        self._passes: dict[Any, list[ModuleInfo | Row]] = {}  # by the shapes of the inputs
        self._repeats = True  # whether passes with the same inputs have been the same so far
        self._calls = 0  # calls of the model that are under way, in all threads
        self.paths: dict[int, Recording] = {}  # passes that were counted, one for each path through the model
        self.unrecorded: dict[int, set[Any]] = {}  # rows that other paths went to
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
        self.leave(self.thread)
        self.thread = ThreadState()
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
        plain = self._plain = {name for name, (module, _) in self.modules.items() if is_plain(module)}
        self._hooked = any(has_forward_hooks(module) for module, _ in self.modules.values())
        self._bare = bare = all(
            name in plain or (info.is_rectifier and next(module.children(), None) is None)
            for name, (module, info) in self.modules.items()
        )
        for name, (module, info) in self.modules.items():
            if name != "" and name in plain:
                if (not bare and info.output_axis is None) or type(module) in CONTAINERS:
                    continue  # the mode sees what it calls, or it calls nothing
                if not bare:
                    self._handles.append(module.register_forward_pre_hook(PauseMode(self, info)))
                self._handles.append(module.register_forward_hook(RecordOutput(self, info), always_call=not bare))
            elif name != "" and (bare or is_plain_rectifier(module)):
                self._handles.append(module.register_forward_pre_hook(CountInput(self, info), with_kwargs=True))
                self._handles.append(
                    module.register_forward_hook(RecordRectifier(self, info), with_kwargs=True, always_call=not bare)
                )
            else:
                self._handles.append(module.register_forward_pre_hook(EnterModule(self, info), with_kwargs=True))
                leave = LeaveModule(self, info)
                self._handles.append(module.register_forward_hook(leave, with_kwargs=True, always_call=True))

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def is_pass_wanted(self) -> bool:
        """Whether a call of the model that begins now is to be counted."""
        # In the middle of a backward pass a checkpoint computes again what has been counted.
        return not in_backward_pass() and self.is_wanted()

    def begin(self, thread: ThreadState, signature: Any = None) -> None:
        """Begin a call of the model; one of the model itself has a signature, and may repeat an earlier one."""
        with self._lock:
            self._calls += 1
        thread.in_call, thread.counting = True, self.is_pass_wanted()
        if thread.recording.is_full:
            thread.recording = Recording(self._names)
        thread.recording.repeats.clear()
        thread.begin(self._passes.get(signature) if self._repeats else None, signature)
        if thread.earlier is None and signature is not None:
            thread.recording = Recording(self._names)
        if thread.counting and not self._bare and (thread.earlier is None or self._calls_functions):
            thread.mode = CallMode(self, thread)
            thread.mode.__enter__()  # type: ignore[no-untyped-call]

    def leave(self, thread: ThreadState, output: Any = None) -> None:
        """End the call of the model that is under way, if there is one."""
        if not thread.in_call:
            return
        if thread.counting and output is not None and thread.signature is not None:
            self._compare(thread, output)
        thread.begin(None, None)
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

    @cached_property
    def _calls_functions(self) -> bool:
        """Whether a pass that repeats another may still call a rectifier by a function, so that it needs the mode."""
        return self._hooked or any(
            can_call_rectifier(module)
            for name, (module, info) in self.modules.items()
            if not info.is_rectifier and name not in self._plain
        )

    def _compare(self, thread: ThreadState, output: Any) -> None:
        """Keep the events of a pass for those to come, or find that the model takes another path each time."""
        if thread.earlier is not None and len(thread.events) < len(thread.earlier):
            thread.leave_earlier()
        if thread.earlier is None:
            self._keep(thread, output)
        new = thread.earlier is None and self._repeats
        if thread.left or (new and may_choose_weights(self.model, thread.recording, thread.events, self._plain)):
            self._repeats = False
            self._passes.clear()
        elif new:
            if len(self._passes) == _MOST_PASSES:
                self._passes.pop(next(iter(self._passes)), None)
            self._passes[thread.signature] = thread.events

    def _keep(self, thread: ThreadState, output: Any) -> None:
        """Keep the recording of a pass, one of each path; of one that was not recorded whole, the rows it went to."""
        path = hash(tuple([event.key if isinstance(event, Row) else event.name for event in thread.events]))
        if path in self.paths:
            return
        if thread.left or len(self.paths) == _MOST_PASSES:
            self.unrecorded[path] = {event.key for event in thread.events if isinstance(event, Row)}
        else:
            thread.recording.end(output)
            self.paths[path] = thread.recording
            self.unrecorded.pop(path, None)

    def count_module(
        self,
        thread: ThreadState,
        call_site: CallSite,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Count the input of a rectifier module."""
        x = args[0] if args else next(iter(kwargs.values()), None)
        # For anything but a tensor, the activation's own error is clearer.
        if isinstance(x, Tensor) and (rectifier := self.framework.rectifier_of(module)) is not None:
            thread.key = self.count(thread, call_site, rectifier, x)

    def call_site(self, thread: ThreadState, kind: str) -> CallSite:
        """Return where the function of this kind is called that is under way."""
        frame = caller_frame()
        code = frame.f_code
        # The address identifies a code object as long as it is kept; its hash would be computed from all that it holds.
        key = thread.stack[-1].name, kind, id(code), frame.f_lasti
        known = self._call_sites.get(key)
        if known is None:
            known = self._call_sites[key] = CallSite(_path(thread, kind), position(frame)), code
        return known[0]

    def count(self, thread: ThreadState, call_site: CallSite, rectifier: Rectifier, x: Tensor) -> Any:
        """Count the input of a rectifier; return what identifies the row that counts it, None where nothing does."""
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
            row = thread.repeated(call_site, x.shape) or thread.alike(call_site, x)
            if row is None:
                row = self.on_call(call_site, rectifier, x, thread.recording)
            else:
                self.on_repeat(row, rectifier, x)
            thread.follow(row)
            return row.key


def _path(thread: ThreadState, function: Any) -> str:
    name = function if isinstance(function, str) else function.__name__.removesuffix(".default")
    inside = thread.stack[-1].name
    return f"{inside}.{name}()" if inside else f"{name}()"
