"""A census as plain text of at most 80 columns: totals, the layers, the worst first, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakyrelu._text import wrapped
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
    if found := [line for note in notes(census) for line in wrapped(note, WIDTH)]:
        parts.append("\n".join(found))
    if census.layers:
        parts.append("\n".join(_plan(census)))
    return "\n\n".join(parts)


def _table(census: Census) -> Iterator[str]:
    layout = lay_out(census, WIDTH)
    yield from (GAP.join(line).rstrip() for line in layout.head)
    for lines, said in layout.rows:
        yield from (GAP.join(line).rstrip() for line in lines)
        yield from said
    yield from (line for note in layout.notes for line in wrapped(note, WIDTH))


def _plan(census: Census) -> Iterator[str]:
    steps = make_plan(census)
    if len(steps) == 1:
        yield steps[0].text
        return
    yield PLAN
    for number, step in enumerate(steps, 1):
        yield from wrapped(step.text, WIDTH, first=f"{number}. ", then="   ")
        yield from (f"     {line}".rstrip() for line in step.code.splitlines())
