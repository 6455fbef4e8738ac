"""A census at a terminal, as wide as the window: findings on top, then the layers, the worst first, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from leakyrelu._text import counted, printable
from leakyrelu.diagnosis.findings import find
from leakyrelu.diagnosis.plan import make_plan
from leakyrelu.diagnosis.render.layout import GAP, lay_out
from leakyrelu.diagnosis.render.summary import (
    ALWAYS_ON,
    HISTOGRAM,
    PLAN,
    SHOWN_FINDINGS,
    SILENT,
    WORST_FIRST,
    headline,
    notes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.finding import Finding


_STYLES = {"critical": "bold red", "warning": "yellow", "note": "cyan", "healthy": "green"}
_CELL_STYLES = {SILENT: "red", ALWAYS_ON: "yellow"}  # of cells other than 0


def print_report(census: Census, console: Console | None = None) -> None:
    """Print a census with its findings, by default on standard output at its width, in color where it is a terminal."""
    console = console or Console(highlight=False)
    console.print(_layout(census, console.width))


def _layout(census: Census, width: int) -> Group:
    parts: list[Any] = [Text(line, style="bold" if i == 0 else "") for i, line in enumerate(headline(census))]
    if census.layers:
        parts += [Text(), *_findings(find(census)), *_layers(census, width)]
    if below := notes(census):
        parts += [Text(), *(Text(note, style="dim") for note in below)]
    if census.layers:
        parts += [Text(), *_plan(census)]
    return Group(*parts)


def _findings(found: Sequence[Finding]) -> list[Any]:
    parts: list[Any] = []
    written: set[str] = set()
    for number, finding in enumerate(found[:SHOWN_FINDINGS], 1):
        parts += _finding(number, finding, written)
        written |= {finding.remedy, finding.code}
    if (more := len(found) - SHOWN_FINDINGS) > 0:
        text = f"... and {counted(more, 'more finding')}, in report.findings and in the page"
        parts += [Text(text, style="dim"), Text()]
    return parts


def _finding(number: int, finding: Finding, written: set[str]) -> list[Any]:
    head = Text.assemble((f"{number}. {finding.severity}", _STYLES[finding.severity]), (f": {finding.title}", "bold"))
    lines = [head, *([_indented(f"Where: {finding.place}")] if finding.place else []), _indented(finding.evidence)]
    lines.append(_indented("The same remedy as above." if finding.remedy in written else finding.remedy))
    return [*lines, *([] if finding.code in written else _code(finding.code)), Text()]


def _plan(census: Census) -> Iterator[Any]:
    steps = make_plan(census)
    if len(steps) == 1:
        yield Text(steps[0].text, style="bold")
        return
    yield Text(PLAN, style="bold")
    table = Table.grid(padding=(0, 1, 0, 0))
    for number, step in enumerate(steps, 1):
        table.add_row(f"{number}.", Group(Text(step.text), *_code(step.code, 2)))
    yield table


def _code(code: str, by: int = 4) -> list[Any]:
    return [_indented(printable(line), by, style="green") for line in code.splitlines()]


def _indented(text: str, by: int = 2, style: str = "") -> Any:
    return Padding(Text(text, style=style), (0, 0, 0, by))


def _layers(census: Census, width: int) -> Iterator[Text]:
    layout = lay_out(census, width, more=[HISTOGRAM])
    yield Text(WORST_FIRST, style="bold")
    for line in layout.head:
        yield Text(GAP.join(line).rstrip(), style="dim", no_wrap=True)
    yield Text("─" * len(GAP.join(layout.head[0])), style="dim", no_wrap=True)
    for lines, said in layout.rows:
        for line in lines:
            styles = [
                "" if cell.strip() == "0" else _CELL_STYLES.get(c, "")
                for c, cell in zip(layout.columns, line, strict=True)
            ]
            yield Text(GAP, no_wrap=True).join(Text(cell, style) for cell, style in zip(line, styles, strict=True))
        yield from (Text(line, style="dim", no_wrap=True) for line in said)
    yield from (Text(note, style="dim") for note in layout.notes)
