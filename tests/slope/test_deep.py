"""Slopes and similarities of networks of any depth: at once, and the numbers that layer after layer gives."""

from __future__ import annotations

import numpy as np
import pytest
from support.command import python

from leakyrelu import slope
from leakyrelu.slope.deep import ONE_BY_ONE

SLOPES = np.array([0.0, 0.3, 0.8, 0.95, 0.99, 1.0, 2.0, -0.4, -1.0])
STARTS = np.array([[-1.0], [-0.7], [0.0], [0.4], [0.999], [1.0]])


def layer_by_layer(alpha, c, depths):
    """The textbook formula, one layer after the other, in extended precision."""
    alpha, c = np.broadcast_arrays(alpha.astype(np.longdouble), c.astype(np.longdouble))
    found = {}
    pi = np.arccos(np.longdouble(-1))
    for depth in range(1, max(depths) + 1):
        angle = np.arccos(c)
        c = ((1 - alpha) ** 2 * (np.sin(angle) + (pi - angle) * c) / pi + 2 * alpha * c) / (1 + alpha**2)
        c = np.clip(c, -1, 1)
        if depth in depths:
            found[depth] = c
    return found


def test_many_layers_at_once_are_as_many_one_by_one():
    depths = [ONE_BY_ONE - 1, ONE_BY_ONE, ONE_BY_ONE + 1, 1500, 4000, 20_000]
    for depth, expected in layer_by_layer(SLOPES, STARTS, depths).items():
        found = slope.correlation(SLOPES, STARTS, depth)
        np.testing.assert_allclose(found, expected.astype(float), rtol=0, atol=2e-13, err_msg=str(depth))


@pytest.mark.parametrize("depth", [10**6, 10**9, 10**15])
def test_depths_add_up(depth):
    half = slope.correlation(SLOPES, STARTS, depth)
    twice = slope.correlation(SLOPES, half, depth)
    np.testing.assert_allclose(slope.correlation(SLOPES, STARTS, 2 * depth), twice, rtol=0, atol=1e-12)


def test_the_last_digits_of_relu():
    # 1 - c = t**2 / 2 with 1 / t = depth / (3 pi) to first order.
    for depth in (10**5, 10**6, 10**7):
        distance = 1 - slope.correlation(0.0, 0.0, depth)
        assert distance == pytest.approx(4.5 * np.pi**2 / depth**2, rel=1e-2 if depth < 10**7 else 0.1)
    assert slope.correlation(0.0, -1.0, 2**63 - 1) == 1.0
    assert slope.correlation(1.0, -0.25, 2**63 - 1) == -0.25
    for alpha in (1 - 1e-9, 1 - 1e-6):  # a step from c = -1, where K is 1, is the bend: (1 - alpha)**2 / 2
        assert slope.correlation(alpha, -1.0, 10**6) == pytest.approx(-1 + 1e6 * (1 - alpha) ** 2 / 2, abs=1e-9)


def test_few_and_many_layers_in_one_array():
    depths = np.array([0, 1, 50, ONE_BY_ONE, ONE_BY_ONE + 1, 10**9])
    together = slope.correlation(0.5, 0.1, depths)
    assert together.tolist() == [slope.correlation(0.5, 0.1, int(depth)) for depth in depths]
    assert (np.diff(together) > 0).all()


@pytest.mark.parametrize("eta", [0.1, 0.9, 0.9999])
@pytest.mark.parametrize("depth", [ONE_BY_ONE, ONE_BY_ONE + 1, 10**4, 10**6, 10**9])
def test_tailored_at_any_depth(depth, eta):
    alpha = slope.tailored(depth, eta)
    assert slope.correlation(alpha, 0.0, depth) == pytest.approx(eta, abs=1e-12)
    # In the limit the bend, (1 - alpha)**2 / 2 there, is inversely proportional to the depth.
    if depth >= 10**6:
        assert (1 - alpha) * depth**0.5 == pytest.approx((1 - slope.tailored(10**12, eta)) * 1e6, rel=0.03)


def test_tailored_is_close_to_one_at_the_deepest():
    depths = np.array([10**k for k in range(2, 19)] + [2**63 - 1])
    slopes = slope.tailored(depths)
    assert (np.diff(slopes) > 0).all()
    assert (slopes < 1).all()
    assert slopes[2] == slope.tailored(10**4)
    assert (np.diff(slope.centered(depths)) > 0).all()


def test_a_target_next_to_one_needs_many_layers_and_says_how_many():
    depth = 5000
    reach = slope.correlation(0.0, 0.0, depth)
    assert slope.tailored(depth, reach) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match=r"only to 0\.99999823.* or a depth of at least 5001"):
        slope.tailored(depth, slope.correlation(0.0, 0.0, depth) + 1e-10)
    for enough in (1500, 30_000):
        eta = (slope.correlation(0.0, 0.0, enough - 1) + slope.correlation(0.0, 0.0, enough)) / 2
        with pytest.raises(ValueError, match=rf"or a depth of at least {enough}$"):
            slope.tailored(50, eta)


@pytest.mark.parametrize("depth", [1_000_000, 1_000_000_000])
def test_the_command_answers_at_any_depth(depth):
    run = python(f"from leakyrelu.cli import main; raise SystemExit(main(['slope', '--depth', '{depth}']))")
    assert run.returncode == 0, run.stderr
    assert f"LeakyReLU({slope.tailored(depth)!r})" in run.stdout
    assert f"CenteredLeakyReLU({slope.centered(depth)!r})" in run.stdout
