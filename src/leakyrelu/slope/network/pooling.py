"""Nodes that put several places together: pooling and attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leakyrelu.slope.network.activations import rectified
from leakyrelu.slope.network.gaussian import MaximumMoments
from leakyrelu.slope.network.node import Node
from leakyrelu.slope.network.state import State, ratio, state_of

if TYPE_CHECKING:
    from leakyrelu.slope.network.state import Floats


@dataclass(frozen=True, kw_only=True)
class AveragePool(Node):
    """The mean over n places: ``q' = q (1 + (n - 1) s) / n``, ``c' = (c + (n - 1) t) / (1 + (n - 1) s)``.

    Two windows: ``s' = n s / (1 + (n - 1) s)``, ``t'`` likewise; windows that overlap are taken for apart.
    """

    places: int

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state of the means."""
        (x,) = states
        n = self.places
        own = 1.0 + (n - 1) * x.s
        c, s, t = (ratio(top, own) for top in (x.c + (n - 1) * x.t, n * x.s, n * x.t))
        return State(x.q * own / n, x.m, c, s, t, x.scale)


@dataclass(frozen=True, kw_only=True)
class MaxPool(Node):
    """The largest of n places, as `MaximumMoments` has it.

    Behind an activation it is taken in front of it, which is the same for slopes of at least 0, since the numbers are
    Gaussian there. Two windows have the correlations s and t of two places.
    """

    places: int

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state of the maxima."""
        (x,) = states
        if x.before is None:
            return self._of_gaussian(x)
        # (1 + a^2) / 2, which is the scale, says the slope of the activation.
        return rectified(self._of_gaussian(x.before), (2.0 * x.scale - 1.0) ** 0.5 if x.scale > 0.5 else 0.0)

    def _of_gaussian(self, x: State) -> State:
        var = np.maximum(x.q - x.m**2, 1e-300)
        c, s, t = (k - (1.0 - k) * x.m**2 / var for k in x.similarities)
        maxima = MaximumMoments(self.places, x.m, var, s)
        q = maxima.mean**2 + maxima.var
        products: list[Floats] = [maxima.covariance(c, t), var * s, var * t]
        return state_of(q, maxima.mean, (ratio(each + maxima.mean**2, q) for each in products), x.scale)


@dataclass(frozen=True, kw_only=True)
class Attention(Node):
    """Attention of queries over the keys and values of n places, an approximation.

    With scores of variance ``v = q_q q_k width factor**2``, two rows of weights whose scores have correlation r overlap
    by ``o(r) = min(exp(v r) / n, 1)``, the ratio of log-normal means. Then ``q' = q (s + (1 - s) o(1))``,
    ``c' = (t + (c - t) o(r_c)) q / q'``, ``s' = (s + (1 - s) o(r_s)) q / q'``, ``t' = (t + (c - t) o(r_t)) q / q'``,
    where ``r_c = c_q c_k``, ``r_s = s_q`` and ``r_t = t_q c_k``. The mean stays.

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
            variance, (same, across, others) = scores.q, scores.similarities
        else:
            query, key = scored
            variance = query.q * key.q * self.width * self.factor**2
            same, across, others = query.c * key.c, query.s, query.t * key.c
        one, o_c, o_s, o_t = (
            np.minimum(np.exp(np.minimum(variance * r, 50.0)) / self.places, 1.0) for r in (1.0, same, across, others)
        )
        own = x.s + (1.0 - x.s) * one
        c, s, t = x.t + (x.c - x.t) * o_c, x.s + (1.0 - x.s) * o_s, x.t + (x.c - x.t) * o_t
        return state_of(x.q * own, x.m, (ratio(k, own) for k in (c, s, t)), x.scale)
