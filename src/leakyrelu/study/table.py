"""The table of a study: columns, cells and legends, for the terminal and the page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from leakyrelu.study.conclusion import percent

if TYPE_CHECKING:
    from rich.table import Table

    from leakyrelu.study.result import RowResult, StudyResult

COLUMNS = (
    "activation",
    "slope",
    "learning rate",
    "test accuracy % (range)",
    "silent % before → after",
    "gradient first / last",
    "mean / std",
    "seconds",
)
"""Headings; every cell of a row belongs to one."""

NOTE = (
    "Medians over the seeds. Silent: units that are positive for no training sample, at initialization → after "
    "training. Gradient: norm in the first hidden layer over the last, at initialization. Mean / std: norm of the "
    "units' output means over norm of their standard deviations, averaged over the layers, after training; 0 is "
    "centered. Seconds: one training on one thread."
)
"""What the columns mean."""

LEGEND = (
    "Medians over seeds. Silent: units positive for no training sample, from initialization to after training. "
    "Gradient: norm in the first layer over the last, at initialization. Mean/std: of the outputs, 0 is centered."
)
"""The same for a terminal."""

_NARROW = ("", "slope", "rate", "test % (range)", "silent %\nfrom → to", "gradient\n1st/last", "mean\n/std", "sec")


def cells(result: RowResult) -> list[str]:
    """Return one row of text, a cell for each of `COLUMNS`."""
    low, high = min(result.test_accuracies), max(result.test_accuracies)
    return [
        result.row.name,
        f"{result.row.slope:.3g}",
        f"{result.learning_rate:g}",
        f"{_hundredfold(result.test_accuracy)} ({_hundredfold(low)}–{_hundredfold(high)})",
        f"{_share(result.silent_before)} → {_share(result.silent_after)}",
        _short(result.gradient_ratio),
        _short(result.mean_over_std_after),
        f"{result.seconds:.1f}",
    ]


def terminal_table(result: StudyResult) -> Table:
    """Return the table for a terminal of 80 columns and more."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for number, heading in enumerate(_NARROW):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    best = max(row.test_accuracy for row in result.rows)
    for row in result.rows:
        table.add_row(*cells(row), style="bold" if row.test_accuracy == best else "")
    return table


def sources(result: StudyResult) -> str:
    """Return the source of each slope, in one line."""
    return "; ".join(f"{row.row.name}: {row.row.source}" for row in result.rows)


def _hundredfold(share: float) -> str:
    return f"{100 * share:.1f}"


def _share(share: float) -> str:
    return percent(share).removesuffix(" %")


def _short(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.2f}" if 0.01 <= abs(value) < 1000 or value == 0 else f"{value:.1e}"
