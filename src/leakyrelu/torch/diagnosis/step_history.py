"""The history of a watch in training: what each unit did at the steps that were counted, on the model's device.

Nothing here waits for the device until somebody asks: per unit three integers are kept beside the latest censuses.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import torch

from leakyrelu.diagnosis.history import History, UnitHistory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from leakyrelu.diagnosis.report import Report
    from leakyrelu.torch.diagnosis.unit_counts import Tally


__all__ = ["Recorder"]


class _Units:
    """When each unit of a layer was positive, as tensors of one integer a unit."""

    def __init__(self, like: Tally) -> None:
        self.last_positive = torch.full_like(like.counts[0], -1)
        self.silent_since = torch.full_like(like.counts[0], -1)
        self.revivals = torch.zeros_like(like.counts[0])
        self.observations = 0

    def add(self, step: int, tally: Tally) -> None:
        above, nan = tally.counts[:2]
        positive = (above > 0).to(self.last_positive.device)
        silent = ((above == 0) & (nan < tally.samples)).to(self.last_positive.device)
        was_silent = self.silent_since >= 0
        self.revivals += was_silent & positive
        self.last_positive = torch.where(positive, step, self.last_positive)
        self.silent_since = torch.where(silent & ~was_silent, step, self.silent_since)
        self.silent_since = torch.where(positive, -1, self.silent_since)
        self.observations += 1


class Recorder:
    """Takes one census a counted step, keeps the latest, and hands each to the writers."""

    def __init__(self, keep: int, to: Any) -> None:
        self.sites: dict[Any, _Units] = {}
        self._recent: deque[tuple[int, dict[Any, Tally]]] = deque(maxlen=keep)
        self._writers = [_writer(one) for one in (to if isinstance(to, list | tuple) else [to]) if one is not None]

    @torch.no_grad()
    def add(self, step: int, tallies: dict[Any, Tally]) -> None:
        """Add the census of a step."""
        for site, tally in tallies.items():
            if site not in self.sites:
                self.sites[site] = _Units(tally)
            self.sites[site].add(step, tally)
        self._recent.append((step, tallies))

    def write(self, step: int, tallies: dict[Any, Tally], report: Callable[[Mapping[Any, Tally]], Report]) -> None:
        """Hand the census of a step to the writers, if there are any."""
        if self._writers:
            census = report(tallies)
            for writer in self._writers:
                writer(step, census)

    def read(self, names: Mapping[Any, str], report: Callable[[Mapping[Any, Tally]], Report]) -> History:
        """Read everything, under these names."""
        units = [
            UnitHistory(
                names[site],
                unit.last_positive.cpu().numpy(),
                unit.silent_since.cpu().numpy(),
                unit.revivals.cpu().numpy(),
                unit.observations,
            )
            for site, unit in self.sites.items()
        ]
        return History(units, [step for step, _ in self._recent], [report(tallies) for _, tallies in self._recent])


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
