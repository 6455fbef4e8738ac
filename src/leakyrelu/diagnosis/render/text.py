"""A report as plain text: fits 80 columns, keeps the order of the layers, and says the worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakyrelu.diagnosis.render.summary import (
    WIDTH,
    _count,
    clip,
    headline,
    median_share,
    notes,
    percent,
    ratio_text,
    slope_text,
)

if TYPE_CHECKING:
    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.layer import Layer


LONGEST = 40
"""Layers shown one by one; beyond it those without a silent unit are counted only, but for the first and last."""

HEADER = ("layer", "kind", "slope", "units", "silent", "always on", "positive", "mean/std")


def format_table(census: Census) -> str:
    """Lay out the table, as text of at most `WIDTH` columns.

    ``positive`` is the median of the units' positive shares, ``mean/std`` says how far the outputs are off zero.
    """
    lines = headline(census)
    if census.layers:
        shown = _shown(census)
        cells = [HEADER, *(_row(census.layers[i]) for i in shown)]
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
    below = [line for note in notes(census) for line in _wrap(note)]
    return "\n".join([*lines, *([""] if below else []), *below])


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


def _shown(census: Census) -> list[int]:
    everything = list(range(len(census.layers)))
    if len(everything) <= LONGEST:
        return everything
    return [i for i in everything if i in (0, everything[-1]) or len(census.layers[i].silent_units)]


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


def _wrap(text: str) -> list[str]:
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = "  " + word
        else:
            line = f"{line} {word}" if line else word
    return [clip(line, WIDTH) for line in [*lines, line]]
