"""The table of layers laid out for a width: which columns fit, how wide they are, and the lines of every row.

Numbers and the kind of a layer are never cut: columns are left out, then names get an ellipsis in their middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from leakyrelu._text import counted, display_width, listed, padded, shorten, wrapped
from leakyrelu.diagnosis.render.summary import (
    ALWAYS_ON,
    AXIS,
    BASIC_COLUMNS,
    HISTOGRAM,
    INPUTS,
    KIND,
    LAYER,
    MEAN_OVER_STD,
    PLACE,
    POSITIVE,
    SHOWN_LAYERS,
    SLOPE,
    columns_of,
    remarks,
    worst_first,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.render.summary import Column

GAP: Final = "  "
_LEFT_OUT_FIRST = (HISTOGRAM, PLACE, AXIS, INPUTS, MEAN_OVER_STD, SLOPE, POSITIVE, ALWAYS_ON)
_WIDE = 110  # columns from which the number of inputs is worth its place
_NAME = 22  # columns of a name for which others are left out
_SHORTEST_NAME = 6
_KIND = 24  # columns of a kind; from there on it goes on in the next line


@dataclass(frozen=True)
class Layout:
    """A table as lines of padded cells.

    Parameters
    ----------
    columns
        Those that fit.
    head
        The lines of the heading, a cell for each column.
    rows
        For each layer shown, its lines likewise, and lines with what else is to be said of it.
    notes
        What is not shown: layers beyond the limit, columns that do not fit.
    """

    columns: Sequence[Column]
    head: Sequence[Sequence[str]]
    rows: Sequence[tuple[Sequence[Sequence[str]], Sequence[str]]]
    notes: Sequence[str]


def lay_out(census: Census, width: int, *, more: Sequence[Column] = ()) -> Layout:
    """Lay out the worst `SHOWN_LAYERS` layers of a census, with `more` columns if they fit."""
    layers = worst_first(census)[:SHOWN_LAYERS]
    wanted = [column for column in (*columns_of(census), *more) if width >= _WIDE or column is not INPUTS]
    cells = {column: [column.cell(layer) for layer in layers] for column in wanted}
    widths = {
        column: max(map(display_width, [*column.title.split(), *cells[column]]))  # a heading breaks between words
        for column in wanted
    }
    widths[KIND] = min(widths[KIND], _KIND)
    for column in _LEFT_OUT_FIRST:
        if _total(widths) - max(widths[LAYER] - _NAME, 0) > width:
            widths.pop(column, None)
    widths[LAYER] = max(widths[LAYER] - max(_total(widths) - width, 0), min(widths[LAYER], _SHORTEST_NAME))
    _lower_heading(widths, width)
    rows = []
    for number, layer in enumerate(layers):
        said = wrapped("; ".join(remarks(layer, widths)), width, first=GAP, then=GAP)
        rows.append((_lines(widths, [cells[column][number] for column in widths]), said))
    head = _lines(widths, [column.title for column in widths], heading=True)
    notes = []
    if hidden := len(census.layers) - len(layers):
        notes.append(f"... and {counted(hidden, 'more layer')}, none worse than these")
    if left_out := [column.title for column in BASIC_COLUMNS if column not in widths]:
        notes.append(f"Not shown at this width: {listed(left_out)}.")
    return Layout(list(widths), head, rows, notes)


def _total(widths: dict[Column, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _broken(text: str, width: int) -> list[str]:
    """Break text into lines of a width at any character."""
    lines = [""]
    for character in text:
        if display_width(lines[-1] + character) > width:
            lines.append("")
        lines[-1] += character
    return lines


def _lower_heading(widths: dict[Column, int], width: int) -> None:
    """Spend the columns that are left on headings of more than two lines."""
    while _total(widths) < width:
        heights = {column: len(wrap(column.title, widths[column])) for column in widths}
        highest = max(heights, key=lambda column: heights[column])
        if heights[highest] <= 2:
            return
        widths[highest] += 1


def _lines(widths: dict[Column, int], cells: Sequence[str], *, heading: bool = False) -> list[list[str]]:
    """Return the lines of a row of cells: headings end on its last line, others begin on its first."""
    parts = []
    for (column, width), cell in zip(widths.items(), cells, strict=True):
        if heading:
            parts.append(wrap(cell, width, break_long_words=False))
        elif column is KIND:
            parts.append(_broken(cell, width))
        else:
            parts.append([shorten(cell, width)])
    height = max(map(len, parts))
    blank = [[""] * (height - len(part)) for part in parts]
    full = [more + part if heading else part + more for part, more in zip(parts, blank, strict=True)]
    return [
        [padded(cell, width, left=column.words) for (column, width), cell in zip(widths.items(), line, strict=True)]
        for line in zip(*full, strict=True)
    ]
