"""Moments of functions of Gaussian pairs against quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from leakyrelu.slope.network.gaussian import FunctionMoments, LeakyMoments, MaximumMoments, normal_cdf, normal_density

SLOPES = [0.0, 0.01, 0.4, 1.0, 1.7, -0.6]
# Means and variances: at zero, off it, and so far off that the kink is never met.
PLACES = [(0.0, 1.0), (0.0, 3.7), (0.3, 0.5), (-0.8, 1.3), (2.0, 0.1), (-5.0, 1.0), (1e3, 1.0), (-1e3, 1.0)]
CORRELATIONS = [-1.0, -0.999, -0.6, 0.0, 1e-9, 0.35, 0.9, 0.9999, 1.0]

x, w = np.polynomial.legendre.leggauss(200)


def leaky(u, slope):
    return np.where(u > 0, u, slope * u)


def pieces(*cuts, reach=9.0):
    """Points and weights of Gauss and Legendre between cuts, where an integrand may have a kink."""
    edges = np.clip([-reach, *sorted(cuts), reach], -reach, reach)
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


def product_by_quadrature(f, m, var, rho, kinks):
    """E[f(u) f(v)] for a function with kinks there; the inner integral is cut at them for each outer point."""
    sigma = math.sqrt(var)
    cuts = [(kink - m) / sigma for kink in kinks]
    outer, outer_weights = pieces(*cuts, *[-cut for cut in cuts])  # at a correlation of -1 the other meets it there
    total = 0.0
    for y, weight in zip(outer, outer_weights * stats.norm.pdf(outer), strict=True):
        if abs(rho) == 1.0:
            inner = f(m + sigma * rho * y)
        else:
            rest = math.sqrt((1 - rho) * (1 + rho))
            z, weights = pieces(*[((kink - m) / sigma - rho * y) / rest for kink in kinks])
            inner = weights * stats.norm.pdf(z) @ f(m + sigma * (rho * y + rest * z))
        total += float(weight * f(m + sigma * y) * inner)
    return total


def test_normal_distribution():
    points = np.array([-40.0, -3.0, -0.1, 0.0, 1.0, 8.0, np.inf, -np.inf])
    np.testing.assert_allclose(normal_cdf(points), special.ndtr(points), atol=1e-16)
    np.testing.assert_allclose(normal_density(points), stats.norm.pdf(points), rtol=1e-14)
    assert np.isnan(normal_cdf(np.array([np.nan]))).all()


@pytest.mark.parametrize(("m", "var"), PLACES)
def test_leaky_products_are_integrals(m, var):
    size = m * m + var
    for rho in CORRELATIONS[:: 1 if abs(m) < 2 else 3]:
        for slope in SLOPES[:: 1 if rho in (-0.6, 0.9) else 3]:
            found = LeakyMoments(slope, np.array([m]), np.array([var])).product(np.array([rho]))
            expected = product_by_quadrature(lambda u, a=slope: leaky(u, a), m, var, rho, [0.0])
            assert found[0] == pytest.approx(expected, abs=1e-10 * size), (rho, slope)


@pytest.mark.parametrize(("m", "var"), PLACES)
@pytest.mark.parametrize("slope", SLOPES)
def test_leaky_means_and_second_moments(m, var, slope):
    moments = LeakyMoments(slope, np.array([m]), np.array([var]))
    z, weights = pieces(-m / math.sqrt(var))
    values = leaky(m + math.sqrt(var) * z, slope)
    weights = weights * stats.norm.pdf(z)
    assert moments.mean[0] == pytest.approx(weights @ values, abs=1e-12 * math.sqrt(m * m + var))
    assert moments.product(np.ones(1))[0] == pytest.approx(weights @ values**2, rel=1e-11)
    assert moments.product(np.zeros(1))[0] == pytest.approx(moments.mean[0] ** 2, rel=1e-12)


def test_arrays_hold_places_at_zero_and_off_it_together():
    m, var = (np.array(each) for each in zip(*PLACES, strict=True))
    rho = np.linspace(-1, 1, len(m))
    together = LeakyMoments(0.2, m, var).product(rho)
    alone = [
        LeakyMoments(0.2, *(each[None] for each in (a, b))).product(c[None])[0]
        for a, b, c in zip(m, var, rho, strict=True)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize(("m", "var"), [(0.0, 1.0), (0.7, 0.4), (-1.0, 2.0)])
@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.3, 0.8, 1.0])
def test_smooth_functions(m, var, rho):
    for f in (np.tanh, lambda u: 1 / (1 + np.exp(-u)), lambda u: u * u, np.sin):
        moments = FunctionMoments(f, np.array([m]), np.array([var]))
        expected = product_by_quadrature(f, m, var, rho, [])
        assert moments.product(np.array([rho]))[0] == pytest.approx(expected, abs=1e-6)
        z, weights = pieces()
        assert moments.mean[0] == pytest.approx(weights * stats.norm.pdf(z) @ f(m + math.sqrt(var) * z), abs=1e-10)


@pytest.mark.parametrize(("m", "var"), [(0.0, 1.0), (0.7, 0.4), (-1.0, 2.0)])
@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.3, 0.8, 0.95, 1.0])
def test_functions_with_kinks(m, var, rho):
    kinks = {np.abs: [0.0], (lambda u: np.clip(u, -1, 1)): [-1.0, 1.0], (lambda u: np.clip(u, 0, 6)): [0.0, 6.0]}
    for f, places in kinks.items():
        moments = FunctionMoments(f, np.array([m]), np.array([var]))
        second = product_by_quadrature(f, m, var, 1.0, places)
        expected = product_by_quadrature(f, m, var, rho, places)
        assert moments.product(np.array([rho]))[0] == pytest.approx(expected, abs=1e-3 * second)


def test_function_moments_of_several_places_keep_their_order():
    m, var = np.array([0.5, -0.5, 0.5, 0.0]), np.array([1.0, 2.0, 1.0, 0.3])
    together = FunctionMoments(np.exp, m, var)
    np.testing.assert_allclose(together.mean, np.exp(m + var / 2), rtol=1e-10)
    expected = np.exp(2 * m + var * 1.4)  # E exp(u + v)
    np.testing.assert_allclose(together.product(np.full(4, 0.4)), expected, rtol=1e-7)


# E max of n standard normal numbers; 4 and 9 from the tables of order statistics, 2 and 3 in closed form.
@pytest.mark.parametrize(
    ("n", "mean"),
    [(2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi)), (4, 1.0293753730), (9, 1.4850131622)],
)
def test_mean_of_maxima(n, mean):
    moments = MaximumMoments(n, np.zeros(1), np.ones(1), np.zeros(1))
    assert moments.mean[0] == pytest.approx(mean, abs=1e-9)
    square = integrate.quad(
        lambda u: u * u * n * special.ndtr(u) ** (n - 1) * stats.norm.pdf(u), -12, 12, epsabs=1e-13
    )[0]
    assert moments.var[0] == pytest.approx(square - mean**2, abs=1e-9)


@pytest.mark.parametrize("rho", [-0.95, -0.3, 0.0, 0.4, 0.9, 0.99])
def test_covariance_of_maxima_of_two(rho):
    # max(a, b) = (a + b + |a - b|) / 2: the sums have covariance 2 rho, and E |d| |d'| of standard normal numbers is
    # 2 (sqrt(1 - rho^2) + rho asin(rho)) / pi.
    absolute = 2 * (2 * (math.sqrt(1 - rho * rho) + rho * math.asin(rho)) - 2) / math.pi
    moments = MaximumMoments(2, np.zeros(1), np.ones(1), np.zeros(1))
    found = moments.covariance(np.array([rho]), np.zeros(1))
    assert found[0] == pytest.approx((2 * rho + absolute) / 4, abs=2e-4)


@pytest.mark.parametrize("n", [2, 4, 9])
@pytest.mark.parametrize("s", [-0.1, 0.0, 0.6, 1.0])
def test_equal_and_independent_maxima(n, s):
    moments = MaximumMoments(n, np.array([0.4]), np.array([2.0]), np.array([s]))
    assert moments.covariance(np.ones(1), np.array([s]))[0] == pytest.approx(moments.var[0], abs=1e-12)
    assert moments.covariance(np.zeros(1), np.zeros(1))[0] == pytest.approx(0.0, abs=1e-3)


def test_maximum_of_two_opposed_numbers_is_an_absolute_value():
    moments = MaximumMoments(2, np.zeros(1), np.ones(1), np.array([-1.0]))
    assert moments.mean[0] == pytest.approx(math.sqrt(2 / math.pi), rel=1e-9)
    assert moments.var[0] == pytest.approx(1 - 2 / math.pi, rel=1e-9)
