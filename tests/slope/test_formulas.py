"""The slope formulas against numerical integration, published values, and their own definitions by other means."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize

from leakyrelu import slope

# Any real slope: usual ones, zero, one, above one, negative.
SLOPES = [0.0, 0.001, 0.01, 0.2, 0.4305, 0.999999, 1.0, 1.7, 30.0, -0.25, -1.0, -3.0]
SIMILARITIES = [-1.0, -0.999, -0.5, 0.0, 0.3, 0.9, 0.999999, 1.0]


def textbook(x: float, alpha: float) -> float:
    return x if x > 0 else alpha * x


def normal(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def expectation(function, alpha: float) -> float:
    halves = [
        integrate.quad(lambda x: function(textbook(x, alpha)) * normal(x), a, b, epsabs=1e-14, epsrel=1e-13)[0]
        for a, b in ((-40, 0), (0, 40))
    ]
    return sum(halves)


def kernel_by_integration(alpha: float, c: float) -> float:
    """E[f(u) f(v)] / E[f(u)^2], u and v standard normal of correlation c, in polar coordinates.

    With (u, v) = r (cos(p), cos(p - t)), cos(t) = c, the radius integrates out exactly: E[r^2] = 2, p is uniform.
    """
    t = math.acos(c)
    kinks = sorted(k % (2 * math.pi) for k in (math.pi / 2, -math.pi / 2, t + math.pi / 2, t - math.pi / 2))
    edges = [0.0, *kinks, 2 * math.pi]

    def integrand(p: float) -> float:
        return textbook(math.cos(p), alpha) * textbook(math.cos(p - t), alpha)

    total = sum(integrate.quad(integrand, a, b, epsabs=1e-14)[0] for a, b in itertools.pairwise(edges))
    return 2 * total / (2 * math.pi) / expectation(lambda y: y * y, alpha)


@pytest.mark.parametrize("alpha", SLOPES)
def test_moments_are_those_of_the_integral(alpha):
    first, second = expectation(lambda y: y, alpha), expectation(lambda y: y * y, alpha)
    scale = max(1.0, abs(alpha))
    assert slope.mean(alpha) == pytest.approx(first, rel=1e-10, abs=1e-12 * scale)
    assert slope.variance(alpha) == pytest.approx(second - first**2, rel=1e-10)
    assert slope.gain(alpha) == pytest.approx(1 / math.sqrt(second), rel=1e-12)


@pytest.mark.parametrize("alpha", SLOPES)
@pytest.mark.parametrize("c", SIMILARITIES)
def test_correlation_is_that_of_the_integral(alpha, c):
    assert slope.correlation(alpha, c) == pytest.approx(kernel_by_integration(alpha, c), abs=1e-9)


@pytest.mark.parametrize("alpha", SLOPES)
def test_gain_is_pytorchs(alpha):
    assert slope.gain(alpha) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", alpha), rel=1e-14)


def test_slope_one_is_a_straight_line():
    c = np.linspace(-1, 1, 101)
    assert slope.mean(1) == 0.0
    assert slope.variance(1) == 1.0
    assert slope.gain(1) == pytest.approx(1.0, rel=1e-15)
    np.testing.assert_array_equal(slope.correlation(1, c, 1000), c)


def test_design_values_of_correlation():
    assert slope.correlation([0.0, 0.01, 0.5], 0.0, 50) == pytest.approx([0.988, 0.987, 0.849], abs=5e-4)


@pytest.mark.parametrize(("depth", "expected"), [(16, 0.1045), (20, 0.1814), (50, 0.4305), (100, 0.5704)])
def test_published_values_of_tailored(depth, expected):
    assert slope.tailored(depth) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("depth", "expected"), [(5, 0.456), (20, 0.694), (50, 0.796), (100, 0.852)])
def test_published_values_of_centered(depth, expected):
    assert slope.centered(depth) == pytest.approx(expected, abs=5e-4)


def textbook_kernel(alpha: float, c: float) -> float:
    """The map as the papers print it, in plain Python."""
    arc = math.sqrt(max(0.0, 1 - c * c)) + (math.pi - math.acos(c)) * c
    return min(1.0, ((1 - alpha) ** 2 * arc / math.pi + 2 * alpha * c) / (1 + alpha**2))


def textbook_depth(alpha: float, depth: int) -> float:
    c = 0.0
    for _ in range(depth):
        c = textbook_kernel(alpha, c)
    return c


@pytest.mark.parametrize(("depth", "eta"), [(13, 0.9), (16, 0.9), (50, 0.9), (50, 0.98), (50, 0.1), (3, 0.5), (1, 0.3)])
def test_tailored_agrees_with_scipys_root(depth, eta):
    root = optimize.brentq(lambda a: textbook_depth(a, depth) - eta, 0.0, 1.0, xtol=1e-14)
    assert slope.tailored(depth, eta) == pytest.approx(root, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(depth=st.integers(1, 120), share=st.floats(1e-6, 0.999))
def test_tailored_reaches_its_target(depth, share):
    eta = share * textbook_depth(0.0, depth)
    alpha = slope.tailored(depth, eta)
    assert 0 <= alpha < 1
    assert textbook_depth(alpha, depth) == pytest.approx(eta, rel=1e-6)


@settings(max_examples=200, deadline=None)
@given(depth=st.integers(1, 10_000), share=st.floats(1e-6, 0.999999))
def test_centered_reaches_its_target(depth, share):
    zeta = math.exp(share * -depth * math.log(1 - 1 / math.pi)) if depth < 1000 else 1 + share
    alpha = slope.centered(depth, zeta)
    assert 0 <= alpha < 1
    # The slope at 1 of the map of the centered activation is E[f'(x)^2] / Var[f(x)], here in its own terms.
    # (1 + alpha^2) / 2 / variance = 1 + mean^2 / variance; log1p, since the ratio itself rounds to 1.
    second = (1 + alpha**2) / 2
    square = (1 - alpha) ** 2 / (2 * math.pi)
    assert depth * math.log1p(square / (second - square)) == pytest.approx(math.log(zeta), rel=1e-6)


@given(alpha=st.floats(-50, 50), c=st.floats(-1, 1))
def test_a_layer_never_lowers_the_similarity(alpha, c):
    after = slope.correlation(alpha, c)
    assert c <= after <= 1


@given(alpha=st.floats(0, 50), low=st.floats(-1, 1), high=st.floats(-1, 1))
def test_correlation_rises_with_c(alpha, low, high):
    low, high = min(low, high), max(low, high)
    assert slope.correlation(alpha, low) <= slope.correlation(alpha, high) + 1e-15


@given(alpha=st.floats(0.01, 50), c=st.floats(-1, 1))
def test_correlation_is_the_same_for_the_mirrored_slope(alpha, c):
    # alpha * f(x; 1/alpha) is f mirrored, and neither mirror nor scale changes a cosine.
    assert slope.correlation(alpha, c) == pytest.approx(slope.correlation(1 / alpha, c), abs=1e-12)


def test_the_chosen_slopes_move_the_right_way():
    depths = np.arange(13, 300)
    assert (np.diff(slope.tailored(depths)) > 0).all()
    assert (np.diff(slope.centered(depths)) > 0).all()
    assert (np.diff(slope.tailored(50, np.linspace(0.01, 0.98, 50))) < 0).all()
    assert (np.diff(slope.centered(50, np.linspace(1.01, 100, 50))) < 0).all()


def test_tiny_targets_keep_their_digits():
    # For a nearly straight network eta = depth * bend / pi and bend = (1 - a)^2 / 2, to first order.
    for eta in (1e-8, 1e-12, 1e-20):
        expected = math.sqrt(2 * math.pi * eta / 50)
        assert 1 - slope.tailored(50, eta) == pytest.approx(expected, rel=2e-4 if eta > 1e-10 else 1e-5)
    for excess in (1e-8, 1e-12):
        zeta = 1 + excess
        assert 1 - slope.centered(50, zeta) == pytest.approx(math.sqrt(2 * math.pi * (zeta - 1) / 50), rel=1e-4)


def test_targets_at_the_very_edge_give_relu():
    assert slope.tailored(12, slope.correlation(0.0, 0.0, 12)) == pytest.approx(0.0, abs=1e-12)
    # One layer of ReLU, centered: 1 / (1 - 1/pi). The textbook quotient is 0/0 here.
    assert slope.centered(1, math.pi / (math.pi - 1) * (1 - 1e-15)) == pytest.approx(0.0, abs=1e-12)


def test_huge_slopes_do_not_overflow():
    assert slope.gain(1e200) == pytest.approx(math.sqrt(2) * 1e-200)
    assert slope.correlation(1e200, 0.0) == pytest.approx(1 / math.pi)


def test_a_python_number_gives_a_python_float():
    results = [
        slope.gain(0.2),
        slope.mean(0),
        slope.variance(1),
        slope.correlation(0.2, 0, 3),
        slope.tailored(50),
        slope.centered(50),
    ]
    assert [type(value) for value in results] == [float] * 6


def test_arrays_broadcast_and_agree_with_numbers():
    alphas, cs, depths = np.array([[0.0], [0.3]]), np.array([-0.5, 0.0, 0.7]), np.array([[[0]], [[1]], [[7]]])
    table = slope.correlation(alphas, cs, depths)
    assert table.shape == (3, 2, 3)
    for index in np.ndindex(table.shape):
        one = slope.correlation(float(alphas[index[1], 0]), float(cs[index[2]]), int(depths[index[0], 0, 0]))
        assert table[index] == one
    assert slope.gain(alphas).shape == (2, 1)
    assert slope.gain([0.1, 0.2]).dtype == np.float64
    np.testing.assert_allclose(slope.tailored([20, 50]), [slope.tailored(20), slope.tailored(50)], rtol=1e-14)
    np.testing.assert_allclose(slope.centered(50, [1.5, 2.0]), [slope.centered(50, 1.5), slope.centered(50, 2.0)])
    assert slope.tailored(np.array([], dtype=int)).shape == (0,)


def test_arguments_are_left_alone():
    c = np.array([0.1, 0.2])
    slope.correlation(0.0, c, 5)
    np.testing.assert_array_equal(c, [0.1, 0.2])


def test_tailored_says_why_and_what_to_do():
    with pytest.raises(ValueError, match="no slope of at least 0") as caught:
        slope.tailored(12)
    reach = textbook_depth(0.0, 12)
    assert str(caught.value) == (
        f"no slope of at least 0 gives eta = 0.9 at depth 12: even ReLU (slope 0) brings unrelated inputs only to "
        f"{reach:.4f} in 12 layers; use an eta of at most {math.floor(reach * 1e4) / 1e4:.4f} or a depth of at least 13"
    )
    assert slope.tailored(13) > 0
    assert slope.tailored(12, math.floor(reach * 1e4) / 1e4) > 0


def test_tailored_names_the_element_that_fails():
    with pytest.raises(ValueError, match=r"eta = 0\.9 at depth 5:.*at least 13"):
        slope.tailored([50, 5, 20])


def test_centered_says_why_and_what_to_do():
    with pytest.raises(ValueError, match="no slope of at least 0") as caught:
        slope.centered(1)
    assert str(caught.value) == (
        "no slope of at least 0 gives zeta = 1.5 at depth 1: even ReLU (slope 0) reaches only 1.4669; "
        "use a zeta of at most 1.4669 or a depth of at least 2"
    )
    assert slope.centered(1, 1.4669) >= 0
    assert slope.centered(2) > 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: slope.tailored(50, 1.0), ValueError, r"eta = 1\.0 cannot be reached.*above 0.*below 1.*0\.9"),
        (lambda: slope.tailored(50, -0.1), ValueError, r"eta = -0\.1.* cannot be reached"),
        (lambda: slope.tailored(50, 1 - 1e-16), ValueError, r"eta = 0\.9999999.* at depth 50:.*more than 100000"),
        (lambda: slope.centered(50, 1.0), ValueError, r"zeta = 1\.0 cannot be reached: it must be above 1"),
        (lambda: slope.centered(50, math.inf), ValueError, r"zeta must be finite, got inf"),
        (lambda: slope.tailored(0), ValueError, r"depth must be at least 1, got 0"),
        (lambda: slope.centered([3, -2]), ValueError, r"depth must be at least 1, got -2"),
        (lambda: slope.correlation(0.1, 0.0, -1), ValueError, r"depth must be at least 0, got -1"),
        (lambda: slope.tailored(2.5), TypeError, r"depth must be an integer or an array of them, got 2\.5 \(float\)"),
        (lambda: slope.tailored(True), TypeError, r"depth must be an integer.*True \(bool\)"),
        (lambda: slope.correlation(0.1, 1.5), ValueError, r"c = 1\.5 is not a cosine similarity"),
        (lambda: slope.correlation(0.1, 1.0000001), ValueError, r"c = 1\.0000001 is not a cosine similarity"),
        (
            lambda: slope.centered(2**63),
            ValueError,
            r"depth must be at most 9223372036854775807, got 9223372036854775808",
        ),
        (
            lambda: slope.tailored(10**9999),
            ValueError,
            r"depth must be between 1 and 9223372036854775807, got an i.* 33216 bits",
        ),
        (lambda: slope.gain(math.nan), ValueError, r"alpha must be finite, got nan"),
        (lambda: slope.mean("0.1"), TypeError, r"alpha must be a real number or an array of them, got '0\.1' \(str\)"),
        (lambda: slope.variance(1j), TypeError, r"alpha must be a real number.*1j \(complex\)"),
        (lambda: slope.gain(None), TypeError, r"alpha must be a real number.*None \(NoneType\)"),
        (lambda: slope.gain(["a"]), TypeError, r"got an array of <U1"),
    ],
)
def test_misuse_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_activation_with_mean_and_variance_taken_off_is_centered():
    for alpha in slope.centered(np.array([5, 50])):
        shift, scale = slope.mean(alpha), 1 / math.sqrt(slope.variance(alpha))
        first = expectation(lambda y, a=shift, b=scale: (y - a) * b, alpha)
        second = expectation(lambda y, a=shift, b=scale: ((y - a) * b) ** 2, alpha)
        assert first == pytest.approx(0.0, abs=1e-12)
        assert second == pytest.approx(1.0, rel=1e-12)
