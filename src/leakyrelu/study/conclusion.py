"""The sentence that concludes a study, computed from its numbers: it holds whichever row is best."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from leakyrelu._text import listed

if TYPE_CHECKING:
    from leakyrelu.study.result import RowResult, StudyResult


def concluding_sentence(result: StudyResult) -> str:
    """Return which row was most accurate, against ReLU, how sure that is, and how many units were silent."""
    rows = {row.row.name: row for row in result.rows}
    relu, centered = rows["ReLU"], rows.get("Centered")
    best = max(result.rows, key=lambda row: row.test_accuracy)  # the first among equals, and ReLU is first
    shown = [best, *(row for row in [centered] if row and row is not best)]
    where = f"At depth {result.settings.depth} on {result.data['name']}"
    if best is relu:
        rival = max((row for row in result.rows if row is not relu), key=lambda row: row.test_accuracy)
        return (
            f"{where}, no slope did better than ReLU with {_accuracy(relu)}; the best of the others was {_name(rival)} "
            f"with {percent(rival.test_accuracy)}{_agreement(relu, rival)}, and {_silent(relu, rival)}."
        )
    points = 100 * (best.test_accuracy - relu.test_accuracy)
    return (
        f"{where}, {_name(best)} was the most accurate with {_accuracy(best)}, {points:.1f} points "
        f"above ReLU's {percent(relu.test_accuracy)}{_agreement(best, relu)}; {_silent(relu, *shown)}."
    )


def percent(share: float, digits: int = 1) -> str:
    """Return a share as a percentage with fixed digits, a dash for NaN; a share above 0 is never written as 0."""
    if math.isnan(share):
        return "–"
    if 0 < share < 0.5 * 10 ** (-digits - 2):
        return f"<{10.0**-digits:.{digits}f} %"
    return f"{100 * share:.{digits}f} %"


def _name(row: RowResult) -> str:
    return row.row.name if row.row.name == "ReLU" else f"{row.row.name} (slope {row.row.slope:.3g})"


def _accuracy(row: RowResult) -> str:
    return f"{percent(row.test_accuracy)} of the test samples right"


def _agreement(better: RowResult, other: RowResult) -> str:
    """Return how far the seeds agree about the order of two rows."""
    seeds = len(better.test_accuracies)
    if seeds == 1:
        return " (one seed: a hint, no more)"
    if better.test_accuracy == other.test_accuracy:
        return f" (medians of {seeds} seeds: a tie)"
    if min(better.test_accuracies) > max(other.test_accuracies):
        return f" (medians of {seeds} seeds, whose ranges do not overlap)"
    return f" (medians of {seeds} seeds, but their ranges overlap: a hint, no more)"


def _silent(relu: RowResult, *others: RowResult) -> str:
    """Return how many units ended silent under ReLU and under the others."""
    counted = [row for row in (relu, *others) if not math.isnan(row.silent_after)]
    lost = [row.row.name for row in (relu, *others) if math.isnan(row.silent_after)]
    shares = [f"{percent(row.silent_after)} under {row.row.name}" for row in counted]
    parts = [f"after training the share of silent units was {listed(shares)}"] if shares else []
    if lost:
        parts.append(f"every run of {listed(lost)} diverged")
    return ", and ".join(parts)
