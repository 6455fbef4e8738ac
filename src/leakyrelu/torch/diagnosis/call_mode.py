"""Mode under which a model runs, so that its calls of functions are observed, and the recordings that it makes."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from leakyrelu.torch._compat import count_function_modes, function_mode
from leakyrelu.torch.activations.eager import TRANSPARENT
from leakyrelu.torch.activations.functional import leaky_relu
from leakyrelu.torch.diagnosis.rectifiers import FUNCTIONS, Rectifier
from leakyrelu.torch.graph.layout_rules import rule_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

    from leakyrelu.torch.diagnosis.forward_pass import PassObserver, ThreadState
    from leakyrelu.torch.graph.call_sites import CallSite
    from leakyrelu.torch.graph.recording import Recording


@cache
def _known(function: Any) -> tuple[str, Any]:
    """Return the name that rules know a function by, and the reader of its arguments if it can rectify."""
    return rule_name(function), FUNCTIONS.get(function)


class CallMode(TorchFunctionMode):
    """Mode that observes calls of functions while a module of the model runs."""

    def __init__(self, observer: PassObserver, thread: ThreadState) -> None:
        super().__init__()
        self.observer = observer
        self.thread = thread

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        thread = self.thread
        name, reader = _known(func)
        if not name or thread.rectifiers or not thread.stack or (reader is None and thread.earlier is not None):
            return func(*args, **kwargs)
        if reader is not None:
            x = args[0] if args else kwargs.get("input", kwargs.get("self"))
            if isinstance(x, Tensor) and (rectifier := reader(args, kwargs)) is not None:
                call_site, key = self._observe(rectifier, x)
                result = func(*args, **kwargs)
                if thread.earlier is None:
                    thread.recording.add_rectifier(func, rectifier.kind, call_site.name, key, args, kwargs, result)
                return result
        result = func(*args, **kwargs)
        if thread.earlier is None:
            thread.recording.add(func, name, thread.stack[-1].name, args, kwargs, result)
        return result

    def _observe(self, rectifier: Rectifier, x: Tensor) -> tuple[CallSite, Any]:
        call_site = self.observer.call_site(self.thread, rectifier.kind)
        return call_site, self.observer.count(self.thread, call_site, rectifier, x)

    def observe_leaky_relu(self, x: Tensor, slope: float) -> Callable[[Tensor], None]:
        """Count a call of `leakyrelu.torch.leaky_relu`; what is returned records its result."""
        thread = self.thread
        if thread.rectifiers or not thread.stack:
            return lambda result: None
        call_site, key = self._observe(Rectifier("leaky_relu", slope), x)
        if thread.earlier is not None:
            return lambda result: None
        arguments = (thread.recording.what_made(x), slope)  # before the result takes its place
        return lambda result: thread.recording.add_rectifier(
            leaky_relu, "leaky_relu", call_site.name, key, arguments, {}, result
        )


TRANSPARENT.add(CallMode)


def recordings_of(model: nn.Module) -> Callable[[], Iterable[Recording]] | None:
    """Return what gives the recordings of the pass of a model that is under way; None where nothing observes it.

    It is for a model whose calls no mode for functions sees.
    """
    modes = [function_mode(number) for number in range(count_function_modes())]
    observed = [mode for mode in modes if isinstance(mode, CallMode) and model in mode.observer.model.modules()]
    threads = [mode.thread for mode in observed if mode.thread.counting]
    return (lambda: (each.recording for each in threads if each.earlier is None)) if threads else None
