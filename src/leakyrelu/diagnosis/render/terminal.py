"""A report for people at a terminal: findings on top, then the layers, the worst first, as wide as the window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from leakyrelu.diagnosis.findings import find
from leakyrelu.diagnosis.render.summary import clip, headline, median_share, notes, percent, ratio_text, slope_text

if TYPE_CHECKING:
    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.finding import Finding
    from leakyrelu.diagnosis.layer import Layer


WIDE = 110
"""Columns from which the histogram and the number of inputs have room."""
SHOWN = 5
"""Findings written out; the others are counted."""
LONGEST = 40
"""Layers listed; the others are counted."""

_STYLES = {"critical": "bold red", "warning": "yellow", "note": "cyan", "healthy": "green"}
_BLOCKS = " ▁▂▃▄▅▆▇█"


def print_report(census: Census, console: Console | None = None) -> None:
    """Print a report with its findings.

    Parameters
    ----------
    census
        What `diagnose` returned.
    console
        Where to; by default standard output at its width. Colors are left out where it is no terminal.
    """
    console = console or Console(highlight=False)
    console.print(render(census, console.width))


def render(census: Census, width: int) -> Group:
    """Lay a report out for a width."""
    parts: list[Any] = [Text(line, style="bold" if i == 0 else "") for i, line in enumerate(headline(census))]
    if census.layers:
        parts += [Text(), *_findings(census), _layers(census, width)]
        hidden = len(census.layers) - LONGEST
        if hidden > 0:
            parts.append(Text(f"... and {hidden} more layers, none worse than these", style="dim"))
    if below := notes(census):
        parts += [Text(), *(Text(note, style="dim") for note in below)]
    return Group(*parts)


def worst_first(census: Census) -> list[Layer]:
    """Order by the share of silent units, then of those always on, then as they ran."""

    def badness(layer: Layer) -> tuple[float, float]:
        units = max(layer.units, 1)
        return (
            -(len(layer.silent_units) + len(layer.saturated_units)) / units,
            -len(layer.always_on_units) / units,
        )

    return sorted(census.layers, key=badness)


def _findings(census: Census) -> list[Any]:
    parts: list[Any] = []
    told: set[tuple[str, str]] = set()
    found = find(census)
    for finding in found[:SHOWN]:
        parts += _finding(finding, again=(finding.remedy, finding.code) in told)
        told.add((finding.remedy, finding.code))
    if (more := len(found) - SHOWN) > 0:
        parts += [Text(f"... and {more} more findings, in report.findings and in the page", style="dim"), Text()]
    return parts


def _finding(finding: Finding, *, again: bool) -> list[Any]:
    head = Text.assemble((finding.severity, _STYLES[finding.severity]), (f": {finding.title}", "bold"))
    lines = [head, _indented(finding.evidence)]
    if again:
        return [*lines, _indented("The same remedy as above."), Text()]
    lines += [_indented(finding.remedy)]
    return [*lines, *(_indented(line, 4, style="green") for line in finding.code.splitlines()), Text()]


def _indented(text: str, by: int = 2, style: str = "") -> Any:
    from rich.padding import Padding

    return Padding(Text(text, style=style), (0, 0, 0, by))


def _layers(census: Census, width: int) -> Table:
    wide = width >= WIDE
    numbers = ("slope", "units", *(("inputs",) if wide else ()), "silent", "always on", "positive", "mean/std")
    rows = [_numbers(layer, wide) for layer in worst_first(census)[:LONGEST]]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    table.add_column("layer", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("p from 0 to 1", no_wrap=True)
    # Numbers are never cut: where room is short, names are, of which the end says the most.
    taken = sum(max(len(name), *(len(row[i]) for row in rows)) + 2 for i, name in enumerate(numbers)) + 2 + 15 * wide
    kinds = min(max(len(layer.kind) for layer in census.layers), max((width - taken) // 3, 4))
    for layer, row in zip(worst_first(census), rows, strict=False):
        name = clip(layer.name, max(width - taken - max(kinds, 4), 6), keep_end=True)
        table.add_row(Text(name), Text(clip(layer.kind, kinds)), *row, *([Text(histogram(layer))] if wide else []))
    return table


def _numbers(layer: Layer, wide: bool) -> list[Text]:
    silent, always = len(layer.silent_units), len(layer.always_on_units)
    return [
        Text(slope_text(layer)),
        Text(str(layer.units)),
        *([Text(str(layer.samples))] if wide else []),
        Text(_count(silent, layer.units), style="red" if silent else ""),
        Text(_count(always, layer.units), style="yellow" if always else ""),
        Text(percent(median_share(layer))),
        Text(ratio_text(layer.mean_over_std)),
    ]


def histogram(layer: Layer) -> str:
    """Twelve blocks: silent, ten equal bins between, always on; as high as their share of the units."""
    share = layer.positive_share[~np.isnan(layer.positive_share)]
    inner = share[(share > 0) & (share < 1)]
    counts = [int((share == 0).sum()), *np.histogram(inner, 10, (0.0, 1.0))[0].tolist(), int((share == 1).sum())]
    top = max(*counts, 1)
    return "".join(_BLOCKS[0 if not count else max(1, round(8 * count / top))] for count in counts)


def _count(number: int, units: int) -> str:
    return "0" if number == 0 else f"{number} ({number / units:.0%})"
