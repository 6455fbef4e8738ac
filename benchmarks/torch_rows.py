"""What one contestant took and kept, in the benchmark of training."""

from __future__ import annotations

import statistics
from typing import TypedDict


class Row(TypedDict):
    """Seconds of each round (empty where it cannot run), and bytes kept for the backward pass."""

    work: str
    size: str
    name: str
    times: list[float]
    bytes: int | None
    note: str


def median(row: Row) -> float:
    return statistics.median(row["times"])


def spread(row: Row) -> tuple[float, float]:
    """First and third quartile of the rounds."""
    if len(row["times"]) < 2:
        return row["times"][0], row["times"][0]
    first, _, third = statistics.quantiles(row["times"], n=4, method="inclusive")
    return first, third


def merge(old: list[Row], new: list[Row], append: bool) -> list[Row]:
    """Put new rows in the place of old ones of the same work, size and name, or add their rounds to those."""
    found = {(row["work"], row["size"], row["name"]): row for row in old}
    for row in new:
        key = row["work"], row["size"], row["name"]
        if append and key in found:
            row = {**row, "times": found[key]["times"] + row["times"]}
        found[key] = row
    return list(found.values())
