"""A report as plain text: fits 80 columns, keeps the order of the layers, and says the worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from leakyrelu.census import Layer, Report

WIDTH = 80
LONGEST = 40
"""Layers shown one by one; beyond it those without a silent unit are counted only, but for the first and last."""

HEADER = ("layer", "kind", "slope", "units", "silent", "always on", "positive", "mean/std")


def format_table(report: Report) -> str:
    """Lay out the table, as text of at most `WIDTH` columns.

    ``positive`` is the median of the units' positive shares, ``mean/std`` says how far the outputs are off zero.
    """
    lines = headline(report)
    if report.layers:
        shown = _shown(report)
        cells = [HEADER, *(_row(report.layers[i]) for i in shown)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
        spare = WIDTH - sum(widths) - 2 * (len(widths) - 1)
        if spare < 0:
            _narrow(widths, -spare)
        lines += ["", _line(HEADER, widths)]
        last = -1
        for i, row in zip(shown, cells[1:], strict=True):
            if i > last + 1:
                lines.append(f"  ... {i - last - 1} layers without a silent unit")
            lines.append(_line(row, widths))
            last = i
    below = [line for note in notes(report) for line in _wrap(note)]
    return "\n".join([*lines, *([""] if below else []), *below])


def headline(report: Report) -> list[str]:
    """Say what was found in a sentence or two: totals, and the worst layer by name."""
    if not report.layers:
        return ["No layers: nothing was counted."]
    silent, units = report.silent, report.units
    totals = f"{_plural(len(report.layers), 'layer')}, {_plural(units, 'unit')}"
    unknown = sum(int(np.isnan(layer.positive_share).sum()) for layer in report.layers)
    if unknown == units:
        saw_nan = any(len(layer.nan_units) for layer in report.layers)
        return [f"{totals}: {'all inputs NaN' if saw_nan else 'nothing was seen'}"]
    found = "no unit silent" if silent == 0 else f"{silent} of {units} units silent ({percent(silent / units)})"
    lines = [f"{totals}: {found}, {report.always_on} always on" + (f", {unknown} saw no number" if unknown else "")]
    if silent:
        worst = max(report.layers, key=lambda layer: len(layer.silent_units) / max(layer.units, 1))
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


def _row(layer: Layer) -> tuple[str, ...]:
    return (
        layer.name,
        layer.kind,
        slope_text(layer),
        str(layer.units),
        _count(len(layer.silent_units), layer.units),
        _count(len(layer.always_on_units), layer.units),
        percent(median_share(layer)),
        ratio_text(layer.mean_over_std),
    )


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _count(number: int, units: int) -> str:
    return "0" if number == 0 else f"{number} ({number / units:.0%})"


def _shown(report: Report) -> list[int]:
    everything = list(range(len(report.layers)))
    if len(everything) <= LONGEST:
        return everything
    return [i for i in everything if i in (0, everything[-1]) or len(report.layers[i].silent_units)]


def _narrow(widths: list[int], excess: int) -> None:
    """Take the missing columns from the two that hold words, the name keeping more."""
    for column, least in ((1, 8), (0, 12), (1, 4), (0, 6)):
        taken = min(excess, max(widths[column] - least, 0))
        widths[column] -= taken
        excess -= taken


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    words = [
        clip(text, width, keep_end=i == 0).ljust(width)
        for i, (text, width) in enumerate(zip(row, widths, strict=True))
        if i < 2
    ]
    numbers = [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
    return "  ".join(words + numbers)


def clip(text: str, width: int, *, keep_end: bool = False) -> str:
    """Shorten; of a module's path the end says more than the beginning."""
    if len(text) <= width:
        return text
    return "…" + text[1 - width :] if keep_end else text[: width - 1] + "…"


def notes(report: Report) -> list[str]:
    """Say what the numbers rest on, and what else was seen: NaN, ceilings, activations that never ran."""
    found = []
    silent = [layer for layer in report.layers if len(layer.silent_units)]
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
    for layer in report.layers:
        if len(layer.nan_units):
            inputs, units = _plural(int(layer.counts.nan.sum()), "input"), _plural(len(layer.nan_units), "unit")
            found.append(f"NaN: {inputs} in {units} of {layer.name}, left out of all shares")
        if len(layer.saturated_units):
            units = _plural(len(layer.saturated_units), "unit")
            found.append(f"saturated: {units} of {layer.name} always at the ceiling {layer.ceiling:g}")
    if report.unused:
        found.append(f"never called: {', '.join(report.unused)}")
    return found


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def _wrap(text: str) -> list[str]:
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = "  " + word
        else:
            line = f"{line} {word}" if line else word
    return [clip(line, WIDTH) for line in [*lines, line]]
