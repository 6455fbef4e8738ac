"""A census at a terminal, as wide as the window: findings on top, then the layers, the worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from leakyrelu._text import counted
from leakyrelu.diagnosis.findings import find
from leakyrelu.diagnosis.render.summary import (
    ALWAYS_ON,
    BASIC_COLUMNS,
    COLUMNS,
    INPUTS,
    SHOWN_FINDINGS,
    SHOWN_LAYERS,
    SILENT,
    clip,
    headline,
    notes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.finding import Finding
    from leakyrelu.diagnosis.layer import Layer


_WIDE = 110  # columns from which the histogram and the number of inputs fit
_STYLES = {"critical": "bold red", "warning": "yellow", "note": "cyan", "healthy": "green"}
_CELL_STYLES = {SILENT: "red", ALWAYS_ON: "yellow"}  # of cells other than 0
_BLOCKS = " ▁▂▃▄▅▆▇█"


def print_report(census: Census, console: Console | None = None) -> None:
    """Print a census with its findings, by default on standard output at its width, in color where it is a terminal."""
    console = console or Console(highlight=False)
    console.print(_layout(census, console.width))


def _layout(census: Census, width: int) -> Group:
    parts: list[Any] = [Text(line, style="bold" if i == 0 else "") for i, line in enumerate(headline(census))]
    if census.layers:
        parts += [Text(), *_findings(find(census)), _layers(_worst_first(census), width)]
        if (hidden := len(census.layers) - SHOWN_LAYERS) > 0:
            parts.append(Text(f"... and {counted(hidden, 'more layer')}, none worse than these", style="dim"))
    if below := notes(census):
        parts += [Text(), *(Text(note, style="dim") for note in below)]
    return Group(*parts)


def _worst_first(census: Census) -> list[Layer]:
    """Order by the share of silent units, then of those always on, then as they ran."""

    def badness(layer: Layer) -> tuple[float, float]:
        units = max(layer.units, 1)
        return (
            -(len(layer.silent_units) + len(layer.saturated_units)) / units,
            -len(layer.always_on_units) / units,
        )

    return sorted(census.layers, key=badness)


def _findings(found: Sequence[Finding]) -> list[Any]:
    parts: list[Any] = []
    written: set[tuple[str, str]] = set()
    for finding in found[:SHOWN_FINDINGS]:
        parts += _finding(finding, again=(finding.remedy, finding.code) in written)
        written.add((finding.remedy, finding.code))
    if (more := len(found) - SHOWN_FINDINGS) > 0:
        text = f"... and {counted(more, 'more finding')}, in report.findings and in the page"
        parts += [Text(text, style="dim"), Text()]
    return parts


def _finding(finding: Finding, *, again: bool) -> list[Any]:
    head = Text.assemble((finding.severity, _STYLES[finding.severity]), (f": {finding.title}", "bold"))
    lines = [head, _indented(finding.evidence)]
    if again:
        return [*lines, _indented("The same remedy as above."), Text()]
    lines += [_indented(finding.remedy)]
    return [*lines, *(_indented(line, 4, style="green") for line in finding.code.splitlines()), Text()]


def _indented(text: str, by: int = 2, style: str = "") -> Any:
    return Padding(Text(text, style=style), (0, 0, 0, by))


def _layers(layers: list[Layer], width: int) -> Table:
    wide = width >= _WIDE
    columns = [column for column in COLUMNS if column in BASIC_COLUMNS or (wide and column is INPUTS)]
    numbers = [column for column in columns if not column.words]
    shown = layers[:SHOWN_LAYERS]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column.title, justify="left" if column.words else "right", no_wrap=True)
    if wide:
        table.add_column("p from 0 to 1", no_wrap=True)
    # Numbers are never cut: where the width is short, names are, of which the end says the most.
    rows = [[column.cell(layer) for column in numbers] for layer in shown]
    taken = sum(max(map(len, cells)) + 2 for cells in zip([column.title for column in numbers], *rows, strict=True))
    taken += 2 + 15 * wide
    kinds = min(max(len(layer.kind) for layer in layers), max((width - taken) // 3, 4))
    for layer, row in zip(shown, rows, strict=True):
        table.add_row(
            Text(clip(layer.name, max(width - taken - max(kinds, 4), 6), keep_end=True)),
            Text(clip(layer.kind, kinds)),
            *(
                Text(cell, style="" if cell == "0" else _CELL_STYLES.get(column, ""))
                for column, cell in zip(numbers, row, strict=True)
            ),
            *([Text(histogram(layer))] if wide else []),
        )
    return table


def histogram(layer: Layer) -> str:
    """Return twelve blocks: silent, ten equal bins between, always on; as high as their share of the units."""
    share = layer.positive_share[~np.isnan(layer.positive_share)]
    inner = share[(share > 0) & (share < 1)]
    counts = [int((share == 0).sum()), *np.histogram(inner, 10, (0.0, 1.0))[0].tolist(), int((share == 1).sum())]
    top = max(*counts, 1)
    return "".join(_BLOCKS[0 if not count else max(1, round(8 * count / top))] for count in counts)
