"""Arguments of a recorded call: given by position or by name, one by one or as a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leakyrelu.torch.graph.calls import Call


def argument(call: Call, position: int, *names: str, default: Any = None) -> Any:
    """Return an argument that is given by position or by one of its names."""
    if len(call.args) > position:
        return call.args[position]
    return next((call.kwargs[name] for name in names if name in call.kwargs), default)


def integers(call: Call, position: int, *names: str) -> tuple[int, ...]:
    """Read integers that are given one by one or as a sequence."""
    value = argument(call, position, *names)
    if isinstance(value, tuple):
        return value
    if value is None:
        return ()
    rest = call.args[position:] if len(call.args) > position else (value,)
    return tuple(each for each in rest if isinstance(each, int) and not isinstance(each, bool))


def reduced_axes(call: Call) -> tuple[int, ...] | None:
    """Return the axes over which a mean, a maximum or the like is taken; None where that is not known."""
    axes = integers(call, 1, "dim", "axis")[: 1 if isinstance(argument(call, 1), int) else None]
    if call.name in ("norm", "quantile") or not axes:
        axes = tuple(axis for axis in integers(call, 2, "dim"))
    missing = len(call.inputs[0].shape) - len(call.shape)
    return axes if axes and missing in (0, len(axes)) else None
