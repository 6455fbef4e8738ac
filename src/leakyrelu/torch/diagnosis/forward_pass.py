"""The forward pass that an observer follows, on each thread: what runs, and whether it repeats an earlier pass."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from leakyrelu.torch._compat import tree_leaves
from leakyrelu.torch.graph.calls import Value
from leakyrelu.torch.graph.recording import Recording, shape_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch.overrides import TorchFunctionMode

    from leakyrelu.torch.diagnosis.rectifiers import Rectifier
    from leakyrelu.torch.graph.call_sites import CallSite


class ModuleInfo(NamedTuple):
    """What the hooks know about a module. Compared by identity: a module may be on the stack twice."""

    name: str
    is_rectifier: bool
    output_axis: int | None


class Row(NamedTuple):
    """One counted call of a rectifier: where it was, what identifies its row, and where the units of its input lie."""

    call_site: CallSite
    shape: torch.Size
    key: Any
    location: Any


class ThreadState(threading.local):
    """What runs on a thread.

    A pass is recorded once for each shape of the inputs. A pass that follows the same modules and rectifiers in the
    same order, with inputs of the same shapes, has the same rows: it need not be recorded again.
    """

    def __init__(self) -> None:
        self.stack: list[ModuleInfo] = []
        self.in_call = False  # whether a call of the model is under way
        self.counting = False  # and whether it is counted
        self.rectifiers = 0  # how many of the stack are rectifiers
        self.mode: TorchFunctionMode | None = None
        self.paused = False  # whether the mode is closed for a layer that calls no rectifier
        self.recording = Recording({})
        self.key: Any = None  # of the rectifier module that runs
        self.events: list[ModuleInfo | Row] = []  # of this pass
        self.earlier: list[ModuleInfo | Row] | None = None  # those of an earlier pass, as long as this one follows it
        self.left: list[ModuleInfo | Row] = []  # those of an earlier pass that this one has left
        self.signature: Any = None

    def begin(self, earlier: list[ModuleInfo | Row] | None, signature: Any) -> None:
        """Begin a pass."""
        self.events, self.left, self.earlier, self.signature = [], [], earlier, signature

    def follow(self, event: ModuleInfo | Row) -> None:
        """Note that a module runs, or that a call was counted."""
        if not self.in_call:
            return
        earlier = self.earlier
        if earlier is not None and (len(self.events) >= len(earlier) or earlier[len(self.events)] is not event):
            self.leave_earlier()
        self.events.append(event)

    def repeated(self, call_site: CallSite, shape: torch.Size) -> Row | None:
        """Return the row of a call that an earlier pass has had at this point."""
        earlier = self.earlier
        if earlier is not None:
            row = earlier[len(self.events)] if len(self.events) < len(earlier) else None
            if type(row) is Row and row.shape == shape and row.call_site == call_site:
                return row
            self.leave_earlier()
        return None

    def alike(self, call_site: CallSite, x: Tensor) -> Row | None:
        """Return a row for a call in a pass that has left an earlier one, where what made its input is not known.

        It is the row of the call of the same number, of the same module or function.
        """
        if not self.left or self.recording.what_made(x).weights:
            return None
        rows = [row for row in self.left if type(row) is Row and row.call_site == call_site]
        number = sum(type(row) is Row and row.call_site == call_site for row in self.events)
        return rows[number] if number < len(rows) and rows[number].shape == x.shape else None

    def leave_earlier(self) -> None:
        """Note that this pass is another than the earlier one."""
        self.left, self.earlier = self.earlier or [], None
        self.recording = self.recording.anew()


def signature(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Describe the inputs of a pass, as far as its path may depend on them without looking at numbers."""
    leaves = tree_leaves((args, kwargs))
    inputs = tuple([(shape_of(x), x.dtype) if isinstance(x, Tensor) else _described(x) for x in leaves])
    return module.training, torch.is_grad_enabled(), tuple(kwargs), inputs


def _described(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else type(value)


def may_choose_weights(
    model: nn.Module, recording: Recording, events: list[ModuleInfo | Row], known: Collection[str]
) -> bool:
    """Whether functions may take other weights in another pass, though the same modules run.

    They may where an index takes some of a parameter, and where there are weights that a module which ran could have
    taken and did not. Of modules that are `known` to take all their weights nothing is asked.
    """
    used: set[str] = set()
    for call in recording.calls:
        values = [each for each in call.inputs if type(each) is Value and each.is_parameter]
        used.update(each.name for each in values)
        if values and call.name in ("getitem", "select", "index_select") and call.inputs[0] is values[0]:
            index = call.args[1] if len(call.args) > 1 else None
            numbers = index if isinstance(index, tuple) else (index,)
            if any(isinstance(each, int) for each in numbers) or not all(each.is_weight for each in call.inputs):
                return True
    ran = {event.name for event in events if isinstance(event, ModuleInfo)}
    ran |= {name for name, module in model.named_modules() if isinstance(module, (nn.ParameterList, nn.ParameterDict))}
    unused = (name for name, parameter in model.named_parameters() if parameter.ndim > 1 and name not in used)
    return any(owner in ran and owner not in known for owner in (name.rpartition(".")[0] for name in unused))


class PassObserver(Protocol):
    """What hooks and the mode ask of the observer that they belong to."""

    model: nn.Module
    thread: ThreadState

    def begin(self, thread: ThreadState, signature: Any = None) -> None:
        """Begin a call of the model."""

    def leave(self, thread: ThreadState, output: Any = None) -> None:
        """End a call of the model."""

    def is_pass_wanted(self) -> bool:
        """Whether a call that begins now is to be counted."""

    def count_module(
        self, thread: ThreadState, call_site: CallSite, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Count the input of a rectifier module."""

    def call_site(self, thread: ThreadState, kind: str) -> CallSite:
        """Return where the function of this kind is called that is under way."""

    def count(self, thread: ThreadState, call_site: CallSite, rectifier: Rectifier, x: Tensor) -> Any:
        """Count the input of a rectifier; return what identifies the row that counts it, None where nothing does."""
