"""Columns, numbers and sentences about a census, defined once for every renderer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from leakyrelu._text import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.layer import Layer

WIDTH: Final = 80
"""Columns of a text that fits every terminal."""
SHOWN_FINDINGS: Final = 5
"""Findings written out where space is short; the others are counted."""
SHOWN_LAYERS: Final = 40
"""Layers listed in a text or terminal; the others are counted."""


@dataclass(frozen=True)
class Column:
    """A column of the table of layers: its heading, and the text of a layer's cell.

    `meaning` says what the numbers are, where the heading does not. Words are aligned left, numbers right.
    """

    title: str
    cell: Callable[[Layer], str]
    meaning: str = ""
    words: bool = False


def percent(share: float) -> str:
    """Return a share as a percentage; only an exact 0 is written as 0 and only an exact 1 as 100 %."""
    if np.isnan(share):
        return "-"
    if share in (0.0, 1.0):
        return f"{share * 100:.0f} %"
    return f"{min(max(share * 100, 0.1), 99.9):.1f} %"


def number_text(value: float, form: str = ".3g") -> str:
    """Return a number as text, a dash for NaN."""
    return "-" if np.isnan(value) else f"{value:{form}}"


def median_share(layer: Layer) -> float:
    """Return the median of the units' positive shares, NaN left out."""
    return _median(layer.positive_share)


def _median(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")


def _slope(layer: Layer) -> str:
    """Return the slope as text, or the range of slopes where each unit has its own."""
    slope = np.asarray(layer.negative_slope)
    if slope.ndim == 0 or slope.size == 0:
        return f"{float(slope):.3g}" if slope.ndim == 0 else "-"
    low, high = f"{slope.min():.2g}", f"{slope.max():.2g}"
    return low if low == high else f"{low}..{high}"


def _part(units: NDArray[np.int64], layer: Layer) -> str:
    return f"{len(units)} ({len(units) / layer.units:.0%})" if len(units) else "0"


LAYER: Final = Column("layer", lambda layer: layer.name, words=True)
KIND: Final = Column("kind", lambda layer: layer.kind, words=True)
SLOPE: Final = Column("slope", _slope)
UNITS: Final = Column("units", lambda layer: str(layer.units))
INPUTS: Final = Column("inputs", lambda layer: str(layer.samples), "seen by each unit")
SILENT: Final = Column("silent", lambda layer: _part(layer.silent_units, layer))
ALWAYS_ON: Final = Column("always on", lambda layer: _part(layer.always_on_units, layer))
POSITIVE: Final = Column(
    "positive", lambda layer: percent(median_share(layer)), "median of the units' shares of positive inputs"
)
EFFECTIVE_SLOPE: Final = Column(
    "effective slope",
    lambda layer: number_text(_median(layer.effective_slope)),
    "median of the units' mean derivatives",
)
MEAN_OVER_STD: Final = Column(
    "mean/std",
    lambda layer: number_text(layer.mean_over_std, ".2f"),
    "norm of the units' output means over the norm of their standard deviations, where 0 is centered",
)

COLUMNS: Final = (LAYER, KIND, SLOPE, UNITS, INPUTS, SILENT, ALWAYS_ON, POSITIVE, EFFECTIVE_SLOPE, MEAN_OVER_STD)
"""Every column of the table of layers."""
BASIC_COLUMNS: Final = tuple(column for column in COLUMNS if column not in (INPUTS, EFFECTIVE_SLOPE))
"""Those that fit `WIDTH`."""


def headline(census: Census) -> list[str]:
    """Return a sentence or two on what was found: totals, and the worst layer by name."""
    if not census.layers:
        return ["No layers: nothing was counted."]
    silent, units = census.silent, census.units
    totals = f"{counted(len(census.layers), 'layer')}, {counted(units, 'unit')}"
    unknown = sum(int(np.isnan(layer.positive_share).sum()) for layer in census.layers)
    if unknown == units:
        saw_nan = any(len(layer.nan_units) for layer in census.layers)
        return [f"{totals}: {'all inputs NaN' if saw_nan else 'nothing was seen'}"]
    found = "no unit silent" if silent == 0 else f"{silent} of {units} units silent ({percent(silent / units)})"
    lines = [f"{totals}: {found}, {census.always_on} always on" + (f", {unknown} saw no number" if unknown else "")]
    if silent:
        worst = max(census.layers, key=lambda layer: len(layer.silent_units) / max(layer.units, 1))
        lines.append(clip(f"Worst: layer {worst.name}, {len(worst.silent_units)} of {worst.units} units silent", WIDTH))
    return lines


def notes(census: Census) -> list[str]:
    """Return what the numbers rest on, and what else was seen: NaN, ceilings, activations that never ran."""
    found = []
    silent = [layer for layer in census.layers if len(layer.silent_units)]
    if silent:
        seen = f"{_range([layer.samples for layer in silent])} inputs"
        entries = [layer.entries for layer in silent if layer.entries is not None]
        if len(entries) < len(silent):
            found.append(f"silent: never positive in {seen}; p has no known bound, since samples were not counted")
        else:
            if entries != [layer.samples for layer in silent]:
                seen = f"{_range(entries)} samples ({seen})"
            bound = max(float(layer.silent_bound.max()) for layer in silent)
            found.append(f"silent: never positive in {seen}, so p < {bound:.2g} at 95 % (3/n)")
    for layer in census.layers:
        if len(layer.nan_units):
            inputs, units = counted(int(layer.counts.nan.sum()), "input"), counted(len(layer.nan_units), "unit")
            found.append(f"NaN: {inputs} in {units} of {layer.name}, left out of all shares")
        if len(layer.saturated_units):
            units = counted(len(layer.saturated_units), "unit")
            found.append(f"saturated: {units} of {layer.name} always at the ceiling {layer.ceiling:g}")
    if census.unused:
        found.append(f"never called: {', '.join(census.unused)}")
    return found


def clip(text: str, width: int, *, keep_end: bool = False) -> str:
    """Shorten a text to a width; of a module's path the end says more than the beginning."""
    if len(text) <= width:
        return text
    return "…" + text[1 - width :] if keep_end else text[: width - 1] + "…"


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"
