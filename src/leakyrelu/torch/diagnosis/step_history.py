"""The history of a watch in training: what each unit did at the steps that were counted, on the model's device.

Nothing here waits for the device before the history is read: per unit three integers are kept beside the latest
censuses.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import torch

from leakyrelu.diagnosis.history import History, UnitHistory
from leakyrelu.torch.graph.call_sites import layer_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from leakyrelu.diagnosis.report import Report
    from leakyrelu.torch.diagnosis.unit_counts import UnitCounts
    from leakyrelu.torch.graph.call_sites import LayerKey


class _UnitSteps:
    """Steps at which each unit of a layer was positive, as tensors of one integer a unit."""

    def __init__(self, like: UnitCounts) -> None:
        self.last_positive = torch.full_like(like.counts[0], -1)
        self.silent_since = torch.full_like(like.counts[0], -1)
        self.revivals = torch.zeros_like(like.counts[0])
        self.observations = 0

    def add(self, step: int, counts: UnitCounts) -> None:
        above, nan = counts.counts[:2]
        positive = (above > 0).to(self.last_positive.device)
        silent = ((above == 0) & (nan < counts.samples)).to(self.last_positive.device)
        was_silent = self.silent_since >= 0
        self.revivals += was_silent & positive
        self.last_positive = torch.where(positive, step, self.last_positive)
        self.silent_since = torch.where(silent & ~was_silent, step, self.silent_since)
        self.silent_since = torch.where(positive, -1, self.silent_since)
        self.observations += 1


class HistoryRecorder:
    """Recorder of one census a counted step; it keeps the latest and hands each to the writers."""

    def __init__(self, keep: int, to: Any, report: Callable[[Mapping[LayerKey, UnitCounts]], Report]) -> None:
        self._report = report
        self._layers: dict[LayerKey, _UnitSteps] = {}
        self._recent: deque[tuple[int, dict[LayerKey, UnitCounts]]] = deque(maxlen=keep)
        self._writers = [_writer(one) for one in (to if isinstance(to, list | tuple) else [to]) if one is not None]

    @torch.no_grad()
    def add(self, step: int, census: dict[LayerKey, UnitCounts]) -> None:
        """Add the census of a step."""
        for key, counts in census.items():
            if key not in self._layers:
                self._layers[key] = _UnitSteps(counts)
            self._layers[key].add(step, counts)
        self._recent.append((step, census))

    def write(self, step: int, census: dict[LayerKey, UnitCounts]) -> None:
        """Hand the census of a step to the writers, if there are any."""
        if self._writers:
            report = self._report(census)
            for writer in self._writers:
                writer(step, report)

    def read(self) -> History:
        """Read everything."""
        names = layer_names(list(self._layers))
        units = [
            UnitHistory(
                names[key],
                unit.last_positive.cpu().numpy(),
                unit.silent_since.cpu().numpy(),
                unit.revivals.cpu().numpy(),
                unit.observations,
            )
            for key, unit in self._layers.items()
        ]
        steps, censuses = [step for step, _ in self._recent], [self._report(census) for _, census in self._recent]
        return History(units, steps, censuses)


def _writer(to: Any) -> Callable[[int, Report], None]:
    if hasattr(to, "add_scalar") and hasattr(to, "add_histogram"):

        def board(step: int, report: Report) -> None:
            to.add_scalar("units/silent", report.silent / max(report.units, 1), step)
            for layer in report.layers:
                to.add_scalar(f"silent/{layer.name}", len(layer.silent_units) / max(layer.units, 1), step)
                to.add_histogram(f"positive share/{layer.name}", layer.positive_share, step)

        return board
    if not callable(to):
        raise TypeError(
            f"`to` must be a SummaryWriter (anything with add_scalar and add_histogram) or a callable that takes "
            f"(step, report), not {type(to).__name__}"
        )
    return to  # type: ignore[no-any-return]
