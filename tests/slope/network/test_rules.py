"""The rule of each kind of node against wide random layers.

What goes in has the moments of the state exactly, so the noise is that of the layer: of WIDTH independent channels, at
most sqrt(2 / WIDTH) = .003 for each similarity. EXACT, twice that, is what a rule without approximation keeps.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracle import simulated_network as simulated
from oracle.simulated_network import Moments

from leakyrelu.slope import network
from leakyrelu.slope.network import State

WIDTH = 200_000
EXACT = 0.006

CENTERED = Moments(1.0, 0.0, 0.3, 0.5, 0.2)
UNRELATED = Moments(2.0, 0.0, 0.0, 0.0, 0.0)
OFF_ZERO = Moments(1.5, 0.6, 0.6, 0.7, 0.5)
NEGATIVE = Moments(0.7, -0.4, 0.25, 0.3, 0.2)
OPPOSED = Moments(1.0, 0.1, -0.2, -0.1, 0.05)  # no more than five inputs or eight places have these similarities
MOMENTS = {"centered": CENTERED, "unrelated": UNRELATED, "off zero": OFF_ZERO, "negative": NEGATIVE, "opposed": OPPOSED}
SPREAD = {name: moments for name, moments in MOMENTS.items() if name != "opposed"}

each_state = pytest.mark.parametrize("moments", MOMENTS.values(), ids=MOMENTS)
each_spread_state = pytest.mark.parametrize("moments", SPREAD.values(), ids=SPREAD)


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def state(moments):
    return State(*(np.array([each]) for each in moments))


def behind(node, *inputs, slope=0.2):
    """The output by the rule, as moments."""
    result = node.apply([each if isinstance(each, State) else state(each) for each in inputs], slope)
    return Moments(*(float(each[0]) for each in (result.q, result.m, *result.similarities)))


def assert_close(found, tensor, tolerance=EXACT, size=None):
    """The second moment and the mean are compared beside the size; they may have a tolerance of their own."""
    expected = simulated.measured(tensor)
    sizes = [found.q / expected.q - 1, (found.m - expected.m) / math.sqrt(expected.q)]
    message = f"{found} by the rule, {expected} by simulation"
    assert np.abs(sizes).max() < (size or tolerance), message
    assert np.abs(np.subtract(found[2:], expected[2:])).max() < tolerance, message


@each_state
@pytest.mark.parametrize(("gain2", "bias2"), [(1.0, 0.0), (0.4, 0.3)])
def test_linear(rng, moments, gain2, bias2):
    y = simulated.dense(rng, simulated.draw(rng, moments, 16), WIDTH, gain2, bias2)
    assert_close(behind(network.Linear(gain2=gain2, bias2=bias2), moments), y)


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.7, -0.5])
def test_the_exact_gain_keeps_the_size(rng, slope):
    activation = network.Activation().apply([state(CENTERED)], slope)
    x = simulated.leaky_relu(simulated.draw(rng, CENTERED, 2000), slope)
    y = simulated.dense(rng, x, 2000, 2 / (1 + slope**2))
    found = behind(network.Linear(), activation)
    assert found.q == pytest.approx(1.0, abs=1e-12)
    assert_close(found, y, 0.06)  # sqrt(2 / 2000) = .03, once for the channels that go in and once for those that come


def zero_padding(places, taps, stride):
    """Share of the valid taps, and of those at two places beside those at one, counted."""
    valid = np.array([[0 <= p + k - taps // 2 < places for k in range(taps)] for p in range(0, places, stride)])
    both = valid.astype(int) @ valid.T.astype(int)
    return valid.mean(), (both.sum() - np.trace(both)) / (len(valid) - 1) / valid.sum()


@each_state
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("taps", "padding"), [(3, "zero"), (5, "zero"), (3, "circular")])
def test_convolution(rng, moments, taps, padding, stride):
    x = simulated.draw(rng, moments, 16, places=6)
    y = simulated.convolution(rng, x, WIDTH // 4, taps=taps, stride=stride, padding=padding)
    valid, overlap = zero_padding(6, taps, stride) if padding == "zero" else (1.0, 1.0)
    assert padding == "circular" or (valid < 0.95 and overlap < 0.9)
    assert_close(behind(network.Linear(gain2=1.0, valid=valid, overlap=overlap), moments), y, 2 * EXACT)


@each_state
def test_transposed_convolution(rng, moments):
    x = simulated.draw(rng, moments, 20, places=8)
    y = simulated.transposed_convolution(rng, x, WIDTH // 8, stride=2)
    # Of the 15 other places of an output, 7 have its tap; 1 / stride for large maps.
    assert_close(behind(network.Linear(gain2=1.0, overlap=7 / 15), moments), y, 2 * EXACT)


@each_state
@pytest.mark.parametrize("slope", [0.0, 0.01, 0.3, 1.0, 1.7, -0.5])
def test_activation(rng, moments, slope):
    y = simulated.leaky_relu(simulated.draw(rng, moments, WIDTH), slope)
    assert_close(behind(network.Activation(), moments, slope=slope), y)
    assert behind(network.Activation(slope=slope), moments, slope=0.7) == behind(
        network.Activation(), moments, slope=slope
    )


FUNCTIONS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hardtanh": lambda x: np.clip(x, -1, 1),
    "absolute value": np.abs,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "hard sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
}


@each_state
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_function(rng, moments, function):
    y = function(simulated.draw(rng, moments, WIDTH))
    assert_close(behind(network.Function(function=function), moments), y)


def test_a_function_has_the_scale_that_it_makes():
    result = network.Function(function=lambda x: 3 * x).apply([state(OFF_ZERO)], 0.2)
    assert result.scale == pytest.approx(9.0, rel=1e-12)
    assert behind(network.Linear(), result).q == pytest.approx(OFF_ZERO.q, rel=1e-12)


@each_state
@pytest.mark.parametrize("weights", [(), (0.8, -1.5)])
def test_sum(rng, moments, weights):
    x, y = simulated.draw(rng, moments, WIDTH), simulated.draw(rng, OFF_ZERO, WIDTH)
    w, v = weights or (1, 1)
    assert_close(behind(network.Sum(weights=weights), moments, OFF_ZERO), w * x + v * y)


def test_sum_of_three_and_a_constant(rng):
    sides = [simulated.draw(rng, moments, WIDTH) for moments in (CENTERED, OFF_ZERO, NEGATIVE)]
    bias = np.broadcast_to(simulated.draw(rng, Moments(2.0, 0.5, 0.0, 0.3, 0.0), WIDTH, inputs=1), sides[0].shape)
    constant = network.Constant(square=2.0, mean=0.5, across=0.3).apply([], 0.2)
    assert_close(behind(network.Sum(), CENTERED, OFF_ZERO, NEGATIVE, constant), sum(sides) + bias)


def test_a_sum_has_the_scale_of_what_is_in_front_of_its_sides():
    activation = network.Activation().apply([state(CENTERED)], 0.0)
    total = network.Sum().apply([activation, state(CENTERED)], 0.0)
    assert behind(network.Linear(), total).q == pytest.approx(2.0, rel=1e-12)


@each_state
def test_concatenation(rng, moments):
    y = np.concatenate([simulated.draw(rng, moments, 1000), simulated.draw(rng, OFF_ZERO, 3000)], axis=-1)
    assert_close(behind(network.Concatenation(sizes=(1, 3)), moments, OFF_ZERO), y, 1e-9)


@each_state
def test_product(rng, moments):
    y = simulated.draw(rng, moments, WIDTH) * simulated.draw(rng, OFF_ZERO, WIDTH)
    # The square of a product has the variance 9 - 1 of two squares, in the place of 3 - 1.
    assert_close(behind(network.Product(), moments, OFF_ZERO), y, 2 * EXACT)


@each_state
@pytest.mark.parametrize("p", [0.3, 0.8])
def test_dropout(rng, moments, p):
    y = simulated.dropout(rng, simulated.draw(rng, moments, WIDTH), p)
    assert_close(behind(network.Dropout(p=p), moments), y, 2 * EXACT)
    assert behind(network.Dropout(p=1.0), moments) == (0.0, 0.0, 0.0, 0.0, 0.0)


@each_state
def test_affine(rng, moments):
    factors, shifts = rng.normal(0.8, 0.4, WIDTH), rng.normal(0.3, 0.2, WIDTH)
    y = simulated.draw(rng, moments, WIDTH) * factors + shifts
    assert_close(behind(network.Affine(factor=0.8, factor2=0.8, shift=0.3, shift2=0.13), moments), y)
    fixed = 0.7 * simulated.draw(rng, moments, 1000) - 0.2
    assert_close(behind(network.Affine(factor=0.7, shift=-0.2), moments), fixed, 1e-9)


# A deviation of few numbers varies; what is left of it is in the docstring of the rule.
@each_spread_state
@pytest.mark.parametrize(
    ("batch", "places", "tolerance"), [(2, 1, 1e-9), (32, 1, 1e-9), (16, 4, 0.006), (8, 8, 0.006), (4, 4, 0.02)]
)
def test_batch_norm(rng, moments, batch, places, tolerance):
    x = simulated.draw(rng, moments, 2 * WIDTH // (batch * places), batch, places)
    y = simulated.normalized(x, (0, 1))
    assert_close(behind(network.BatchNorm(batch=batch, places=places), moments), y, tolerance)


def test_batch_norm_of_opposed_numbers_and_of_one_sample(rng):
    y = simulated.normalized(simulated.draw(rng, OPPOSED, WIDTH // 8, 4, 4), (0, 1))
    assert_close(behind(network.BatchNorm(batch=4, places=4), OPPOSED), y)
    # Batches of one sample: each is normalized by itself.
    one = [simulated.normalized(each[None], (0, 1)) for each in simulated.draw(rng, CENTERED, WIDTH // 8, 2, 8)]
    assert_close(behind(network.BatchNorm(batch=1, places=8), CENTERED), np.concatenate(one))


@each_state
def test_layer_norm_and_rms_norm(rng, moments):
    x = simulated.draw(rng, moments, 1000)
    assert_close(behind(network.LayerNorm(), moments), simulated.normalized(x, 2), 1e-9)
    y = x / np.sqrt(np.square(x).mean(axis=2, keepdims=True))
    assert_close(behind(network.RMSNorm(), moments), y, 1e-9)


@each_spread_state
@pytest.mark.parametrize(
    ("channels", "places", "tolerance"), [(1, 4, 0.006), (1, 16, 0.006), (16, 16, 0.006), (8, 8, 0.006), (4, 4, 0.025)]
)
def test_group_norm(rng, moments, channels, places, tolerance):
    groups = 2 * WIDTH // (places * channels)
    y = simulated.group_norm(simulated.draw(rng, moments, groups * channels, 2, places), channels)
    assert_close(behind(network.GroupNorm(channels=channels, places=places), moments), y, tolerance)


@each_state
@pytest.mark.parametrize("places", [2, 4])
def test_average_pooling(rng, moments, places):
    y = simulated.windows(simulated.draw(rng, moments, 1000, places=2 * places), places).mean(axis=2)
    assert_close(behind(network.AveragePool(places=places), moments), y, 1e-9)


@each_spread_state
@pytest.mark.parametrize("places", [4, 9])
def test_max_pooling(rng, moments, places):
    x = simulated.windows(simulated.draw(rng, moments, WIDTH // 2, places=2 * places), places)
    assert_close(behind(network.MaxPool(places=places), moments), x.max(axis=2))
    for slope, tolerance in [(0.0, 0.02), (0.3, 0.02), (1.7, 0.02), (-0.01, 0.02)]:
        activation = network.Activation().apply([state(moments)], slope)
        y = simulated.leaky_relu(x, slope).max(axis=2)
        assert_close(behind(network.MaxPool(places=places), activation, slope=slope), y, tolerance, size=0.03)


def test_max_pooling_of_opposed_numbers(rng):
    x = simulated.windows(simulated.draw(rng, OPPOSED, WIDTH // 2, places=4), 2)
    assert_close(behind(network.MaxPool(places=2), OPPOSED), x.max(axis=2))


def test_max_pooling_behind_a_negative_slope(rng):
    activation = network.Activation().apply([state(CENTERED)], -0.1)
    x = simulated.windows(simulated.draw(rng, CENTERED, WIDTH // 2, places=8), 4)
    assert_close(behind(network.MaxPool(places=4), activation), simulated.leaky_relu(x, -0.1).max(axis=2), 0.03)


ATTENDED = {
    "unrelated": Moments(1.0, 0.0, 0.0, 0.0, 0.0),
    "centered": CENTERED,
    "large": Moments(2.0, 0.0, 0.3, 0.2, 0.1),
    "larger": Moments(4.0, 0.0, 0.3, 0.2, 0.1),
    "alike": Moments(1.0, 0.0, 0.8, 0.8, 0.75),
}


@pytest.mark.parametrize("moments", ATTENDED.values(), ids=ATTENDED)
@pytest.mark.parametrize("places", [4, 16])
def test_attention(rng, moments, places):
    width, drawn = 64, []
    for _ in range(300):
        x = simulated.draw(rng, moments, 64, places=places)
        queries, keys, values = (simulated.dense(rng, x, each) for each in (width, width, 512))
        drawn.append(simulated.attention(queries, keys, values, width**-0.5))
    # 300 draws of the weights, each with 512 values that have the weights in common.
    y = np.concatenate(drawn, axis=-1)
    node = network.Attention(places=places, width=width, factor=width**-0.5)
    assert_close(behind(node, moments, moments, moments), y, 0.02)


@pytest.mark.parametrize("kind", [network.Identity, network.Unknown])
def test_identity(kind):
    assert behind(kind(), OFF_ZERO) == OFF_ZERO


def test_sources():
    assert behind(network.Input(across=0.4)) == (1.0, 0.0, 0.0, 0.4, 0.0)
    assert behind(network.Constant(square=2.0, mean=0.5, across=0.3)) == (2.0, 0.5, 1.0, 0.3, 0.3)


NODES = {
    "linear": network.Linear(gain2=1.0),
    "activation": network.Activation(),
    "function": network.Function(function=np.tanh),
    "batch norm": network.BatchNorm(batch=8, places=4),
    "layer norm": network.LayerNorm(),
    "group norm": network.GroupNorm(channels=4, places=4),
    "rms norm": network.RMSNorm(),
    "average pooling": network.AveragePool(places=4),
    "max pooling": network.MaxPool(places=4),
    "dropout": network.Dropout(p=0.5),
}


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_zeros_stay_zeros_and_equal_inputs_stay_equal(node):
    nothing = behind(node, Moments(0.0, 0.0, 0.0, 0.0, 0.0))
    assert nothing.q == pytest.approx(0.0, abs=1e-200)
    assert nothing.m == pytest.approx(0.0, abs=1e-100)
    assert np.isfinite(nothing).all()
    if not isinstance(node, network.Dropout):  # each input has a mask of its own
        equal = behind(node, Moments(1.0, 0.3, 1.0, 0.4, 0.4))
        assert equal.c == pytest.approx(1.0, abs=1e-9) or isinstance(node, network.BatchNorm)
        assert equal.t == pytest.approx(equal.s, abs=1e-9) or isinstance(node, network.BatchNorm)


@pytest.mark.parametrize("name", ["activation", "function", "max pooling", "layer norm", "group norm", "batch norm"])
def test_numbers_that_hardly_vary(name):
    almost = 1 - 2**-53
    found = behind(NODES[name], Moments(1e10, 1e5, almost, almost, almost))
    assert np.isfinite(found).all()
    assert np.abs(found[2:]).max() <= 1 + 1e-12
