"""Nodes of layers, and of arithmetic that leaves Gaussian numbers Gaussian."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from leakyrelu.slope.network.node import Node
from leakyrelu.slope.network.state import State, ratio, state_of

if TYPE_CHECKING:
    from leakyrelu.slope.network.state import Floats


@dataclass(frozen=True, kw_only=True)
class Input(Node):
    """An input of the network: ``q = 1, m = 0, c = 0, t = 0``, and s as given.

    Two inputs are unrelated; `across` is the similarity of two places of one (0 for independent numbers).
    """

    across: float = 0.0

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state of numbers of the standard scale."""
        zero = np.zeros(1)
        return State(zero + 1.0, zero, zero, zero + self.across, zero)


@dataclass(frozen=True, kw_only=True)
class Constant(Node):
    """A tensor that no input changes, such as a learned token: ``c = 1``.

    `square` and `mean` are those of its numbers; `across` is the similarity of two places.
    """

    square: float = 1.0
    mean: float = 0.0
    across: float = 0.0

    def apply(self, states: list[State], slope: float) -> State:
        """Return its state, which is that of every part."""
        zero = np.zeros(1)
        return State(zero + self.square, zero + self.mean, zero + 1.0, zero + self.across, zero + self.across)


@dataclass(frozen=True, kw_only=True)
class Linear(Node):
    """A linear layer or convolution with random weights: ``q' = g2 q + b2``, ``k' = (g2 q k + b2) / q'``, ``m' = 0``.

    Attributes
    ----------
    gain2
        ``g2 = fan_in * mean(W**2)``; None for the exact gain, the inverse of the scale of what goes in.
    factor2
        A factor of the exact gain, squared, such as that of `scale_branches`.
    bias2
        ``b2 = mean(b**2)``.
    valid
        Share of the taps that do not fall on zero padding, a factor of g2.
    overlap
        What zero padding leaves of s and t: taps that are valid at two places, beside those that are at one.
    """

    gain2: float | None = None
    factor2: float = 1.0
    bias2: float = 0.0
    valid: float = 1.0
    overlap: float = 1.0

    def exact_gain2(self, x: State) -> float:
        """Return the square of the exact gain behind a state."""
        return self.factor2 / x.scale

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state behind the layer."""
        (x,) = states
        carried = x.q * self.valid * (self.exact_gain2(x) if self.gain2 is None else self.gain2)
        q = carried + self.bias2
        c, s, t = (
            ratio(carried * k * part + self.bias2, q)
            for k, part in zip(x.similarities, (1.0, self.overlap, self.overlap), strict=True)
        )
        return State(q, 0.0 * x.m, c, s, t)


@dataclass(frozen=True, kw_only=True)
class Affine(Node):
    """Numbers times a factor plus a shift for each channel: ``q' = w2 q + 2 w b m + b2``, ``k' = (w2 q k + ...) / q'``.

    Attributes
    ----------
    factor, factor2
        Mean and mean square of the factors.
    shift, shift2
        Mean and mean square of the shifts, which are independent of the factors.
    across
        Similarity of the shift at two places: 1 where it is one number a channel.
    is_standard
        Whether it gives the numbers of an activation the standard scale, so that a layer behind it has the gain 1.
    """

    factor: float = 1.0
    factor2: float | None = None
    shift: float = 0.0
    shift2: float | None = None
    across: float = 1.0
    is_standard: bool = False

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state behind it."""
        (x,) = states
        factor2 = self.factor**2 if self.factor2 is None else self.factor2
        shift2 = self.shift**2 if self.shift2 is None else self.shift2
        mixed = 2.0 * self.factor * self.shift * x.m
        q = factor2 * x.q + mixed + shift2
        c, s, t = (
            ratio(factor2 * x.q * k + mixed + shift2 * part, q)
            for k, part in zip(x.similarities, (1.0, self.across, self.across), strict=True)
        )
        return State(q, self.factor * x.m + self.shift, c, s, t, 1.0 if self.is_standard else x.scale)


@dataclass(frozen=True, kw_only=True)
class Sum(Node):
    """A sum ``w1 x1 + w2 x2 + ...``: ``q = sum of w**2 q + 2 * sum of w1 w2 m1 m2``, ``k`` likewise over q.

    It holds where of two sides one is a linear image by weights that the other has not met, up to a constant. Without
    `weights` each is 1.
    """

    weights: tuple[float, ...] = ()

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state of the sum."""
        weights = self.weights or (1.0,) * len(states)
        m = sum((w * x.m for w, x in zip(weights, states, strict=True)), np.zeros(1))
        squares = sum(((w * x.m) ** 2 for w, x in zip(weights, states, strict=True)), np.zeros(1))
        mixed = m**2 - squares

        def total(place: int) -> Floats:
            terms = (w**2 * x.q * x.similarities[place] for w, x in zip(weights, states, strict=True))
            return np.asarray(sum(terms, mixed))

        q = np.asarray(sum((w**2 * x.q for w, x in zip(weights, states, strict=True)), mixed))
        return state_of(q, m, (ratio(total(place), q) for place in range(3)), _scale(states, weights))


@dataclass(frozen=True, kw_only=True)
class Concatenation(Node):
    """Tensors side by side: the means of q, m and ``q k``, weighted by how many numbers each has (`sizes`)."""

    sizes: tuple[float, ...]

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state of all of them."""
        shares = [size / sum(self.sizes) for size in self.sizes]
        q = np.asarray(sum(w * x.q for w, x in zip(shares, states, strict=True)))
        m = np.asarray(sum(w * x.m for w, x in zip(shares, states, strict=True)))
        c, s, t = (
            ratio(np.asarray(sum(w * x.q * x.similarities[k] for w, x in zip(shares, states, strict=True))), q)
            for k in range(3)
        )
        return State(q, m, c, s, t, _scale(states, [w**0.5 for w in shares]))


@dataclass(frozen=True, kw_only=True)
class Product(Node):
    """A product of independent tensors: ``q = q1 q2``, ``m = m1 m2``, ``k = k1 k2``.

    `gates` are the places of those inputs that only scale the others, such as the sigmoid of squeeze-and-excitation. An
    activation that reaches nothing but gates is no end of a part: inputs are alike there by design.
    """

    gates: tuple[int, ...] = ()

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state of the product."""
        result = states[0]
        for x in states[1:]:
            pairs = zip(result.similarities, x.similarities, strict=True)
            result = state_of(result.q * x.q, result.m * x.m, (one * two for one, two in pairs), result.scale)
        return result


@dataclass(frozen=True, kw_only=True)
class Dropout(Node):
    """Numbers dropped with probability p, the others divided by 1 - p: ``q' = q / (1 - p)``, ``k' = (1 - p) k``."""

    p: float = 0.0

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state behind it."""
        (x,) = states
        keep = 1.0 - self.p
        if keep == 0.0:
            return state_of(0.0 * x.q, 0.0 * x.m, (0.0 * k for k in x.similarities), x.scale)
        return State(x.q / keep, x.m, keep * x.c, keep * x.s, keep * x.t, x.scale)


@dataclass(frozen=True, kw_only=True)
class Identity(Node):
    """What moves numbers and changes none: a reshape, a permutation, nearest upsampling, a choice of channels."""

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state as it is."""
        return replace(states[0])


@dataclass(frozen=True, kw_only=True)
class Unknown(Identity):
    """An operation without a rule. It passes its first input on; an answer names it."""


def _scale(states: list[State], weights: tuple[float, ...] | list[float]) -> float:
    """Second moment of all sides beside that in front of the last activation of each, for the network as a whole."""
    sizes = [weight**2 * float(x.q[0]) for weight, x in zip(weights, states, strict=True)]
    in_front = sum(size / x.scale for size, x in zip(sizes, states, strict=True))
    return sum(sizes) / in_front if in_front else 1.0
