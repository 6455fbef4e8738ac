"""Call sites: where in a model's source a function is called, and their names in a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from leakyrelu.torch._compat import call_frame

if TYPE_CHECKING:
    from types import CodeType, FrameType


__all__ = ["REDIRECTED", "Place", "Site", "called_inside", "site_names", "source"]


def called_inside() -> str | None:
    """Name what stands between the call under way and the forward method that it is part of: code run twice, or apart.

    `torch.utils.checkpoint` calls its function again in the backward pass, and `torch.autograd.Function` has a
    backward of its own; both know nothing of this forward method.
    """
    frame: FrameType | None = call_frame(0)
    while frame is not None and frame.f_code not in (*REDIRECTED, _CALL):
        if (name := _APART.get(frame.f_globals.get("__name__", ""))) is not None:
            return name
        frame = frame.f_back
    return None


_APART = {"torch.utils.checkpoint": "torch.utils.checkpoint", "torch.autograd.function": "torch.autograd.Function"}
_CALL = nn.Module.__call__.__code__
REDIRECTED: set[CodeType] = set()
"""Code of the forward methods whose calls `replace_relu` redirects, entered by the module that makes them."""

_NOT_CALLERS = frozenset(
    {__name__, "leakyrelu.torch.diagnosis.observer", "leakyrelu.torch.rewrite.function_calls"}
    | {"leakyrelu.torch.activations.functional", "leakyrelu.torch.activations.eager"}
    | {"torch.nn.functional", "torch.overrides", "torch._tensor", "torch._ops"}
)


class Place(NamedTuple):
    """Where a rectifier is called: the name of the module or function, and for functions the place in the source."""

    name: str
    source: tuple[int, int, str] | None = None  # line, instruction, function: in the order of the source


def source(beside: tuple[str, ...] = ()) -> tuple[int, int, str]:
    """Say where in the source of the model the call under way stands; frames of modules in `beside` are passed by."""
    return _source(_caller(beside))


def _caller(beside: tuple[str, ...] = ()) -> FrameType:
    frame = call_frame(1)
    while frame.f_back is not None:
        name = frame.f_globals.get("__name__", "")
        if name not in _NOT_CALLERS and not (beside and name.startswith(beside)):
            break
        frame = frame.f_back
    return frame


def _source(frame: FrameType) -> tuple[int, int, str]:
    return frame.f_lineno, frame.f_lasti, frame.f_code.co_qualname


class Site(NamedTuple):
    """A place where an activation is called behind one layer; one module or line of source may have several."""

    place: Place
    feeder: str | None
    units: int


def site_names(sites: list[Site]) -> dict[Site, str]:
    """Name the sites: as the module or function, else by what stands before it too, else by width too."""
    names = {}
    for site in sites:
        text = site.place.name
        sources = {other.place.source for other in sites if other.place.name == text}
        if site.place.source is not None and len(sources) > 1:
            ordinal = sorted(source for source in sources if source is not None).index(site.place.source)
            text += f"#{ordinal + 1}" if ordinal else ""
        same = [other for other in sites if other.place == site.place]
        if len(same) > 1:
            text += f" after {site.feeder}" if site.feeder else " elsewhere"
            if sum(other.feeder == site.feeder for other in same) > 1:
                text += f" ({site.units} units)"
        names[site] = text
    return names
