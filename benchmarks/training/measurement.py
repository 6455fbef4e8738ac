"""What one candidate took and kept, in the benchmark of training."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from benchmarks.storage import Timing


class Measurement(TypedDict):
    """Seconds over the rounds (None where it cannot run), and bytes kept for the backward pass."""

    work: str
    size: str
    name: str
    rounds: int
    seconds: Timing | None
    bytes: int | None
    note: str


def median(row: Measurement) -> float:
    """Seconds of a measurement that ran."""
    if row["seconds"] is None:
        raise ValueError(f"{row['name']} did not run in {row['work']}: {row['note']}")
    return row["seconds"].median


def merge(old: list[Measurement], new: list[Measurement]) -> list[Measurement]:
    """Put new measurements in the place of old ones of the same work, size and name."""
    found = {(row["work"], row["size"], row["name"]): row for row in [*old, *new]}
    return list(found.values())
