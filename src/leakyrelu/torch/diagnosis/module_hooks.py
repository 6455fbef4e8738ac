"""Hooks on the modules of a model, which tell an observer what runs: modules entered and left, outputs, rectifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leakyrelu.torch._compat import count_function_modes, function_mode
from leakyrelu.torch.diagnosis.forward_pass import ThreadState, signature
from leakyrelu.torch.graph.call_sites import CallSite

if TYPE_CHECKING:
    from torch import nn

    from leakyrelu.torch.diagnosis.forward_pass import ModuleInfo, PassObserver


class _Hook:
    """Base of the hooks; a copy or a pickle of the model holds a hook that does nothing in its place."""

    def __call__(self, *args: Any) -> None:
        """Do nothing."""

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


class _ModuleHook(_Hook):
    def __init__(self, observer: PassObserver, info: ModuleInfo) -> None:
        self.observer, self.info = observer, info
        self.call_site = CallSite(info.name)


class EnterModule(_ModuleHook):
    """Hook before a module that may call rectifiers inside."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note that the module runs, and count its input if it is a rectifier."""
        observer, info = self.observer, self.info
        thread = observer.thread
        if info.name == "" and thread.in_call:
            observer.leave(thread)  # an interrupt ended the call before, and no hook ran
        if not thread.in_call:
            observer.begin(thread, signature(module, args, kwargs) if info.name == "" else None)
        thread.stack.append(info)
        thread.follow(info)
        if info.is_rectifier:
            thread.rectifiers += 1
            if thread.counting and thread.rectifiers == 1:
                call_site = self.call_site if info.name else CallSite(type(module).__name__)
                observer.count_module(thread, call_site, module, args, kwargs)


class LeaveModule(_ModuleHook):
    """Hook after a module that may call rectifiers inside."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Note that the module has run, and record its output."""
        info = self.info
        thread = self.observer.thread
        if not thread.stack or thread.stack[-1] is not info:
            return  # another hook raised before ours was called
        thread.stack.pop()
        thread.rectifiers -= info.is_rectifier
        if thread.counting and thread.rectifiers == 0 and thread.earlier is None:
            if info.is_rectifier:
                _record_rectifier(thread, info, module, args, kwargs, output)
            elif info.output_axis is not None:
                kind = type(module)
                thread.recording.add(kind, kind.__name__, info.name, args, kwargs, output, info.output_axis)
        if not thread.stack:
            self.observer.leave(thread, output)


def _record_rectifier(
    thread: ThreadState, info: ModuleInfo, module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any
) -> None:
    kind = type(module)
    thread.recording.add_rectifier(kind, kind.__name__, info.name or kind.__name__, thread.key, args, kwargs, output)
    thread.key = None


class CountInput(_ModuleHook):
    """Hook that counts the input of a rectifier module that calls nothing else."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count, and close the mode for as long as the rectifier runs."""
        observer = self.observer
        thread = observer.thread
        if thread.rectifiers == 0 and (thread.counting or (not thread.in_call and observer.is_pass_wanted())):
            observer.count_module(thread, self.call_site, module, args, kwargs)
        if thread.mode is not None:
            _pause(thread)
            thread.rectifiers += 1  # where a mode of others lies above ours, it cannot be closed


class RecordRectifier(_ModuleHook):
    """Hook that records the output of a rectifier module that calls nothing else."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Record the output."""
        thread = self.observer.thread
        if thread.mode is not None:
            _resume(thread)
            thread.rectifiers = max(thread.rectifiers - 1, 0)  # the hook before may have raised
        if thread.earlier is None and thread.rectifiers == 0 and (thread.counting or not thread.in_call):
            _record_rectifier(thread, self.info, module, args, kwargs, output)


class PauseMode(_ModuleHook):
    """Hook before a layer that calls no rectifier inside; it closes the mode for as long as the layer runs.

    Each call that a mode observes costs microseconds: twice what these hooks do, in a batch norm.
    """

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Close the mode."""
        _pause(self.observer.thread)


class RecordOutput(_ModuleHook):
    """Hook that records the output of a layer of PyTorch that calls no rectifier inside."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Open the mode again, and record the output."""
        thread, info = self.observer.thread, self.info
        _resume(thread)
        thread.follow(info)
        if thread.earlier is None and (thread.counting or not thread.in_call):
            kind = type(module)
            thread.recording.add(kind, kind.__name__, info.name, args, {}, output, info.output_axis)


def _pause(thread: ThreadState) -> None:
    mode = thread.mode
    depth = count_function_modes() if mode is not None else 0
    if mode is not None and depth and function_mode(depth - 1) is mode:  # not one that came later
        mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        thread.paused = True


def _resume(thread: ThreadState) -> None:
    if thread.paused and thread.mode is not None:
        thread.mode.__enter__()  # type: ignore[no-untyped-call]
        thread.paused = False
