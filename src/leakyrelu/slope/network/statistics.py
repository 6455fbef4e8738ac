"""Nodes that subtract a mean: normalizations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leakyrelu.slope.network.node import Node
from leakyrelu.slope.network.state import State, ratio, state_of

if TYPE_CHECKING:
    from leakyrelu.slope.network.state import Floats


def _normalized(x: State, same: Floats, other: Floats) -> State:
    """Subtract means whose second moment is `same`, and whose product for two inputs is `other`; divide by the rest.

    ``q' = 1``, ``c' = (q c - other) / (q - same)``, ``t'`` likewise, ``s' = (q s - same) / (q - same)``.
    """
    rest = np.maximum(x.q - same, 0.0)
    c, t = (ratio(x.q * k - other, rest) for k in (x.c, x.t))
    s = ratio(x.q * x.s - same, rest)
    return state_of(np.where(rest == 0.0, rest, 1.0), 0.0 * x.m, (np.clip(k, -1.0, 1.0) for k in (c, s, t)))


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Node):
    """A batch norm with the statistics of the batch: ``k' = (k - k0) / (1 - k0)`` for each k.

    ``k0 = (1 - 1/B) (c + (P - 1) t) / P + (1 + (P - 1) s) / (P B)`` is the similarity of the mean of a channel, over B
    samples (`batch`) and P places (`places`), to itself. Where c and s stand for the numbers of independent samples.
    """

    batch: int
    places: int = 1

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state behind it, in front of its weight and bias."""
        (x,) = states
        others = (x.c + (self.places - 1) * x.t) / self.places
        own = (1.0 + (self.places - 1) * x.s) / self.places
        same = x.q * ((1.0 - 1.0 / self.batch) * others + own / self.batch)
        return _normalized(x, same, same)


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Node):
    """A layer norm over the channels of a place: ``k' = (q k - m**2) / (q - m**2)``."""

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state behind it, in front of its weight and bias."""
        (x,) = states
        return _normalized(x, x.m**2, x.m**2)


@dataclass(frozen=True, kw_only=True)
class GroupNorm(Node):
    """A group norm over n channels (`channels`) and P places: ``k' = (q k - M') / (q - M)``.

    ``M = m**2 + (q sb - m**2) / n`` is the second moment of the mean of a group, ``sb = (1 + (P - 1) s) / P``, and
    ``M' = m**2 + (q tb - m**2) / n``, ``tb = (c + (P - 1) t) / P``, the product of those of two inputs. n = 1 is an
    instance norm.
    """

    channels: int
    places: int = 1

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state behind it, in front of its weight and bias."""
        (x,) = states
        own = (1.0 + (self.places - 1) * x.s) / self.places
        others = (x.c + (self.places - 1) * x.t) / self.places
        same, other = (x.m**2 + (x.q * part - x.m**2) / self.channels for part in (own, others))
        return _normalized(x, same, other)


@dataclass(frozen=True, kw_only=True)
class RMSNorm(Node):
    """Numbers divided by their root mean square, without a mean taken off: ``q' = 1``, ``m' = m / sqrt(q)``."""

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state behind it, in front of its weight."""
        (x,) = states
        return State(np.where(x.q == 0.0, x.q, 1.0), ratio(x.m, np.sqrt(x.q)), x.c, x.s, x.t)
