"""Studies with planted numbers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from leakyrelu.study import Examination, RowResult, Run, Settings, Snapshot, StudyResult, choose_rows

if TYPE_CHECKING:
    from collections.abc import Collection


def made_up(
    accuracies: dict[str, list[float]],
    silent: dict[str, float] | None = None,
    diverged: Collection[str] = (),
    settings: Settings | None = None,
) -> StudyResult:
    """A study with these test accuracies, one a seed, as if each row had been trained for one epoch at one rate."""
    settings = settings or Settings(depth=50, width=100)
    settings = dataclasses.replace(settings, seeds=len(next(iter(accuracies.values()))))
    rows = {row.name: row for row in choose_rows(settings.depth, settings.network)[0]}
    results = []
    for name, values in accuracies.items():
        count = round(100 * (silent or {}).get(name, 0.0))
        snapshot = Snapshot((1.0,), (count,), (0,), (0.5,))
        runs = [Run(seed, 1e-3, (1.0,), (value,), 1.0, name in diverged) for seed, value in enumerate(values)]
        looks = [Examination(seed, value, snapshot, snapshot) for seed, value in enumerate(values)]
        results.append(RowResult(rows[name], 100, 1e-3, tuple(runs), tuple(looks)))
    return StudyResult(settings, {"name": "some data"}, {}, tuple(results), (), 1, 1.0)
