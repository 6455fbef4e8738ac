"""Nodes of attention: means of values, weighted by the softmax of random scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from leakyrelu.slope.network.node import Node
from leakyrelu.slope.network.state import State, ratio, state_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leakyrelu.slope.network.state import Floats

# The table of overlaps: variances of the scores, and correlations of two rows of them. Its logarithm is nearly straight
# in both.
_VARIANCES = np.linspace(0.0, 5.0, 16) ** 2
_CORRELATIONS = -np.cos(np.linspace(0.0, np.pi, 13))
_DRAWN = 2**16


@dataclass(frozen=True, kw_only=True)
class Attention(Node):
    """Attention of queries over the keys and values of n places.

    Two rows of weights, the softmax of scores of variance v whose correlation is r, overlap by ``o(r)``, the mean of
    the sum of ``w w'`` over the places: between 1 / n, where the scores are nothing, and 1. With

        v = q_q q_k (1 - s_k) width factor**2          what the keys have in common adds to all scores alike
        r_c, r_s, r_t = c_q d, s_q, t_q d              d = (c_k - t_k) / (1 - s_k)

    it is ``q' = q (s + (1 - s) o(1))``, ``c' = (t + (c - t) o(r_c)) q / q'``, ``s' = (s + (1 - s) o(r_s)) q / q'``,
    ``t' = (t + (c - t) o(r_t)) q / q'``, and the mean stays. o is drawn: 65,536 Gaussian scores for each entry of a
    table. With heads of 64 numbers, simulation is met to .014 for 4 to 197 places.

    Attributes
    ----------
    inputs
        Queries, keys and values; or scores and values, where `width` is None.
    places
        n, the number of keys.
    width, factor
        Numbers in a query of one head, and the factor of the products.
    """

    places: int
    width: int | None = None
    factor: float = 1.0

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state of the weighted means of the values."""
        *scored, x = states
        if self.width is None:
            (scores,) = scored
            variance, (same, across, others) = scores.variance, scores.correlations
        else:
            query, key = scored
            own = 1.0 - key.s
            variance = query.q * key.q * own * self.width * self.factor**2
            kept = ratio(key.c - key.t, own)
            same, across, others = query.c * kept, query.s, query.t * kept
        one, o_c, o_s, o_t = (_overlap(self.places, variance, r) for r in (np.ones(1), same, across, others))
        size = x.s + (1.0 - x.s) * one
        c, s, t = x.t + (x.c - x.t) * o_c, x.s + (1.0 - x.s) * o_s, x.t + (x.c - x.t) * o_t
        return state_of(x.q * size, x.m, (np.clip(ratio(k, size), -1.0, 1.0) for k in (c, s, t)), x.scale)


def _overlap(places: int, variance: Floats, r: Floats) -> Floats:
    """Return the mean overlap of two rows of softmax weights, interpolated."""
    i, u = _cell(_VARIANCES, variance)
    j, v = _cell(_CORRELATIONS, r)
    table = _overlaps(places)
    below, above = (table[k, j] * (1.0 - v) + table[k, j + 1] * v for k in (i, i + 1))
    return np.asarray(np.exp(below * (1.0 - u) + above * u))


def _cell(grid: Floats, x: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return the number of the cell of a grid, and where in it."""
    x = np.clip(x, grid[0], grid[-1])
    cell = np.clip(np.searchsorted(grid, x) - 1, 0, len(grid) - 2)
    return cell, np.asarray((x - grid[cell]) / (grid[cell + 1] - grid[cell]))


@cache
def _overlaps(places: int) -> Floats:
    """Logarithms of mean overlaps, for each variance and correlation of the table."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, max(_DRAWN // places, 8), places))
    table = [
        [(weights * _softmax(deviation * (r * x + np.sqrt(1.0 - r * r) * y))).sum(axis=1).mean() for r in _CORRELATIONS]
        for deviation in np.sqrt(_VARIANCES)
        for weights in [_softmax(deviation * x)]
    ]
    return np.asarray(np.log(table))


def _softmax(scores: Floats) -> Floats:
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
