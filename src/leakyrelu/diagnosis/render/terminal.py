"""A report for people at a terminal: findings on top, then the layers, the worst first, as wide as the window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from leakyrelu.diagnosis.render.summary import clip, headline, median_share, notes, percent, ratio_text, slope_text

if TYPE_CHECKING:
    from leakyrelu.diagnosis.findings import Finding
    from leakyrelu.diagnosis.layer import Layer
    from leakyrelu.diagnosis.report import Report


WIDE = 110
"""Columns from which the histogram and the number of inputs have room."""
SHOWN = 5
"""Findings written out; the others are counted."""
LONGEST = 40
"""Layers listed; the others are counted."""

_STYLES = {"critical": "bold red", "warning": "yellow", "note": "cyan", "healthy": "green"}
_BLOCKS = " ▁▂▃▄▅▆▇█"


def print_report(report: Report, console: Console | None = None) -> None:
    """Print a report with its findings.

    Parameters
    ----------
    report
        What `diagnose` gave.
    console
        Where to; by default standard output at its width. Colors are left out where it is no terminal.
    """
    console = console or Console(highlight=False)
    console.print(render(report, console.width))


def render(report: Report, width: int) -> Group:
    """Lay a report out for a width."""
    parts: list[Any] = [Text(line, style="bold" if i == 0 else "") for i, line in enumerate(headline(report))]
    if report.layers:
        parts += [Text(), *_findings(report), _layers(report, width)]
        hidden = len(report.layers) - LONGEST
        if hidden > 0:
            parts.append(Text(f"... and {hidden} more layers, none worse than these", style="dim"))
    if below := notes(report):
        parts += [Text(), *(Text(note, style="dim") for note in below)]
    return Group(*parts)


def worst_first(report: Report) -> list[Layer]:
    """Order by the share of silent units, then of those always on, then as they ran."""

    def badness(layer: Layer) -> tuple[float, float]:
        units = max(layer.units, 1)
        return (
            -(len(layer.silent_units) + len(layer.saturated_units)) / units,
            -len(layer.always_on_units) / units,
        )

    return sorted(report.layers, key=badness)


def _findings(report: Report) -> list[Any]:
    parts: list[Any] = []
    told: set[tuple[str, str]] = set()
    for finding in report.findings[:SHOWN]:
        parts += _finding(finding, again=(finding.remedy, finding.code) in told)
        told.add((finding.remedy, finding.code))
    if (more := len(report.findings) - SHOWN) > 0:
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


def _layers(report: Report, width: int) -> Table:
    wide = width >= WIDE
    numbers = ("slope", "units", *(("inputs",) if wide else ()), "silent", "always on", "positive", "mean/std")
    rows = [_numbers(layer, wide) for layer in worst_first(report)[:LONGEST]]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    table.add_column("layer", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("p from 0 to 1", no_wrap=True)
    # Numbers are never cut: where room is short, names are, of which the end says the most.
    taken = sum(max(len(name), *(len(row[i]) for row in rows)) + 2 for i, name in enumerate(numbers)) + 2 + 15 * wide
    kinds = min(max(len(layer.kind) for layer in report.layers), max((width - taken) // 3, 4))
    for layer, row in zip(worst_first(report), rows, strict=False):
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
