"""Moments of functions of Gaussian numbers, which may be off zero: what a rule of a node is made of.

A pair (u, v) has mean m, variance var and correlation rho, each an array.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_erf = np.frompyfunc(math.erf, 1, 1)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)


def normal_cdf(x: Floats) -> Floats:
    """Return ``Phi(x)``, the share of a standard normal variable below x."""
    return 0.5 * (1.0 + np.asarray(_erf(x / math.sqrt(2.0)), dtype=np.float64))


def normal_density(x: Floats) -> Floats:
    """Return ``phi(x) = exp(-x**2 / 2) / sqrt(2 pi)``."""
    return np.asarray(np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi))


class LeakyMoments:
    """Moments of ``f(u) = a u + (1 - a) r(u)``, r the ReLU, of Gaussian numbers of mean m and variance var.

    With ``h = m / sqrt(var)``:

        E[r(u)]      = R1 = m Phi(h) + sqrt(var) phi(h)
        E[u r(v)]    = m R1 + rho var Phi(h)
        E[r(u) r(v)] = R1**2 + var (rho Phi(h)**2
                       + integral over 0..asin(rho) of (rho - sin x) exp(-h**2 / (1 + sin x)) / (2 pi) dx)

    The last is the integral of its derivative by rho, ``var P(u > 0, v > 0)``, and that of Plackett (Biometrika 41,
    1954); for m = 0 it is the arc-cosine kernel.
    """

    def __init__(self, slope: float, m: Floats, var: Floats) -> None:
        self.slope, self.m, self.var = slope, m, var
        self._h = m / np.sqrt(var)
        self._above = normal_cdf(self._h)
        self._relu = m * self._above + np.sqrt(var) * normal_density(self._h)
        self.mean = slope * m + (1.0 - slope) * self._relu

    def product(self, rho: Floats) -> Floats:
        """Return ``E[f(u) f(v)]`` at a correlation."""
        a, m, var = self.slope, self.m, self.var
        rho = np.clip(rho, -1.0, 1.0)
        linear = m * m + var * rho
        mixed = m * self._relu + rho * var * self._above
        both = self._relu**2 + var * (rho * self._above**2 + self._integral(rho))
        return np.asarray(a * a * linear + 2.0 * a * (1.0 - a) * mixed + (1.0 - a) ** 2 * both)

    def _integral(self, rho: Floats) -> Floats:
        if not np.any(self._h > 0.0) and not np.any(self._h < 0.0):
            end = np.arcsin(rho)
            return np.asarray((rho * end + np.sqrt((1.0 - rho) * (1.0 + rho)) - 1.0) / (2.0 * math.pi))
        end = np.arcsin(rho)[..., None]
        sine = np.sin(end * (_NODES + 1.0) / 2.0)
        # At sin x = -1 nothing is left of it; its limit at h = 0 is 1.
        exponent = np.where(self._h[..., None] == 0.0, 0.0, self._h[..., None] ** 2 / np.maximum(1.0 + sine, 1e-300))
        values = (rho[..., None] - sine) * np.exp(-exponent)
        return np.asarray((values @ _WEIGHTS) * end[..., 0] / (4.0 * math.pi))


_ORDER = 40
# The trapezoidal rule: exact to rounding for smooth functions, and at a kink far better than Gauss-Hermite of 100
# points. Beyond 14 nothing is left of the 40th Hermite function.
_HERMITE_NODES = np.linspace(-14.0, 14.0, 401)
_HERMITE_WEIGHTS = 0.07 * normal_density(_HERMITE_NODES)


def _hermite_functions() -> Floats:
    """Return the normalized Hermite polynomials at the nodes, by their recursion."""
    rows = [np.ones_like(_HERMITE_NODES), _HERMITE_NODES]
    for n in range(1, _ORDER - 1):
        rows.append((_HERMITE_NODES * rows[n] - math.sqrt(n) * rows[n - 1]) / math.sqrt(n + 1))
    return np.array(rows) * _HERMITE_WEIGHTS


_HERMITE = _hermite_functions()


class FunctionMoments:
    """Moments of any function g of one number, by its first 40 Hermite coefficients.

    ``E[g(u) g(v)] = sum over n of (E[g(m + sqrt(var) x) He_n(x)] / sqrt(n!))**2 rho**n``, x standard normal (Mehler).
    A function with a kink is met to 1e-3 of its second moment.
    """

    def __init__(self, function: Callable[[Floats], Floats], m: Floats, var: Floats) -> None:
        pairs, self._which = np.unique(np.stack([m, var], axis=-1), axis=0, return_inverse=True)
        values = function(pairs[:, :1] + np.sqrt(pairs[:, 1:]) * _HERMITE_NODES)
        self._coefficients = (values @ _HERMITE.T)[self._which.reshape(m.shape)]
        self._square = (values**2 @ _HERMITE[0])[self._which.reshape(m.shape)]
        self.mean = self._coefficients[..., 0]

    def product(self, rho: Floats) -> Floats:
        """Return ``E[g(u) g(v)]`` at a correlation; at 1 the second moment."""
        powers = np.clip(rho, -1.0, 1.0)[..., None] ** np.arange(_ORDER)
        found = (self._coefficients**2 * powers).sum(axis=-1)
        # What the series leaves out of the second moment belongs to high powers of rho.
        missing = self._square - (self._coefficients**2).sum(axis=-1)
        return np.asarray(found + missing * np.abs(powers[..., -1]) * np.sign(rho))


_GRID = 128


@cache
def _covariances_of_maxima(n: int) -> tuple[float, float, Floats]:
    """Mean and variance of the largest of n standard normal numbers, and a polynomial in rho for the covariance.

    The covariance of the maxima of two rows of n numbers, whose pairs have correlation rho, is the integral of
    ``F(x, y)**n - Phi(x)**n Phi(y)**n`` (Hoeffding), with Plackett's integral for F. The polynomial is a Chebyshev
    interpolation.
    """
    grid, weights = np.polynomial.legendre.leggauss(_GRID)
    grid, weights = 8.0 * grid, 8.0 * weights
    cdf = normal_cdf(grid)
    points = np.cos(np.pi * (np.arange(17) + 0.5) / 17)
    x, y = grid[:, None], grid[None, :]
    found = []
    for rho in points:
        angles = math.asin(rho) * (_NODES + 1.0) / 2.0
        integral = np.zeros((_GRID, _GRID))
        for angle, weight in zip(angles, _WEIGHTS, strict=True):
            sine = math.sin(angle)
            integral += weight * np.exp(-(x * x + y * y - 2.0 * sine * x * y) / (2.0 * (1.0 - sine * sine)))
        joint = np.outer(cdf, cdf) + integral * math.asin(rho) / (4.0 * math.pi)
        found.append(weights @ (np.clip(joint, 0.0, 1.0) ** n - np.outer(cdf**n, cdf**n)) @ weights)
    polynomial = np.asarray(np.polynomial.chebyshev.chebfit(points, found, 16), dtype=np.float64)
    fine, fine_weights = np.polynomial.legendre.leggauss(400)
    fine, fine_weights = 9.0 * fine, 9.0 * fine_weights
    density = n * normal_cdf(fine) ** (n - 1) * normal_density(fine) * fine_weights
    mean = float(density @ fine)
    variance = float(density @ fine**2) - mean**2
    # At 1 it is the variance; the grid is coarse for a correlation close to 1.
    return mean, variance, polynomial * variance / np.polynomial.chebyshev.chebval(1.0, polynomial)


class MaximumMoments:
    """Moments of the largest of n Gaussian numbers at n places, of two inputs.

    The numbers of an input at two places have correlation s, those of two inputs c at the same place and t at others:
    ``x_ip = sqrt(t) g + sqrt(s - t) h_i + sqrt(c - t) z_p + sqrt(1 - s - c + t) e_ip``. What is common to all places of
    an input adds to its maximum; the rest have the correlation ``(c - t) / (1 - s)`` in pairs. All of it continues to
    negative similarities.
    """

    def __init__(self, n: int, m: Floats, var: Floats, s: Floats) -> None:
        self._var = var
        first, second, self._polynomial = _covariances_of_maxima(n)
        self._own = np.clip(1.0 - s, 0.0, None)
        self.mean = m + np.sqrt(var * self._own) * first
        # Below -1 / (n - 1) no n numbers have this similarity.
        self.var = var * np.maximum(self._own * second + s, 0.0)

    def covariance(self, c: Floats, t: Floats) -> Floats:
        """Return the covariance of the maxima over the same places of two inputs."""
        own = np.maximum(self._own, 1e-12)
        rho = np.clip((c - t) / own, -1.0, 1.0)
        return np.asarray(self._var * (self._own * np.polynomial.chebyshev.chebval(rho, self._polynomial) + t))
