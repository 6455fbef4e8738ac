"""State of a node: the size of its numbers, how far off zero they are, and how alike those of two inputs are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class State:
    """Second moment, mean and three similarities of a node, an array each: one entry for each part of a network.

    A similarity is a cosine, ``E[x y] / E[x**2]``, with the mean in.

    Attributes
    ----------
    q, m
        ``E[x**2]`` and ``E[x]`` of its numbers.
    c, s, t
        Similarity at the same place of two inputs; at two places of one input; at two places of two inputs.
    scale
        ``E[x**2]`` beside that of what went into the last activation: 1 in front of any, ``(1 + a**2) / 2`` behind one.
        A layer with exact gain multiplies the second moment by its inverse.
    before, slope
        For the output of a Leaky ReLU: the state in front of it, and its slope.
    """

    q: Floats
    m: Floats
    c: Floats
    s: Floats
    t: Floats
    scale: float = 1.0
    before: State | None = None
    slope: float = 1.0

    @property
    def similarities(self) -> tuple[Floats, Floats, Floats]:
        """The three of them."""
        return self.c, self.s, self.t

    @property
    def variance(self) -> Floats:
        """``q - m**2``, kept above 0: below 1e-30 q it is rounding."""
        return np.asarray(np.maximum(self.q - self.m**2, np.maximum(1e-30 * self.q, 1e-300)))

    @property
    def correlations(self) -> tuple[Floats, Floats, Floats]:
        """``(q k - m**2) / (q - m**2)`` for each similarity, such that nothing cancels where k is 1."""
        off = self.m**2 / self.variance
        c, s, t = (k - (1.0 - k) * off for k in self.similarities)
        return c, s, t

    def mapped(self, function: Callable[[Floats], Floats]) -> State:
        """Return the state with a function of each array, also in front of the activation."""
        q, m, c, s, t = (function(each) for each in (self.q, self.m, *self.similarities))
        before = None if self.before is None else self.before.mapped(function)
        return replace(self, q=q, m=m, c=c, s=s, t=t, before=before)


def state_of(q: Floats, m: Floats, similarities: Iterable[Floats], scale: float = 1.0) -> State:
    """Make a state whose similarities come one after the other: c, s, t."""
    c, s, t = similarities
    return State(q, m, c, s, t, scale)


def ratio(top: Floats, bottom: Floats) -> Floats:
    """Return a similarity as a ratio; that of numbers which are all zero is 0."""
    is_zero = bottom == 0.0
    return np.asarray(np.where(is_zero, 0.0, top / np.where(is_zero, 1.0, bottom)))
