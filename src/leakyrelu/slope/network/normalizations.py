"""Nodes that subtract a mean: normalizations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from leakyrelu.slope.network.node import Node
from leakyrelu.slope.network.state import State, ratio, state_of

if TYPE_CHECKING:
    from leakyrelu.slope.network.state import Floats


class _Pairs(NamedTuple):
    """So many independent Gaussian pairs (u, v): variance of both, and covariance."""

    number: int
    variance: Floats
    covariance: Floats


def _cosine(part: _Pairs | None, *pairs: _Pairs) -> Floats:
    """Return ``E[sum of u v / sqrt(sum of u**2 * sum of v**2)]``, the sum on top over a part of the pairs or all.

    To second order in the variances of the sums. With ``b`` the sum of the variances and ``a`` that of the covariances
    of the part: ``a / b + a * sum of (3 var**2 + cov**2) / (2 b**3) - 2 * sum of var cov over the part / b**2``.
    """
    size = np.asarray(sum(each.number * each.variance for each in pairs))
    scaled = [_Pairs(each.number, ratio(each.variance, size), ratio(each.covariance, size)) for each in pairs]
    chosen = [new for new, old in zip(scaled, pairs, strict=True) if part is None or part is old]
    top = sum(each.number * each.covariance for each in chosen)
    spread = sum(each.number * (1.5 * each.variance**2 + 0.5 * each.covariance**2) for each in scaled)
    return np.asarray(top + top * spread - 2.0 * sum(each.number * each.variance * each.covariance for each in chosen))


def _normalized(x: State, share: Floats | float, similarities: tuple[Floats, Floats, Floats]) -> State:
    """Divide numbers by their deviation, where the subtraction left a share of their variance; zeros stay zeros."""
    rest = np.maximum(x.q - x.m**2, 0.0) * np.maximum(share, 0.0)
    return state_of(ratio(rest, rest), 0.0 * x.m, (np.clip(k, -1.0, 1.0) for k in similarities))


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Node):
    """A batch norm with the statistics of the batch: for a large batch ``k' = (k - k0) / (1 - k0)`` for each k.

    ``k0 = (1 - 1/B) (c + (P - 1) t) / P + (1 + (P - 1) s) / (P B)`` is the similarity of the mean of a channel, over B
    samples (`batch`) and P places (`places`), to itself. Where c and s stand for the numbers of independent samples.

    Each channel is divided by a deviation of its own, which varies the more the fewer numbers are independent; the rule
    has that to second order. Simulation is met to .005 for 64 numbers a channel, and to .02 for 16.
    """

    batch: int
    places: int = 1

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state behind it, in front of its weight and bias."""
        (x,) = states
        if self.batch == 1:
            return GroupNorm(channels=1, places=self.places).apply(states, slope)
        c, s, t = x.correlations
        more, others = self.batch - 1, self.places - 1
        # The numbers of a channel without their mean: differences of samples, of places, and of both.
        of_samples, of_places, of_both = 1.0 - c + others * (s - t), 1.0 - s + more * (c - t), 1.0 - c - s + t
        samples = _Pairs(more, of_samples, of_samples)
        places = _Pairs(others, of_places, of_places)
        both = _Pairs(more * others, of_both, of_both)
        c = (self.batch * _cosine(places, samples, places, both) - 1.0) / more
        s = (self.places * _cosine(samples, samples, places, both) - 1.0) / max(others, 1)
        # They add up to 0 over the batch.
        t = -(1.0 + more * c + others * s) / (more * max(others, 1))
        return _normalized(x, more * of_samples + others * of_places + more * others * of_both, (c, s, t))


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Node):
    """A layer norm over the channels of a place: ``k' = (q k - m**2) / (q - m**2)``."""

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state behind it, in front of its weight and bias."""
        (x,) = states
        return _normalized(x, 1.0, x.correlations)


@dataclass(frozen=True, kw_only=True)
class GroupNorm(Node):
    """A group norm over n channels (`channels`) and P places: for many of them ``k' = (q k - M') / (q - M)``.

    ``M = m**2 + (q sb - m**2) / n`` is the second moment of the mean of a group, ``sb = (1 + (P - 1) s) / P``, and
    ``M' = m**2 + (q tb - m**2) / n``, ``tb = (c + (P - 1) t) / P``, the product of those of two inputs; for s without
    its dash. n = 1 is an instance norm.

    Each group is divided by a deviation of its own; the rule has that to second order, as that of `BatchNorm`.
    Simulation is met to .005 for 8 channels of 8 places and for 1 channel of 4, to .02 for 4 channels of 4; for
    2 channels whose places are alike only to .1.
    """

    channels: int
    places: int = 1

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state behind it, in front of its weight and bias."""
        (x,) = states
        c, s, t = x.correlations
        others = self.places - 1
        # The numbers of a group without their mean: differences of channels, and of the places of a channel.
        channels = _Pairs(self.channels - 1, 1.0 + others * s, c + others * t)
        places = _Pairs(self.channels * others, 1.0 - s, c - t)
        own = _Pairs(self.channels - 1, channels.variance, channels.variance)
        c = _cosine(None, channels, places)
        t = (self.places * _cosine(channels, channels, places) - c) / max(others, 1)
        s = (self.places * _cosine(own, own, _Pairs(places.number, 1.0 - s, 1.0 - s)) - 1.0) / max(others, 1)
        share = channels.number * channels.variance + places.number * places.variance
        return _normalized(x, share, (c, s, t))


@dataclass(frozen=True, kw_only=True)
class RMSNorm(Node):
    """Numbers divided by their root mean square, without a mean taken off: ``q' = 1``, ``m' = m / sqrt(q)``."""

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state behind it, in front of its weight."""
        (x,) = states
        return State(ratio(x.q, x.q), ratio(x.m, np.sqrt(x.q)), x.c, x.s, x.t)
