"""The sentences that conclude a study, computed from its numbers: they hold whichever row is best."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from leakyrelu._text import counted, listed, with_article
from leakyrelu.study.variants import ETA, similarity

if TYPE_CHECKING:
    from leakyrelu.study.result import RowResult, StudyResult


def concluding_sentence(result: StudyResult) -> str:
    """Return which row was most accurate, against ReLU, how sure that is, and how many units were silent."""
    rows = {row.row.name: row for row in result.rows}
    relu, centered = rows["ReLU"], rows.get("Centered")
    best = max(result.rows, key=lambda row: row.test_accuracy)  # the first among equals, and ReLU is first
    shown = [best, *(row for row in [centered] if row and row is not best)]
    where = f"{_place(result)} on {result.data['name']}"
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


def formula_sentence(result: StudyResult) -> str:
    """Return what the slope by formula is for, and how it did against ReLU and the usual slopes.

    It is the slope that keeps unrelated inputs apart at initialization; whether that helps is what the study measures,
    so nothing more is said of it than the medians and ranges say.
    """
    rows = {row.row.name: row for row in result.rows}
    settings = result.settings
    reached = similarity(0.0, settings.depth, settings.network)
    chosen = rows.get("Tailored")
    if chosen is None:
        medians = [row.test_accuracy for row in result.rows]
        return (
            f"No slope is chosen by formula: even ReLU leaves unrelated inputs at a similarity of {reached:.3f}. The "
            f"medians of the rows lie between {percent(min(medians))} and {percent(max(medians))}."
        )
    rivals = [rows[name] for name in ("ReLU", "Leaky 0.01", "Leaky 0.2") if name in rows]
    return (
        f"By formula: the slope {chosen.row.slope:.3g} keeps inputs apart (similarity of unrelated ones at most "
        f"{ETA:g} at initialization, {reached:.3f} under ReLU). In test accuracy it was "
        f"{listed([_against(chosen, rival) for rival in rivals])}."
    )


def search_lines(result: StudyResult) -> list[str]:
    """Return a line on the rows whose best learning rate was at an edge, and one on how long the trainings were."""
    settings = result.settings
    lines = []
    for edge in ("lowest", "highest", "only"):
        names = [f"{row.row.name} ({row.learning_rate:g})" for row in result.rows if row.edge == edge]
        if names:
            after = f" after {counted(settings.extensions, 'extension')}" if settings.extensions else ""
            lines.append(
                f"The best learning rate is the {edge} one tried{after}, so another may do better: {listed(names)}."
            )
    if settings.patience:
        epochs = [len(run.loss) for run in result.chosen]
        lines.append(
            f"Trained for {settings.length}: {min(epochs)} to {max(epochs)} epochs; validation was not flat at the end "
            f"in {result.not_flat} of {counted(len(epochs), 'training')}."
        )
    return lines


def percent(share: float, digits: int = 1) -> str:
    """Return a share as a percentage with fixed digits, a dash for NaN; a share above 0 is never written as 0."""
    if math.isnan(share):
        return "–"
    if 0 < share < 0.5 * 10 ** (-digits - 2):
        return f"<{10.0**-digits:.{digits}f} %"
    return f"{100 * share:.{digits}f} %"


def _place(result: StudyResult) -> str:
    settings = result.settings
    return f"At depth {settings.depth}" if settings.network == "mlp" else f"In {with_article(settings.called)}"


def _against(row: RowResult, other: RowResult) -> str:
    points = 100 * (row.test_accuracy - other.test_accuracy)
    better, worse = (row, other) if points >= 0 else (other, row)
    order = f"{abs(points):.1f} points {'above' if points > 0 else 'below'}" if points else "equal to"
    return f"{order} {other.row.name}{_agreement(better, worse)}"


def _name(row: RowResult) -> str:
    if row.row.kind == "relu":
        return row.row.name
    return f"{row.row.name} ({'learned from' if row.row.kind == 'prelu' else 'slope'} {row.row.slope:.3g})"


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
