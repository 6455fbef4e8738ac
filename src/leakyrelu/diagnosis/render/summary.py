"""Columns, order, numbers and sentences about a census, defined once for every renderer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from leakyrelu._text import counted, few, printable, shorten
from leakyrelu.diagnosis.evidence import axes_text, certainty, seen
from leakyrelu.diagnosis.layer import TAUS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.layer import Layer

WIDTH: Final = 80
"""Columns of a text that fits every terminal."""
SHOWN_FINDINGS: Final = 5
"""Findings written out where space is short; the others are counted."""
SHOWN_LAYERS: Final = 40
"""Layers listed in a text or terminal; the others are counted."""
WORST_FIRST: Final = "Layers, worst first: NaN, then silent or saturated units, then always on."
"""The order of the layers in words."""
PLAN: Final = "What to do:"
"""The heading of the plan."""

_BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Column:
    """A column of the table of layers: its heading, and the text of a layer's cell.

    `meaning` says what the numbers are, where the heading does not. Words are aligned left, numbers right.
    """

    title: str
    cell: Callable[[Layer], str]
    meaning: str = ""
    words: bool = False


def worst_first(census: Census) -> list[Layer]:
    """Order by the share of units that saw NaN, then of those silent or saturated, then always on, then as they ran."""
    return sorted(census.layers, key=_badness, reverse=True)


def _badness(layer: Layer) -> tuple[float, ...]:
    kinds = (layer.nan_units, (*layer.silent_units, *layer.saturated_units), layer.always_on_units)
    return tuple(len(units) / max(layer.units, 1) for units in kinds)


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


def histogram(layer: Layer) -> str:
    """Return twelve blocks: silent, ten equal bins between, always on; as high as their share of the units."""
    share = layer.positive_share[~np.isnan(layer.positive_share)]
    inner = share[(share > 0) & (share < 1)]
    counts = [int((share == 0).sum()), *np.histogram(inner, 10, (0.0, 1.0))[0].tolist(), int((share == 1).sum())]
    top = max(*counts, 1)
    return "".join(_BLOCKS[0 if not count else max(1, round(8 * count / top))] for count in counts)


def is_assumed(layer: Layer) -> bool:
    """Whether the axis of a layer's units is an assumption."""
    return layer.axis is not None and not layer.axis.known


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


def _axis(layer: Layer) -> str:
    if layer.axis is None:
        return "-"
    axes = axes_text(layer.axis.axes).removeprefix("axis ").removeprefix("axes ")
    return axes if layer.axis.known else f"{axes}, assumed"


LAYER: Final = Column("layer", lambda layer: printable(layer.name), words=True)
KIND: Final = Column("kind", lambda layer: printable(layer.kind), words=True)
PLACE: Final = Column("where", lambda layer: printable(str(layer.place)) or "-", words=True)
AXIS: Final = Column("axis of the units", _axis, "of the activation's input; 0 is the first", words=True)
SLOPE: Final = Column("negative slope", _slope)
UNITS: Final = Column("units", lambda layer: str(layer.units))
INPUTS: Final = Column("inputs of each unit", lambda layer: str(layer.samples))
SILENT: Final = Column("silent units", lambda layer: _part(layer.silent_units, layer), "never positive")
ALWAYS_ON: Final = Column("units always on", lambda layer: _part(layer.always_on_units, layer), "never negative")
POSITIVE: Final = Column(
    "median share of positive inputs", lambda layer: percent(median_share(layer)), "over the units"
)
HISTOGRAM: Final = Column("units by share of positive inputs, from 0 to 1", histogram, words=True)
EFFECTIVE_SLOPE: Final = Column(
    "median effective slope",
    lambda layer: number_text(_median(layer.effective_slope)),
    "over the units, of the mean derivative",
)
MEAN_OVER_STD: Final = Column(
    "output mean over std",
    lambda layer: number_text(layer.mean_over_std, ".2f"),
    "norm of the units' output means over the norm of their standard deviations, where 0 is centered",
)

BASIC_COLUMNS: Final = (LAYER, KIND, SLOPE, UNITS, SILENT, ALWAYS_ON, POSITIVE, MEAN_OVER_STD)
"""Those that every table has, if it is wide enough."""
COLUMNS: Final = (
    *(LAYER, KIND, SLOPE, UNITS, INPUTS, SILENT, ALWAYS_ON),
    *(POSITIVE, EFFECTIVE_SLOPE, MEAN_OVER_STD, AXIS, PLACE),
)
"""Every column of the table of layers."""


def columns_of(census: Census, *, every: bool = False) -> list[Column]:
    """Return the columns that say something of a census: where a layer stands and its axis only if there is news."""
    silent_about = [] if every else [EFFECTIVE_SLOPE]
    if not any(str(layer.place) for layer in census.layers):
        silent_about.append(PLACE)
    if not any(layer.axis is not None if every else is_assumed(layer) for layer in census.layers):
        silent_about.append(AXIS)
    return [column for column in COLUMNS if column not in silent_about]


def remarks(layer: Layer, columns: Collection[Column]) -> list[str]:
    """Return what a row does not say in these columns, where there is something to look at: first, where it stands."""
    found = []
    if len(layer.nan_units):
        found.append(f"{counted(len(layer.nan_units), 'unit')} saw NaN")
    if len(layer.saturated_units):
        found.append(f"{counted(len(layer.saturated_units), 'unit')} always at the ceiling")
    if is_assumed(layer) and AXIS not in columns:
        found.append(f"axis of the units: {_axis(layer)}")
    if str(layer.place) and PLACE not in columns and (found or any(_badness(layer))):
        found.insert(0, PLACE.cell(layer))
    return found


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
    worst = worst_first(census)[0]
    kinds = (("saw NaN", worst.nan_units), ("silent", worst.silent_units), ("saturated", worst.saturated_units))
    if bad := [f"{len(units)} {what}" for what, units in kinds if len(units)]:
        number, what = bad[0].split(" ", 1)
        found = ", ".join([f"{number} of {counted(worst.units, 'unit')} {what}", *bad[1:]])
        name = shorten(printable(worst.name), WIDTH - len("Worst: layer , ") - len(found))
        lines.append(f"Worst: layer {name}, {found}")
    return lines


def notes(census: Census) -> list[str]:
    """Return what the numbers rest on, and what else was seen: NaN, ceilings, activations that never ran."""
    found = []
    if silent := [layer for layer in census.layers if len(layer.silent_units)]:
        found.append(f"silent: never positive in {seen(silent)}; {certainty(silent)}")
    dormant = [(tau, census.dormant_ratio(tau)) for tau in TAUS]
    if any(ratio > 0 for _, ratio in dormant):
        (tau, ratio), *others = dormant
        more = "".join(f", {percent(ratio)} at {tau:g}" for tau, ratio in others)
        found.append(f"dormant: {percent(ratio)} of the units at tau = {tau:g}{more} (Sokar et al., ICML 2023)")
    for layer in census.layers:
        name = printable(layer.name)
        if len(layer.nan_units):
            inputs, units = counted(int(layer.counts.nan.sum()), "input"), counted(len(layer.nan_units), "unit")
            found.append(f"NaN: {inputs} in {units} of {name}, left out of all shares")
        if len(layer.saturated_units):
            units = counted(len(layer.saturated_units), "unit")
            found.append(f"saturated: {units} of {name} always at the ceiling {layer.ceiling:g}")
    if assumed := [printable(layer.name) for layer in census.layers if is_assumed(layer)]:
        settles = "--unit-axis settles it" if census.command else "unit_axis settles it, see report.findings"
        found.append(f"axis of the units assumed: {few(assumed, 6)}; {settles}")
    if census.unused:
        found.append(f"never called: {', '.join(map(printable, census.unused))}")
    return found
