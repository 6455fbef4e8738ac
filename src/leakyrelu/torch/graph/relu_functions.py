"""Functions and methods of tensors that compute a ReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from leakyrelu.torch.graph.functions import functions_named, is_in_place, name_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import fx


__all__ = ["MAYBE_RELUS", "RELUS", "is_in_place_relu", "is_relu", "relu_call"]


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
