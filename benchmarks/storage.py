"""Committed results: one JSON file a run and one line a measurement, with medians and quartiles in place of samples."""

from __future__ import annotations

import json
import pathlib
import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = pathlib.Path(__file__).parent / "results"
DIGITS = 12  # more than a clock has; fewer change figures of the tables in their last digit


class Timing(NamedTuple):
    """Median and quartiles over the rounds, of seconds or of ratios; older results have no quartiles."""

    median: float
    first: float | None = None
    third: float | None = None

    @classmethod
    def of(cls, samples: Iterable[float]) -> Timing:
        """Summarize the samples of all rounds."""
        samples = list(samples)
        if len(samples) < 2:
            return cls(samples[0], samples[0], samples[0])
        first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(statistics.median(samples), first, third)

    def quartiles(self, scale: float, digits: int) -> str:
        """Both quartiles as text, in units of 1 / scale."""
        if self.first is None or self.third is None:
            return ""
        return f"{self.first * scale:.{digits}f} to {self.third * scale:.{digits}f}"


# Under these keys of any object lies a Timing, or an object of them by name.
TIMINGS = ("seconds", "ratio")


def _encode(value: Any) -> Any:
    if isinstance(value, Timing):
        return [_encode(each) for each in value if each is not None]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _encode(each) for key, each in value.items()}
    return [_encode(each) for each in value] if isinstance(value, list | tuple) else value


def _decode(found: dict[str, Any]) -> dict[str, Any]:
    for key in TIMINGS:
        value = found.get(key)
        if isinstance(value, list):
            found[key] = Timing(*value)
        elif isinstance(value, dict):
            found[key] = {name: Timing(*each) for name, each in value.items()}
    return found


def dumps(results: dict[str, Any]) -> str:
    """Format results as JSON in which each entry of a top-level list or object is one line."""

    def one_line(value: Any) -> str:
        return json.dumps(_encode(value), ensure_ascii=False, allow_nan=False)

    parts = []
    for key, value in results.items():
        if isinstance(value, dict) and value:
            lines = ",\n".join(f"  {json.dumps(name)}: {one_line(each)}" for name, each in value.items())
            text = f"{{\n{lines}\n }}"
        elif isinstance(value, list) and value:
            lines = ",\n".join(f"  {one_line(each)}" for each in value)
            text = f"[\n{lines}\n ]"
        else:
            text = one_line(value)
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def loads(text: str) -> Any:
    """Parse what `dumps` wrote, each list of timings as a `Timing`."""
    return json.loads(text, object_hook=_decode)


def save(results: dict[str, Any], path: pathlib.Path) -> None:
    """Write the results of a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(results), encoding="utf-8")


def load(path: pathlib.Path) -> dict[str, Any]:
    """Read the results of a run."""
    found: dict[str, Any] = loads(path.read_text(encoding="utf-8"))
    return found
