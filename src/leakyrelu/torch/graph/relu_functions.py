"""Functions and methods of tensors that are a ReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import fx

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["RELUS", "called"]


def _spelled(*names: str) -> frozenset[Any]:
    found = set()
    for name in names:
        found |= {getattr(room, name) for room in (torch, torch.Tensor, F) if hasattr(room, name)}
        packet = getattr(torch.ops.aten, name, None)
        if packet is not None:
            found |= {packet, packet.default}
    return frozenset(found)


RELUS = _spelled("relu", "relu_")
"""Every function and method that is a ReLU whatever its arguments."""
_CLAMPS = _spelled("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_")
_ALL = RELUS | _CLAMPS
_IN_PLACE = _spelled("relu_", "clamp_", "clip_", "clamp_min_")


def _is_relu(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call computes max(x, 0), by its function and arguments."""
    if function not in _ALL or kwargs.get("out") is not None:
        return False
    if function in RELUS:
        return True
    low = args[1] if len(args) > 1 else kwargs.get("min")
    high = args[2] if len(args) > 2 else kwargs.get("max")
    return isinstance(low, (int, float)) and low == 0 and high is None


def _is_in_place(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    if function is F.relu:
        return bool(args[1] if len(args) > 1 else kwargs.get("inplace", False))
    return function in _IN_PLACE


def called(node: fx.Node) -> str | None:
    """Say in words which call of a ReLU a node of a graph is, if it is one."""
    if node.op == "call_method":
        function = getattr(torch.Tensor, str(node.target), None)
    else:
        function = node.target if node.op == "call_function" else None
    if function is None or not _is_relu(function, node.args, node.kwargs):
        return None
    name = str(getattr(function, "__name__", function)).removesuffix(".default")
    return name if function in RELUS else f"{name}(min=0)"
