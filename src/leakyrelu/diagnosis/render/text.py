"""A census as plain text of at most 80 columns: totals and the worst layer, then the layers in their order."""

from __future__ import annotations

from textwrap import TextWrapper
from typing import TYPE_CHECKING

from leakyrelu._text import counted
from leakyrelu.diagnosis.render.summary import BASIC_COLUMNS, LAYER, SHOWN_LAYERS, WIDTH, clip, headline, notes

if TYPE_CHECKING:
    from leakyrelu.diagnosis.census import Census


def format_table(census: Census) -> str:
    """Return the table as text of at most `WIDTH` columns.

    Of more than `SHOWN_LAYERS` layers, those without a silent unit are only counted, except the first and the last.
    """
    lines = headline(census)
    if census.layers:
        shown = _shown(census)
        rows = [[column.cell(census.layers[i]) for column in BASIC_COLUMNS] for i in shown]
        header = [column.title for column in BASIC_COLUMNS]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        spare = WIDTH - sum(widths) - 2 * (len(widths) - 1)
        if spare < 0:
            _narrow(widths, -spare)
        lines += ["", _line(header, widths)]
        last = -1
        for i, row in zip(shown, rows, strict=True):
            if i > last + 1:
                lines.append(f"  ... {counted(i - last - 1, 'layer')} without a silent unit")
            lines.append(_line(row, widths))
            last = i
    wrapper = TextWrapper(WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    below = [clip(line, WIDTH) for note in notes(census) for line in wrapper.wrap(note)]
    return "\n".join([*lines, *([""] if below else []), *below])


def _shown(census: Census) -> list[int]:
    everything = list(range(len(census.layers)))
    if len(everything) <= SHOWN_LAYERS:
        return everything
    return [i for i in everything if i in (0, everything[-1]) or len(census.layers[i].silent_units)]


def _narrow(widths: list[int], excess: int) -> None:
    """Take the missing columns from the two that hold words, the name keeping more."""
    for column, least in ((1, 8), (0, 12), (1, 4), (0, 6)):
        taken = min(excess, max(widths[column] - least, 0))
        widths[column] -= taken
        excess -= taken


def _line(row: list[str], widths: list[int]) -> str:
    cells = zip(BASIC_COLUMNS, row, widths, strict=True)
    return "  ".join(
        clip(text, width, keep_end=column is LAYER).ljust(width) if column.words else text.rjust(width)
        for column, text, width in cells
    )
