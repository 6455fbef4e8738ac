"""Networks: published slopes, parts by brute force, and what any graph has in common."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakyrelu import slope
from leakyrelu.slope import network
from leakyrelu.slope.network import Activation, Constant, Function, Input, Linear, Network, Sum


class Builder:
    """A list of nodes that grows; each method returns the number of what it adds."""

    def __init__(self):
        self.nodes = [Input()]

    def add(self, kind, *inputs, **settings):
        self.nodes.append(kind(inputs=inputs, **settings))
        return len(self.nodes) - 1

    def network(self):
        return Network(self.nodes)


def plain(depth):
    build, x = Builder(), 0
    for _ in range(depth):
        x = build.add(Activation, build.add(Linear, x))
    return build.network()


def resnet(blocks, shortcut):
    """A pre-activation ResNet of bottleneck blocks: ``x = w x + sqrt(1 - w**2) f(x)``."""
    build = Builder()
    x = build.add(Linear, 0)
    for stage in blocks:
        for block in range(stage):
            activated = h = build.add(Activation, x)
            for layer in range(3):
                h = build.add(Linear, build.add(Activation, h) if layer else h)
            side = x if block else build.add(Linear, activated)
            x = build.add(Sum, side, h, weights=(shortcut, math.sqrt(1 - shortcut**2)))
    build.add(Activation, x)
    return build.network()


@pytest.mark.parametrize("depth", [13, 20, 50, 100])
def test_plain_networks_have_the_tailored_slope(depth):
    assert plain(depth).solve(0.9) == pytest.approx(slope.tailored(depth), abs=1e-9)
    assert plain(depth).solve(0.8) == pytest.approx(slope.tailored(depth, 0.8), abs=1e-9)


def test_a_plain_network_has_the_similarity_of_its_layers():
    found = plain(20).similarities(0.1)
    expected = [slope.correlation(0.1, 0.0, number // 2) for number in range(41)]
    np.testing.assert_allclose(found, expected, atol=1e-13)


# The slopes that DeepMind's dks finds for these functions.
@pytest.mark.parametrize(
    ("blocks", "shortcut", "expected"),
    [((3, 4, 6, 3), 0.0, 0.425907), ((3, 4, 6, 3), 0.5, 0.357252), ((3, 4, 23, 3), 0.0, 0.570440)],
)
def test_residual_networks(blocks, shortcut, expected):
    assert resnet(blocks, shortcut).solve(0.9) == pytest.approx(expected, abs=1e-6)


def test_a_part_that_ends_inside_the_last_branch_is_the_worst_at_a_strong_shortcut():
    strong = resnet((3, 4, 6, 3), 0.8)
    assert strong.solve(0.9) == pytest.approx(0.1735, abs=1e-4)
    worst = strong.worst(0.1541)  # what dks finds, whose function has no such part
    assert worst.similarity == pytest.approx(0.9069, abs=1e-4)
    assert worst.start is None
    inside = strong.nodes[worst.end]
    assert isinstance(inside, Activation)
    assert worst.end < strong.ends[-1]
    assert strong.similarities(0.1541)[strong.ends[-1]] == pytest.approx(0.9, abs=1e-5)


def test_a_deep_residual_network_of_460_nodes():
    build = Builder()
    x = build.add(Linear, 0)
    while len(build.nodes) < 457:
        h = build.add(Activation, x)
        x = build.add(Sum, h, build.add(Linear, h), weights=(0.8, 0.6))  # activated on both sides: off zero
    last = build.add(Activation, build.add(Linear, x))
    found = build.network().solve(0.9)
    assert len(build.nodes) == 460
    assert 0.5 < found < 1.0
    worst = build.network().worst(found)
    assert worst.similarity == pytest.approx(0.9, abs=1e-9)
    assert worst.end <= last


def begun_at(net, start, at_slope):
    """The network from a node on: the node is an input of the size, and with the s, that its numbers have there."""
    state = net.states(at_slope)[start]

    class Begun(Input):
        def apply(self, states, slope):
            q, s = state.q[:1], state.s[:1]
            return replace(state, q=q, m=0 * q, c=0 * q, s=s, t=0 * q, before=None)

    # What is in front of it, and what comes from there alone, is never an input of the part.
    kept, nodes, numbers = {start}, [], {}
    for number, node in enumerate(net.nodes):
        constant = not node.inputs and isinstance(node, Constant)
        inside = number > start and node.inputs and all(each in kept for each in node.inputs)
        if number != start and not constant and not inside:
            continue
        kept.add(number)
        numbers[number] = len(nodes)
        nodes.append(Begun() if number == start else replace(node, inputs=tuple(numbers[each] for each in node.inputs)))
    return nodes, {new: old for old, new in numbers.items()}


def worst_by_brute_force(net, at_slope):
    ends = set(net.ends)
    whole = net.similarities(at_slope)
    found = [float(whole[end]) for end in ends]
    for start, node in enumerate(net.nodes):
        if isinstance(node, Input | Constant):
            continue
        nodes, old = begun_at(net, start, at_slope)
        similarities = Network(nodes).similarities(at_slope)
        found += [float(k) for number, k in enumerate(similarities) if old[number] in ends and number]
    return max(found)


@st.composite
def graphs(draw):
    """Small networks: linear layers, activations, sums, concatenations, pooling, dropout, constants, normalizations."""
    build = Builder()
    build.nodes[0] = Input(across=draw(st.sampled_from([0.0, 0.3])))
    reached = [build.add(Linear, 0, overlap=draw(st.sampled_from([1.0, 0.8])))]
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(
            st.sampled_from(["layer", "layer", "sum", "sum", "concatenation", "pool", "dropout", "bias", "norm"])
        )
        x = draw(st.sampled_from(reached[-4:]))
        y = draw(st.sampled_from(reached))
        if kind == "layer":
            z = build.add(Linear, build.add(Activation, x), bias2=draw(st.sampled_from([0.0, 0.1])))
        elif kind == "sum":
            weight = draw(st.floats(0.1, 0.9))
            z = build.add(Sum, x, build.add(Linear, y), weights=(weight, math.sqrt(1 - weight**2)))
        elif kind == "concatenation":
            z = build.add(network.Concatenation, x, y, sizes=(1, 2))
        elif kind == "pool":
            z = build.add(draw(st.sampled_from([network.AveragePool, network.MaxPool])), x, places=4)
        elif kind == "dropout":
            z = build.add(network.Dropout, x, p=0.2)
        elif kind == "bias":
            z = build.add(Sum, x, build.add(Constant, square=0.2, mean=0.1))
        else:
            z = build.add(network.LayerNorm, x)
        reached.append(z)
    build.add(Activation, build.add(Linear, reached[-1]))
    return build.network()


@given(graphs(), st.sampled_from([0.0, 0.1, 0.4, 0.9]))
def test_the_worst_part_is_that_of_each_part_by_itself(net, at_slope):
    worst = net.worst(at_slope)
    assert worst.similarity == pytest.approx(worst_by_brute_force(net, at_slope), abs=1e-9)
    if worst.start is None:
        assert net.similarities(at_slope)[worst.end] == pytest.approx(worst.similarity, abs=1e-12)
    else:
        nodes, old = begun_at(net, worst.start, at_slope)
        (end,) = [number for number in range(len(nodes)) if old[number] == worst.end]
        assert Network(nodes).similarities(at_slope)[end] == pytest.approx(worst.similarity, abs=1e-12)


@given(graphs(), st.floats(-1.0, 2.0))
def test_similarities_are_cosines(net, at_slope):
    for state in net.states(at_slope):
        values = np.array([state.q, state.m, *state.similarities])
        assert np.isfinite(values).all()
        assert (np.abs(values[2:]) <= 1 + 1e-9).all()
        assert state.q[0] >= 0
        assert state.m[0] ** 2 <= state.q[0] * (1 + 1e-9)


@given(graphs(), st.floats(0.2, 0.95))
def test_the_slope_makes_the_wanted_similarity(net, eta):
    found = net.solve(eta)
    if found is None:
        assert net.worst(0.0).similarity < eta or net.worst(1.0).similarity > eta
    else:
        assert 0.0 <= found <= 1.0
        assert net.worst(found).similarity == pytest.approx(eta, abs=1e-9)


def test_none_where_relu_stays_below():
    assert plain(12).solve(0.9) is None
    assert plain(13).solve(0.9) is not None


def test_none_where_a_straight_line_is_beyond():
    build = Builder()
    x = build.add(Linear, 0, bias2=20.0, gain2=1.0)
    build.add(Activation, x)
    assert build.network().worst(1.0).similarity == pytest.approx(20 / 21)
    assert build.network().solve(0.9) is None


def test_none_where_no_slope_is_looked_for():
    fixed = Network([Input(), Activation(inputs=(0,), slope=0.3)])
    reached = fixed.worst(0.0).similarity
    assert reached == pytest.approx(slope.correlation(0.3, 0.0))
    assert fixed.solve(reached) is None  # every slope makes it
    assert fixed.solve(0.5) is None
    assert Network([Input(), Linear(inputs=(0,))]).worst(0.1) is None
    assert Network([Input(), Linear(inputs=(0,))]).solve() is None


def test_activations_of_constants_make_no_part():
    """A learned table that a small network transforms, such as a bias by relative position: equal for all inputs."""
    build = Builder()
    x = build.add(Linear, 0)
    table = build.add(Constant)
    bias = build.add(Linear, build.add(Activation, build.add(Linear, table)))
    both = build.add(Sum, table, bias)
    build.add(Activation, both)
    end = build.add(Activation, build.add(Sum, x, bias))
    net = build.network()
    assert net.ends == [end]
    worst = net.worst(0.1)
    assert worst.end == end
    assert worst.start is None
    assert worst.similarity < 0.9
    assert net.similarities(0.1)[both] == 1.0


def test_other_functions_are_ends_where_they_are_activations():
    def ends(is_activation):
        gate = Function(inputs=(1,), function=np.tanh, is_activation=is_activation)
        return Network([Input(), Linear(inputs=(0,)), gate]).ends

    assert ends(True) == [2]
    assert ends(False) == []


def test_a_batch_norm_has_the_statistics_of_the_part():
    """Unrelated samples keep apart in a part behind layers that made them alike."""
    build, x = Builder(), 0
    for _ in range(30):
        x = build.add(Activation, build.add(Linear, x))
    x = build.add(network.BatchNorm, build.add(Linear, x), batch=1000)
    end = build.add(Activation, x)
    net = build.network()
    assert net.similarities(0.0)[x] == pytest.approx(-1 / 999, abs=1e-9)
    assert net.similarities(0.0)[end] == pytest.approx(1 / math.pi, abs=2e-3)
    assert net.worst(0.0).similarity == pytest.approx(slope.correlation(0.0, 0.0, 30))


@pytest.mark.parametrize("late", [1, 2, -1])
def test_a_node_takes_earlier_ones(late):
    with pytest.raises(
        ValueError, match=rf"^node 1 \(conv1\) takes node {late}, which is not earlier in the list; put"
    ):
        Network([Input(), Linear(inputs=(late,), name="conv1"), Linear(inputs=(0,))])
    with pytest.raises(ValueError, match=r"^node 1 \(Linear\) takes node"):
        Network([Input(), Linear(inputs=(late,))])


def test_something_is_an_input():
    with pytest.raises(
        ValueError, match=r"^no node is an Input, so nothing can be alike; begin the list with Input\(\)$"
    ):
        Network([Constant(), Activation(inputs=(0,))])


@pytest.mark.parametrize("eta", [0.0, 1.0, -0.5, 90, math.nan])
def test_an_eta_is_a_similarity(eta):
    with pytest.raises(ValueError, match=r"is no similarity to aim at; it must lie above 0 and below 1$"):
        plain(20).solve(eta)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_slope_is_finite(bad):
    for method in (plain(2).similarities, plain(2).states, plain(2).worst):
        with pytest.raises(ValueError, match=rf"^slope = {bad} is not a finite number$"):
            method(bad)
