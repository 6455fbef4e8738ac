"""Options of several commands, and values of options, read from their text: shares, sizes, numbers a channel, bytes."""

from __future__ import annotations

import math
import re
from typing import Annotated, NamedTuple

import typer

from leakyrelu._array_files import MAX_MEMORY
from leakyrelu.cli.errors import CommandError

KINDS = ("silent", "always-on", "saturated", "nan")
"""Kinds of units that --fail-on counts."""

_UNITS = {"": 1, "B": 1, **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)}}
_UNITS |= {f"{letter}{rest}": 1000**power for power, letter in enumerate("KMGT", 1) for rest in ("B", "")}

MaxMemory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Memory that a compressed .npz file may take, unpacked. (default: 2GiB)"),
]


class Limit(NamedTuple):
    """A kind of units and their largest allowed share, as given to --fail-on."""

    kind: str
    share: float
    percent: bool  # as it was written

    def exceeded(self, count: int, units: int) -> str:
        """Return the message where this many of the units are more than is allowed; nothing where they are not."""
        share = count / max(units, 1)
        if share <= self.share:
            return ""
        found, most = (f"{100 * x:.4g}%" if self.percent else f"{x:.4g}" for x in (share, self.share))
        return f"{count} of {units} units {self.kind} ({found}), more than {most}"


def limit(text: str) -> Limit:
    """Read ``silent=10%`` or ``silent=0.1``."""
    match = re.fullmatch(r"\s*([a-z-]+)\s*=\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", text)
    if not match or match[1] not in KINDS:
        raise CommandError(f"--fail-on {text!r} is not one of {', '.join(KINDS)} with a share, such as silent=10%")
    share = float(match[2]) / (100 if match[3] else 1)
    if share > 1:
        raise CommandError(f"--fail-on {text!r} is more than all units; write a share such as 10% or 0.1")
    return Limit(match[1], share, bool(match[3]))


def image_size(text: str | None) -> tuple[int, int] | None:
    """Read ``HEIGHTxWIDTH``."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text, re.ASCII)
    if not match or not int(match[1]) or not int(match[2]):
        raise CommandError(f"--image-size {text!r} is not HEIGHTxWIDTH, such as 224x224")
    return int(match[1]), int(match[2])


def by_channel(option: str, text: str | None) -> tuple[float, ...] | None:
    """Read one number, or one a channel: ``R,G,B``."""
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    fit = len(values) in (1, 3) and all(map(math.isfinite, values))
    if not fit or (option == "--image-std" and 0.0 in values):
        raise CommandError(f"{option} {text!r} is not one number or three, such as 123.7,116.3,103.5")
    return values


def memory_size(text: str | None) -> int:
    """Read a number of bytes: ``8GiB``, ``500MB``, ``1000000``."""
    if text is None:
        return MAX_MEMORY
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([a-z]{0,3})\s*", text, re.ASCII | re.IGNORECASE)
    if not match or match[2].upper() not in _UNITS:
        raise CommandError(f"--max-memory {text!r} is not a size, such as 8GiB or 500MB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def unit_axis(text: str) -> tuple[str, int]:
    """Read ``encoder.act=2``: the name of an activation, and the axis of its units."""
    name, _, axis = text.rpartition("=")
    if not name or not re.fullmatch(r"-?\d{1,2}", axis):
        raise CommandError(f"--unit-axis {text!r} is not the name of an activation and an axis, such as encoder.act=2")
    return name, int(axis)
