"""Nodes of activations: Leaky ReLU, whose slope is looked for, and functions that stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
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
    moments = LeakyMoments(slope, x.m, x.variance)
    q = moments.product(np.ones(x.q.shape))
    c, s, t = (ratio(moments.product(rho), q) for rho in x.correlations)
    return State(q, moments.mean, c, s, t, (1.0 + slope**2) / 2.0, x, slope)


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
        moments = FunctionMoments(self.function, x.m, x.variance)
        q = moments.product(np.ones(x.q.shape))
        scale = float(ratio(q, x.q)[0])
        return state_of(
            q,
            moments.mean,
            (ratio(moments.product(rho), q) for rho in x.correlations),
            scale if scale > 0.0 else x.scale,
        )
