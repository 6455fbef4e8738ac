"""One activation of a network, and everything that follows from its counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from leakyrelu._checks import finite_number, real_number
from leakyrelu._text import counted
from leakyrelu.diagnosis.counts import Counts, checked_numbers, overflow_allowed
from leakyrelu.diagnosis.place import NOWHERE, Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from leakyrelu.diagnosis.counts import FloatArray, IntArray
    from leakyrelu.diagnosis.unit_axis import UnitAxis

TAUS: Final = (0.0, 0.025, 0.1)
"""Bounds on the dormancy of a unit at which a report gives its dormant ratio: those of Sokar et al."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One activation of a network, with what its units did.

    Parameters
    ----------
    name
        Its path in the model.
    kind
        Its type, such as ``"ReLU"``.
    negative_slope
        alpha; an array of shape (units,) where each unit has its own (PReLU).
    counts
        What was counted.
    ceiling
        Where the activation saturates: 6 for ReLU6, infinity for the others.
    place
        Where it is called.
    axis
        Which axes of its input hold the units, and whether that is known; None where nothing is said about it.
    """

    name: str
    kind: str
    negative_slope: float | FloatArray
    counts: Counts
    ceiling: float = float("inf")
    place: Place = NOWHERE
    axis: UnitAxis | None = None

    def __post_init__(self) -> None:
        for name, kind in (("name", str), ("kind", str), ("counts", Counts), ("place", Place)):
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(f"{name} of a layer must be a {kind.__name__}, not {type(value).__name__}")
        if math.isnan(real_number(self.ceiling, "ceiling")):
            raise ValueError("ceiling must be a number, not NaN: infinity means that there is none")
        slope = checked_numbers(self.negative_slope, "negative_slope", np.float64)
        if slope.ndim == 0:
            object.__setattr__(self, "negative_slope", float(slope))
            return
        if slope.shape != (self.units,):
            raise ValueError(
                f"layer {self.name!r} has {counted(self.units, 'unit')} but slopes of shape {slope.shape}: "
                "give one slope, or one for each unit"
            )
        object.__setattr__(self, "negative_slope", slope)

    @property
    def units(self) -> int:
        """Number of units."""
        return self.counts.units

    @property
    def samples(self) -> int:
        """Inputs seen by each unit: samples x positions x calls."""
        return self.counts.samples

    @property
    def entries(self) -> int | None:
        """Entries of the batch axis seen, such as images, over all calls; None where they were not counted."""
        return self.counts.entries

    @property
    def calls(self) -> int:
        """How often the activation was called."""
        return self.counts.calls

    @cached_property
    def _known(self) -> IntArray:
        """Inputs of each unit that are not NaN: those whose sign says something."""
        return np.asarray(self.samples - self.counts.nan)

    @cached_property
    def positive_share(self) -> FloatArray:
        """p, the share of inputs > 0 among those that are not NaN; NaN for a unit that saw no others."""
        return _ratio(self.counts.positive, self._known)

    @cached_property
    def saturated_share(self) -> FloatArray:
        """Share of inputs at or above the ceiling (ReLU6), where the derivative is 0 again."""
        return _ratio(self.counts.saturated, self._known)

    @property
    def silent_units(self) -> IntArray:
        """Units never positive (p = 0). Under ReLU they are dead; under Leaky ReLU they learn alpha as fast.

        A unit that saw nothing but NaN is not among them: of that unit nothing is known (see `nan_units`).
        """
        return self.counts.silent_units

    @cached_property
    def silent_bound(self) -> FloatArray:
        """For each of `silent_units`, how large its p can still be: 3 / n at 95 %, with n = `entries`, at most 1.

        The rule of three: were the share of samples with a positive input 3 / n or more, none in n would have happened
        with a probability below 5 %; p is no larger than that share. Counted are entries of the batch axis, not inputs,
        since the positions of one image are not independent. Where some inputs were NaN, n is less by the same share.
        NaN where entries were not counted.
        """
        silent = self.silent_units
        if self.entries is None:
            return np.full(len(silent), np.nan)
        lost = np.ceil(self.counts.nan[silent].astype(np.float64) * self.entries / max(self.samples, 1))
        return np.asarray(np.minimum(3.0 / np.maximum(self.entries - lost, 1.0), 1.0))

    @cached_property
    def always_on_units(self) -> IntArray:
        """Units always positive (p = 1) and never at the ceiling: on this data they are linear."""
        return np.flatnonzero((self.counts.positive == self._known) & (self._known > 0) & (self.counts.saturated == 0))

    @cached_property
    def saturated_units(self) -> IntArray:
        """Units always at or above the ceiling (ReLU6): no gradient reaches them either."""
        return np.flatnonzero((self.counts.saturated == self._known) & (self._known > 0))

    @cached_property
    def nan_units(self) -> IntArray:
        """Units that saw at least one NaN. `positive_share` leaves these inputs out; `counts.nan` says how many."""
        return np.flatnonzero(self.counts.nan)

    @cached_property
    def gradient_share(self) -> float:
        """Share of units that any gradient reached, of the loss with respect to the input of the activation.

        NaN where gradients were not watched. A unit that a gradient never reached cannot learn from these data: all its
        inputs were where the derivative is 0, or nothing behind it passed a gradient on.
        """
        return float(np.mean(self._reached)) if self._reached.size else float("nan")

    @cached_property
    def unreached_units(self) -> IntArray:
        """Units that no gradient reached; empty where gradients were not watched."""
        return np.flatnonzero(~self._reached)

    @cached_property
    def _reached(self) -> NDArray[np.bool_]:
        """Whether any gradient reached each unit; empty where gradients were not watched."""
        reached = self.counts.reached if self.counts.gradients else None
        return np.zeros(0, bool) if reached is None else reached > 0

    @cached_property
    @overflow_allowed
    def effective_slope(self) -> FloatArray:
        """The mean derivative, alpha + (1 - alpha) p (less the share at the ceiling, if there is one)."""
        return self.negative_slope + (1.0 - self.negative_slope) * self.positive_share - self.saturated_share

    @cached_property
    def output_mean(self) -> FloatArray:
        """Mean of the finite outputs; NaN for a unit that had none."""
        return np.where(self.counts.outputs > 0, self.counts.mean, np.nan)

    @cached_property
    @overflow_allowed
    def output_std(self) -> FloatArray:
        """Standard deviation of the finite outputs (dividing by n); NaN for a unit that had none."""
        return np.sqrt(_ratio(self.counts.m2, self.counts.outputs))

    @cached_property
    @overflow_allowed
    def mean_over_std(self) -> float:
        """Norm of `output_mean` over norm of `output_std`: 0 is centered, 0.68 is ReLU on N(0, 1) inputs."""
        mean = float(np.sqrt(np.nansum(self.output_mean**2)))
        std = float(np.sqrt(np.nansum(self.output_std**2)))
        if std == 0.0:
            return float("nan") if mean == 0.0 else float("inf")
        return mean / std

    @cached_property
    @overflow_allowed
    def dormancy(self) -> FloatArray:
        """``E|h_i|`` over its mean in the layer, where h is the ReLU part of the activation; 0 in a layer all silent.

        The score of Sokar, Agarwal, Castro and Evci, "The Dormant Neuron Phenomenon in Deep Reinforcement Learning",
        ICML 2023, taken on the ReLU part so that it means the same at every slope. 1 is the average unit of the layer;
        they call a unit tau-dormant when its score is at most tau.
        """
        activity = _ratio(self.counts.relu_sum, self._known)
        known = activity[~np.isnan(activity)]
        if known.size == 0 or known.mean() == 0.0:
            return np.where(np.isnan(activity), np.nan, 0.0)
        return np.asarray(activity / known.mean())

    def dormant_ratio(self, tau: float) -> float:
        """Return the share of units that are tau-dormant: those whose `dormancy` is at most `tau`.

        Sokar et al. use tau = 0, 0.025 and 0.1. At tau = 0 these are the units whose ReLU part is 0 throughout: the
        silent ones. Their score is the mean of ``|h|`` over the outputs of a layer; ours is that of the ReLU part,
        which is the same under ReLU, and under Leaky ReLU counts a unit that never passes its positive part as dormant.
        A unit that saw nothing but NaN is left out; NaN where nothing is known of any unit.
        """
        return share_dormant([self.dormancy], tau)

    def __add__(self, other: Layer) -> Layer:
        if not isinstance(other, Layer):
            return NotImplemented
        mine = (self.name, self.kind, self.units, self.ceiling)
        if mine != (other.name, other.kind, other.units, other.ceiling):
            raise ValueError(
                f"layers that differ cannot be added: {self._identity} and {other._identity}; "
                "add reports of the same model"
            )
        if not np.array_equal(self.negative_slope, other.negative_slope, equal_nan=True):
            raise ValueError(
                f"layer {self.name!r} has another slope in the second report: the model was trained in between, "
                "so their counts are not of one model"
            )
        return replace(
            self, counts=self.counts + other.counts, place=self.place | other.place, axis=self._added_axis(other)
        )

    def _added_axis(self, other: Layer) -> UnitAxis | None:
        if self.axis is None or other.axis is None:
            axis = self.axis or other.axis
            # Alternatives of one half would be compared with counts of both.
            return None if axis is None else replace(axis, alternatives={})
        try:
            return self.axis + other.axis
        except ValueError as error:
            raise ValueError(f"layer {self.name!r}: {error}") from None

    @property
    def _identity(self) -> str:
        return f"{self.name!r} ({self.kind}, {counted(self.units, 'unit')})"

    def __repr__(self) -> str:
        return (
            f"<Layer {self._identity}: {len(self.silent_units)} silent, {len(self.always_on_units)} always on, "
            f"{counted(self.samples, 'input')} a unit>"
        )


def share_dormant(scores: Sequence[FloatArray], tau: float) -> float:
    """Return the share of scores that are at most `tau`, over all arrays together; NaN where none is known."""
    if not finite_number(tau, "tau") >= 0:
        raise ValueError(f"tau must be at least 0, not {tau}: it is a bound on E|h| over its mean in the layer")
    dormant = sum(int((score <= tau).sum()) for score in scores)
    known = sum(int((~np.isnan(score)).sum()) for score in scores)
    return dormant / known if known else float("nan")


def _ratio(part: NDArray[Any], whole: IntArray) -> FloatArray:
    """Part / whole, NaN where the whole is 0."""
    share: FloatArray = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return share
