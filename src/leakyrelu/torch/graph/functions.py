"""Functions, methods and operators of PyTorch: which compute a ReLU, and which calls change their argument."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import fx


VIEWS = frozenset(
    {"view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "permute", "transpose", "t", "squeeze"}
    | {"unsqueeze", "expand", "expand_as", "narrow", "select", "chunk", "split", "unbind", "unfold", "movedim"}
    | {"swapaxes", "swapdims", "diagonal", "as_strided", "detach", "contiguous", "to", "float", "double", "half"}
    | {"bfloat16", "type", "cpu", "cuda", "requires_grad_", "getitem", "getattr"}
)
"""Names of functions and methods whose result may be the memory of their argument, which they leave as it is."""


def functions_named(name: str) -> list[Any]:
    """Return the function, the method of tensors and the operators of ATen that go by a name, as far as they exist."""
    found = [getattr(namespace, name) for namespace in (torch, torch.Tensor, F) if hasattr(namespace, name)]
    packet = getattr(torch.ops.aten, name, None)
    if packet is not None:
        overloads = ["default"] if hasattr(packet, "default") else packet.overloads()
        found += [packet, *(getattr(packet, overload) for overload in overloads)]
    return found


def name_of(function: Any) -> str:
    """Return the name of a function or operator, or of a method that is given by its name."""
    return str(getattr(function, "__name__", function)).partition(".")[0]


def is_in_place(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of a function, or of a method given by its name, changes its first argument."""
    name = name_of(function)
    if name in VIEWS or name.startswith("__"):
        return False
    if name.endswith("_") or name == "setitem":
        return True
    if getattr(function, "__module__", "") == "_operator":
        return name.startswith("i") and name not in ("inv", "invert", "index", "is_", "is_not", "indexOf")
    position = _position_of_inplace(function)
    inplace = args[position] if position is not None and position < len(args) else kwargs.get("inplace", False)
    return isinstance(inplace, int) and bool(inplace)


def _position_of_inplace(function: Any) -> int | None:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a method, or a function in C: none has the argument
        return None
    return names.index("inplace") if "inplace" in names else None


def overwrites(call: fx.Node, result: fx.Node) -> bool:
    """Whether a call of a function or method in a graph changes the result of another call."""
    if call.kwargs.get("out") is result:
        return True
    if call.op not in ("call_function", "call_method"):
        return False
    first = call.args[0] if call.args else next(iter(call.kwargs.values()), None)
    return first is result and is_in_place(call.target, call.args, call.kwargs)


RELUS = frozenset(each for name in ("relu", "relu_") for each in functions_named(name))
"""Every function, method and operator that is a ReLU whatever its arguments."""

_CLAMPS = ("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_")
MAYBE_RELUS = RELUS.union(each for name in _CLAMPS for each in functions_named(name))
"""Those, and the ones that are a ReLU for some arguments."""


def is_relu(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call computes max(x, 0), by its function and arguments."""
    if function not in MAYBE_RELUS or kwargs.get("out") is not None:
        return False
    if function in RELUS:
        return True
    low = args[1] if len(args) > 1 else kwargs.get("min")
    high = args[2] if len(args) > 2 else kwargs.get("max")
    return isinstance(low, (int, float)) and low == 0 and high is None


# Looked up once: `torch.compile`, which traces through this, cannot read signatures.
_IN_PLACE = frozenset(each for each in MAYBE_RELUS if is_in_place(each, (), {}))


def is_in_place_relu(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call that is a ReLU writes its result over its input."""
    if function is F.relu:
        return bool(args[1] if len(args) > 1 else kwargs.get("inplace", False))
    return function in _IN_PLACE


def relu_call(node: fx.Node) -> str | None:
    """Name the call of a ReLU that a node of a graph is, such as "relu" or "clamp(min=0)"; None if it is none."""
    if node.op == "call_method":
        function = getattr(torch.Tensor, str(node.target), None)
    else:
        function = node.target if node.op == "call_function" else None
    if function is None or not is_relu(function, node.args, node.kwargs):
        return None
    name = name_of(function)
    return name if function in RELUS else f"{name}(min=0)"
