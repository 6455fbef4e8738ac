"""The numbers and wording of a report that every renderer shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.layer import Layer


WIDTH = 80


def headline(census: Census) -> list[str]:
    """Say what was found in a sentence or two: totals, and the worst layer by name."""
    if not census.layers:
        return ["No layers: nothing was counted."]
    silent, units = census.silent, census.units
    totals = f"{_plural(len(census.layers), 'layer')}, {_plural(units, 'unit')}"
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


def slope_text(layer: Layer) -> str:
    """Write the slope, or the range of slopes where each unit has its own."""
    slope = np.asarray(layer.negative_slope)
    if slope.ndim == 0 or slope.size == 0:
        return f"{float(slope):.3g}" if slope.ndim == 0 else "-"
    low, high = f"{slope.min():.2g}", f"{slope.max():.2g}"
    return low if low == high else f"{low}..{high}"


def percent(share: float) -> str:
    """Write a share; only an exact 0 is written as 0 and only an exact 1 as 100 %."""
    if np.isnan(share):
        return "-"
    if share in (0.0, 1.0):
        return f"{share * 100:.0f} %"
    return f"{min(max(share * 100, 0.1), 99.9):.1f} %"


def ratio_text(value: float) -> str:
    """Write mean over standard deviation."""
    return "-" if np.isnan(value) else f"{value:.2f}"


def median_share(layer: Layer) -> float:
    """Median of the units' positive shares, among those that saw a number."""
    known = layer.positive_share[~np.isnan(layer.positive_share)]
    return float(np.median(known)) if known.size else float("nan")


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _count(number: int, units: int) -> str:
    return "0" if number == 0 else f"{number} ({number / units:.0%})"


def clip(text: str, width: int, *, keep_end: bool = False) -> str:
    """Shorten; of a module's path the end says more than the beginning."""
    if len(text) <= width:
        return text
    return "…" + text[1 - width :] if keep_end else text[: width - 1] + "…"


def notes(census: Census) -> list[str]:
    """Say what the numbers rest on, and what else was seen: NaN, ceilings, activations that never ran."""
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
            inputs, units = _plural(int(layer.counts.nan.sum()), "input"), _plural(len(layer.nan_units), "unit")
            found.append(f"NaN: {inputs} in {units} of {layer.name}, left out of all shares")
        if len(layer.saturated_units):
            units = _plural(len(layer.saturated_units), "unit")
            found.append(f"saturated: {units} of {layer.name} always at the ceiling {layer.ceiling:g}")
    if census.unused:
        found.append(f"never called: {', '.join(census.unused)}")
    return found


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"
