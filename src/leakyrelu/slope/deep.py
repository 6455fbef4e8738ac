"""Similarity through many layers at once: what so many steps of ``C(c) = c + w * K(c)`` come to.

With the angle ``t = arccos(c)``, ``K = (sin(t) - t * cos(t)) / pi`` and ``w`` the bend, there is a function ``A`` of
the angle that grows by exactly 1 a layer (Abel's equation). Written as a series in ``w``, its terms follow from
Taylor's theorem, ``sum over j >= 1 of (w K)**j / j! * d^j A / dc^j = 1``:

    w * A = integral of dc / K  +  (w / 2) log K  -  (w**2 / 12) (K' + integral of K'**2 / K)
            + (w**3 / 24) (K'**2 + integral of K'**3 / K)  +  ...                           K' = dK/dc = -t / pi

All integrals are power series in ``t``, since ``t**2 sin(t) / (sin(t) - t cos(t)) = 3 - 2 * sum of S_k t**(2k)`` with
the sums ``S_k`` of the powers ``lambda**(-2k)`` of the positive solutions of ``tan(t) = t``, which follow from one
another (Kishore, Proc. AMS 14, 1963). What is left out is of order ``(w t)**4``: layers are taken one by one until
``w * t`` is small, which takes the same number of them for every ``w``: ``3 pi / (w t)`` grows by about 1 a layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ONE_BY_ONE = 1024
"""Layers before `advance` and `layers_between` hold to 13 digits."""

_TERMS = 60  # the series converge like (t / 4.49)**(2k), and t is at most pi


def _sums_of_zeros() -> Floats:
    sums = [0.1]
    for k in range(2, _TERMS + 1):
        sums.append(sum(a * b for a, b in zip(sums, reversed(sums), strict=True)) / (k + 1.5))
    return np.array(sums)


_SUMS = _sums_of_zeros()
_POWERS = 2 * np.arange(1, _TERMS + 1)


def advance(t: Floats, bend: Floats, layers: Floats) -> Floats:
    """Return the angle after so many more layers; all of one shape, ``t`` above 0."""
    target = _scaled_abel(t, bend) + bend * layers
    # In 1 / t the function is convex and lies above 3 pi / t: Newton's steps from this side do not overshoot. Its
    # slope is 0 at t = pi.
    inverse = np.maximum(target / (3.0 * np.pi), 1.0 / t)
    for _ in range(60):
        now = 1.0 / inverse
        step = (_scaled_abel(now, bend) - target) / (np.maximum(_ratio(now), 1e-16) * (np.pi - bend * now / 2.0))
        following = np.maximum(inverse - step, 1.0 / t)
        settled = np.abs(following - inverse) <= 4.0 * np.finfo(np.float64).eps * inverse
        inverse = following
        if settled.all():
            break
    return np.asarray(1.0 / inverse)


def advanced_derivative(t: Floats, change: Floats, after: Floats, bend: Floats, layers: Floats) -> Floats:
    """Return the derivative by the bend of the angle `after` so many layers from ``t``, whose own is `change`."""
    by_bend = _by_bend(t, bend) - _by_bend(after, bend) + layers
    return np.asarray((_slope(t, bend) * change + by_bend) / _slope(after, bend))


def layers_between(t: float, after: float, bend: float) -> float:
    """Return how many layers lead from one angle to a smaller one, as a real number."""
    first, last = (_scaled_abel(np.asarray(angle), np.asarray(bend)) for angle in (t, after))
    return float((last - first) / bend)


def _scaled_abel(t: Floats, bend: Floats) -> Floats:
    """Return ``w * A``."""
    return (
        -np.pi * _moment(t, 0)
        + bend / 2.0 * _moment(t, 1)
        + bend**2 / (12.0 * np.pi) * (t + _moment(t, 2))
        + bend**3 / (24.0 * np.pi**2) * (t**2 + _moment(t, 3))
    )


def _by_bend(t: Floats, bend: Floats) -> Floats:
    """Return the derivative of ``w * A`` by ``w``."""
    return (
        _moment(t, 1) / 2.0
        + bend / (6.0 * np.pi) * (t + _moment(t, 2))
        + bend**2 / (8.0 * np.pi**2) * (t**2 + _moment(t, 3))
    )


def _slope(t: Floats, bend: Floats) -> Floats:
    """Return the derivative of ``w * A`` by ``t``, to two terms."""
    return -_ratio(t) / t**2 * (np.pi - bend * t / 2.0)


def _ratio(t: Floats) -> Floats:
    """Return ``t**2 sin(t) / (sin(t) - t cos(t))``."""
    return 3.0 - 2.0 * _series(t, _SUMS)


def _moment(t: Floats, power: int) -> Floats:
    """Return the integral of ``t**power * sin(t) / (sin(t) - t cos(t))``, without a constant."""
    first = 3.0 * np.log(t) if power == 1 else 3.0 / (power - 1) * t ** (power - 1.0)
    return first - 2.0 * t ** (power - 1.0) * _series(t, _SUMS / (_POWERS + power - 1))


def _series(t: Floats, coefficients: Floats) -> Floats:
    """Return ``sum of coefficients[k - 1] * t**(2k)``."""
    square, total = t * t, np.zeros(np.shape(t))
    for coefficient in coefficients[::-1].tolist():
        total = (total + coefficient) * square
    return total
