"""Nodes of activations: Leaky ReLU, whose slope is looked for, and functions that stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from leakyrelu.slope.network.gaussian import FunctionMoments, LeakyMoments
from leakyrelu.slope.network.node import Node
from leakyrelu.slope.network.state import State, ratio, state_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from leakyrelu.slope.network.state import Floats


@dataclass(frozen=True, kw_only=True)
class Activation(Node):
    """A Leaky ReLU: ``q' = E[f(u)**2]``, ``m' = E[f(u)]``, ``k' = E[f(u) f(v)] / q'`` for Gaussian u and v.

    With variance ``q - m**2`` and correlation ``(q k - m**2) / (q - m**2)``, as `LeakyMoments` has them; for m = 0 it
    is `leakyrelu.slope.correlation`. `slope` is that of this activation; None for the one that is looked for.
    """

    slope: float | None = None

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state behind it, which knows the one in front."""
        return rectified(states[0], slope if self.slope is None else self.slope)


def rectified(x: State, slope: float) -> State:
    """Return the state behind a Leaky ReLU."""
    var = np.maximum(x.q - x.m**2, 1e-300)
    moments = LeakyMoments(slope, x.m, var)
    q = moments.product(np.where(np.isnan(x.q), x.q, 1.0))
    # k - (1 - k) m^2 / var: nothing cancels where k is 1.
    c, s, t = (ratio(moments.product(k - (1.0 - k) * x.m**2 / var), q) for k in x.similarities)
    return State(q, moments.mean, c, s, t, (1.0 + slope**2) / 2.0, x)


@dataclass(frozen=True, kw_only=True)
class Function(Node):
    """Any other function of one number, such as a sigmoid: moments of its Hermite coefficients.

    Attributes
    ----------
    function
        A function of an array of float64.
    is_activation
        Whether a part may end here, as at an activation.
    """

    function: Callable[[Floats], Floats]
    is_activation: bool = False

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state behind it."""
        (x,) = states
        var = np.maximum(x.q - x.m**2, 1e-300)
        known = ~np.isnan(x.q)
        nothing = np.full(x.q.shape, np.nan)
        result = state_of(nothing, nothing.copy(), (nothing.copy() for _ in range(3)))
        moments = FunctionMoments(self.function, x.m[known], var[known])
        q = moments.product(np.ones(int(known.sum())))
        result.q[known], result.m[known] = q, moments.mean
        for out, k in zip(result.similarities, x.similarities, strict=True):
            rho = k[known] - (1.0 - k[known]) * x.m[known] ** 2 / var[known]
            out[known] = ratio(moments.product(rho), q)
        scale = float(q[0] / x.q[known][0]) if known.any() and x.q[known][0] > 0.0 else 1.0
        return replace(result, scale=x.scale if scale <= 0.0 else scale)
