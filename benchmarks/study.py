"""``python -m benchmarks study FILE``: shorten what ``leakyrelu study --json FILE`` wrote, for ``docs/study.json``.

Of other networks than the plain one, ``--save`` names where the result goes.

Kept are the settings, the machine, and of each activation its summary: every number of the table and the picture, the
test accuracy of each seed, and at the chosen learning rate the medians over the seeds that the charts draw.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks import storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LEFT_OUT = ("runs", "examinations")


def _medians(series: Iterable[Sequence[float]]) -> list[float]:
    """Median over the seeds, at each epoch or layer; a training that ended earlier counts on with its last number."""
    rows = list(series)
    longest = max(map(len, rows), default=0)
    return [statistics.median(row[min(place, len(row) - 1)] for row in rows) for place in range(longest)]


def shorten(study: dict[str, Any]) -> dict[str, Any]:
    """Replace the trainings of each activation by their medians."""
    rows = []
    for row in study["rows"]:
        chosen = [run for run in row["runs"] if run["learning_rate"] == row["learning_rate"]]
        diverged = {run["seed"] for run in chosen if run["diverged"]}
        trained = [each for each in row["examinations"] if each["seed"] not in diverged]
        rows.append(
            {key: value for key, value in row.items() if key not in LEFT_OUT}
            | {
                "test_accuracies": [each["test_accuracy"] for each in row["examinations"]],
                "loss_by_epoch": _medians(run["loss"] for run in chosen if not run["diverged"]),
                "validation_accuracy_by_epoch": _medians(run["validation_accuracy"] for run in chosen),
                "gradient_norm_before_by_layer": _medians(
                    each["before"]["gradient_norm"] for each in row["examinations"]
                ),
                "silent_units_after_by_layer": _medians(each["after"]["silent_units"] for each in trained),
            }
        )
    return {**study, "rows": rows}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks study", description=__doc__)
    parser.add_argument("file", type=pathlib.Path, help="what leakyrelu study --json wrote")
    parser.add_argument("--save", type=pathlib.Path, default=storage.ROOT / "docs" / "study.json")
    options = parser.parse_args(arguments)
    storage.save(shorten(json.loads(options.file.read_text(encoding="utf-8"))), options.save)
    print(f"wrote {options.save}")
