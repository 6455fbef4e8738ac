"""The units of a model over a training: when each was last positive, when it fell silent, whether it came back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from leakyrelu._text import counted
from leakyrelu.diagnosis.census import NamedLayers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leakyrelu.diagnosis.counts import FloatArray, IntArray
    from leakyrelu.diagnosis.report import Report


@dataclass(frozen=True, eq=False)
class UnitHistory:
    """The units of one layer over the steps that were counted.

    Parameters
    ----------
    name
        The layer.
    last_positive
        For each unit the last counted step at which any of its inputs was positive; -1 for never.
    silent_since
        For each unit the first counted step of the silence it is in; -1 for a unit that is not silent.
    revivals
        How often each unit was positive again after a silence.
    observations
        How many steps were counted.
    """

    name: str
    last_positive: IntArray
    silent_since: IntArray
    revivals: IntArray
    observations: int

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.last_positive)

    @cached_property
    def silent_units(self) -> IntArray:
        """Units silent at the last counted step."""
        return np.flatnonzero(self.silent_since >= 0)

    @cached_property
    def revived_units(self) -> IntArray:
        """Units that fell silent and were positive again, at least once."""
        return np.flatnonzero(self.revivals > 0)

    @cached_property
    def never_positive_units(self) -> IntArray:
        """Units not positive at any counted step."""
        return np.flatnonzero(self.last_positive < 0)

    def __repr__(self) -> str:
        return (
            f"<UnitHistory {self.name!r}: {counted(self.units, 'unit')}, {len(self.silent_units)} silent, "
            f"{len(self.revived_units)} revived at least once, {counted(self.observations, 'step')} counted>"
        )


@dataclass(frozen=True, eq=False, repr=False)
class History(NamedLayers[UnitHistory]):
    """The units of a model over a training, and the latest censuses.

    Parameters
    ----------
    layers
        One for each layer, in the order of their first call.
    steps, reports
        The latest steps that were counted, and the census of each; oldest first.

    Examples
    --------
    >>> units = UnitHistory("relu", np.array([40, 10]), np.array([-1, 20]), np.array([1, 0]), 5)
    >>> history = History([units], [], [])
    >>> history["relu"].silent_units, history["relu"].revived_units
    (array([1]), array([0]))
    """

    layers: Sequence[UnitHistory]
    steps: Sequence[int]
    reports: Sequence[Report]

    def __post_init__(self) -> None:
        for name in ("layers", "steps", "reports"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def silent_share(self) -> FloatArray:
        """Return the share of silent units at each of `steps`, all layers together."""
        return np.array([report.silent / max(report.units, 1) for report in self.reports], dtype=np.float64)

    def __repr__(self) -> str:
        lines = [
            f"History of {counted(len(self.layers), 'layer')}; "
            f"the latest {counted(len(self.steps), 'counted step')} {'is' if len(self.steps) == 1 else 'are'} held"
        ]
        lines += [f"  {layer!r}" for layer in self.layers]
        return "\n".join(lines)
