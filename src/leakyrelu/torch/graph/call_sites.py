"""Call sites: where in the source of a model a function is called, and what lies between it and the forward method."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from weakref import ref

from torch import nn
from torch.autograd import Function

from leakyrelu.torch._compat import CALLING_MODULES, autograd_state, call_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import CodeType, FrameType
    from weakref import ReferenceType


Boundary = Literal["none", "module", "torch.utils.checkpoint", "torch.autograd.Function"]


def boundary(state: tuple[bool, int]) -> Boundary:
    """Return what lies between the call under way and the forward method that it is taken for a part of.

    A module has a forward method of its own. `torch.utils.checkpoint` calls its function again in the backward pass,
    outside of the forward method. A `torch.autograd.Function` has a backward method, which would not fit another
    forward pass. PyTorch calls its methods from C++, so its own frames cannot show them: they are known by their code,
    and where they have no code in Python by `state`, which is what `autograd_state` was when the forward method began.
    """
    frame: FrameType | None = call_frame(1)
    while frame is not None:
        code = frame.f_code
        if code in REDIRECTED:
            break
        if code is _MODULE_CALL:
            return "module"
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return "torch.utils.checkpoint"
        if _is_function_method(code):
            return "torch.autograd.Function"
        frame = frame.f_back
    return "none" if autograd_state() == state else "torch.autograd.Function"


_MODULE_CALL = nn.Module.__call__.__code__
_FUNCTION_METHODS = ("forward", "setup_context", "backward", "vjp", "jvp", "vmap")
# By the address of a code object, as long as there is one: its hash would be computed from all that it holds.
_is_method: dict[int, tuple[ReferenceType[CodeType], bool]] = {}


def _is_function_method(code: CodeType) -> bool:
    """Whether this is the code of a method of any `torch.autograd.Function` that there is."""
    address = id(code)
    known = _is_method.get(address)
    if known is None:
        methods = (getattr(each, name, None) for each in _subclasses(Function) for name in _FUNCTION_METHODS)
        is_method = any(code is each for method in methods for each in _codes(method))
        forget = _is_method.pop  # bound here: at the end of the program there may be no global names
        known = _is_method[address] = ref(code, lambda _: forget(address, None)), is_method
    return known[1]


def _subclasses(kind: type) -> Iterator[type]:
    subclasses: list[type] = type.__subclasses__(kind)
    for subclass in subclasses:
        yield subclass
        yield from _subclasses(subclass)


def _codes(function: Any) -> Iterator[CodeType]:
    """Yield the code of a function, and of what it wraps."""
    while function is not None:
        plain = getattr(function, "__func__", function)
        code = getattr(plain, "__code__", None) or getattr(type(plain).__call__, "__code__", None)
        if code is not None:
            yield code
        function = getattr(plain, "__wrapped__", None) or getattr(plain, "func", None)


REDIRECTED: set[CodeType] = set()
"""Code of the forward methods that `replace_relu` makes; filled by the module that defines them."""

_NOT_CALLERS = frozenset(
    {__name__, "leakyrelu.torch.rewrite.function_calls"}
    | {"leakyrelu.torch.diagnosis.observer", "leakyrelu.torch.diagnosis.call_mode"}
    | {"leakyrelu.torch.activations.functional", "leakyrelu.torch.activations.eager"}
    | CALLING_MODULES
)


class CallSite(NamedTuple):
    """Where a rectifier is called: the name of the module or function, and for functions the position in the source."""

    name: str
    source: tuple[int, int, str] | None = None  # line, instruction, function: in the order of the source


def call_position(skipped: tuple[str, ...] = ()) -> tuple[int, int, str]:
    """Return the position in the source of the call under way; frames of modules in `skipped` are skipped."""
    return position(caller_frame(skipped))


def caller_frame(skipped: tuple[str, ...] = ()) -> FrameType:
    """Return the frame of the model's code that makes the call under way."""
    frame = call_frame(1)
    while frame.f_back is not None:
        name = frame.f_globals.get("__name__", "")
        if name not in _NOT_CALLERS and not (skipped and name.startswith(skipped)):
            break
        frame = frame.f_back
    return frame


def source_line() -> str:
    """Return file and line of the call under way in the model's code, such as "resnet.py:92"; empty outside of one."""
    frame: FrameType | None = caller_frame(("torch.", "leakyrelu.", "keras."))
    while frame is not None:
        names = frame.f_code.co_varnames
        if names and isinstance(frame.f_locals.get(names[0]), nn.Module):  # a method of a module
            return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
        if frame is not None and frame.f_globals.get("__name__", "").startswith("torch."):
            return ""
    return ""


def position(frame: FrameType) -> tuple[int, int, str]:
    """Return line, instruction and function of a frame: in the order of the source."""
    return frame.f_lineno, frame.f_lasti, frame.f_code.co_qualname


class LayerKey(NamedTuple):
    """Identity of a layer of a report: a call site, the weights that feed it there, and its width.

    Calls behind the same weights are one place where each had a call of these weights to itself, such as the steps of
    a recurrent network; `repeat` tells those apart that one call of the weights feeds.
    """

    call_site: CallSite
    weights: tuple[str, ...]
    repeat: int
    units: int


def row_name(name: str, index: int) -> str:
    """Name the places of one module or function.

    Examples
    --------
    >>> row_name("act", 0), row_name("act", 1)
    ('act', 'act, call 2')
    """
    return f"{name}, call {index + 1}" if index else name


def rows_in_order(places: Iterable[tuple[CallSite, Any, int]]) -> list[tuple[CallSite, Any, int]]:
    """Order the places of one module or function: as in the source, and then by first call, which is how they come."""
    return sorted(places, key=lambda place: place[0].source or (0, 0, ""))


def layer_names(layers: list[LayerKey]) -> dict[LayerKey, str]:
    """Name layers, which are given in the order of their first calls; those of one place by their width too."""
    places: dict[str, dict[tuple[Any, ...], list[LayerKey]]] = {}
    for layer in layers:
        places.setdefault(layer.call_site.name, {}).setdefault(layer[:3], []).append(layer)
    names = {}
    for name, found in places.items():
        for index, place in enumerate(rows_in_order(found)):
            for layer in found[place]:
                width = f" ({layer.units} units)" if len(found[place]) > 1 else ""
                names[layer] = row_name(name, index) + width
    return names
