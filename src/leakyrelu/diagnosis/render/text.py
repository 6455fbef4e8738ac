"""A census as plain text of at most 80 columns: totals, the layers, the worst first, and what to do."""

from __future__ import annotations

from textwrap import TextWrapper
from typing import TYPE_CHECKING

from leakyrelu._text import shorten
from leakyrelu.diagnosis.plan import make_plan
from leakyrelu.diagnosis.render.layout import GAP, lay_out
from leakyrelu.diagnosis.render.summary import PLAN, WIDTH, WORST_FIRST, headline, notes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from leakyrelu.diagnosis.census import Census


def format_table(census: Census) -> str:
    """Return the table as text of at most `WIDTH` columns."""
    parts = ["\n".join(headline(census))]
    if census.layers:
        parts += [WORST_FIRST, "\n".join(_table(census))]
    if found := [line for note in notes(census) for line in _wrapped(note, "", "  ")]:
        parts.append("\n".join(found))
    if census.layers:
        parts.append("\n".join(_plan(census)))
    return "\n\n".join(parts)


def _table(census: Census) -> Iterator[str]:
    layout = lay_out(census, WIDTH)
    yield from (GAP.join(line).rstrip() for line in layout.head)
    for _, lines, place in layout.rows:
        yield from (GAP.join(line).rstrip() for line in lines)
        if place:
            yield place
    yield from (line for note in layout.notes for line in _wrapped(note, "", "  "))


def _plan(census: Census) -> Iterator[str]:
    steps = make_plan(census)
    if len(steps) == 1:
        yield steps[0].text
        return
    yield PLAN
    for number, step in enumerate(steps, 1):
        yield from _wrapped(step.text, f"{number}. ", "   ")
        yield from (f"     {line}".rstrip() for line in step.code.splitlines())


def _wrapped(text: str, first: str, then: str) -> list[str]:
    """Break text between words; a word that is longer than a line, such as a path, is shortened."""
    wrapper = TextWrapper(
        WIDTH, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )
    return [shorten(line, WIDTH) for line in wrapper.wrap(text)]
