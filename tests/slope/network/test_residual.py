"""scale_branches: which sums are plain residual ones, and what their branches get."""

from __future__ import annotations

import pytest

from leakyrelu.slope.network import (
    Activation,
    Affine,
    BatchNorm,
    Input,
    LayerNorm,
    Linear,
    Network,
    Sum,
    scale_branches,
)


class Nodes(list):
    def put(self, kind, *inputs, **attributes):
        self.append(kind(inputs=inputs, **attributes))
        return len(self) - 1


def residual(blocks, *, norm=None, scale=None, weights=(), projected=False, in_front=False):
    """A chain of x + f(x), f of two layers; numbers of the last layers of the branches."""
    nodes, last = Nodes([Input()]), []
    x = nodes.put(Linear, 0)
    for _ in range(blocks):
        h = nodes.put(LayerNorm, x) if in_front else x
        h = nodes.put(Linear, nodes.put(Activation, h))
        h = nodes.put(BatchNorm, h, batch=8) if norm else h
        h = nodes.put(Linear, nodes.put(Activation, h))
        last.append(h)
        h = nodes.put(Affine, h, factor=scale) if scale else h
        x = nodes.put(Sum, nodes.put(Linear, x) if projected else x, h, weights=weights)
    nodes.put(Activation, x)
    return nodes, last


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("blocks", [1, 4, 40])
def test_the_last_layer_of_each_branch_has_its_share(blocks, projected):
    nodes, last = residual(blocks, projected=projected)
    scaled = scale_branches(nodes)
    assert {number: node.factor2 for number, node in enumerate(scaled) if isinstance(node, Linear)} == {
        number: 1 / blocks if number in last else 1.0 for number, node in enumerate(nodes) if isinstance(node, Linear)
    }
    # The second moment grows by a factor of (1 + 1/n)^n instead of 2^n.
    for slope in (0.0, 0.3):
        assert float(Network(scaled).states(slope)[-2].q[0]) == pytest.approx((1 + 1 / blocks) ** blocks)
        assert float(Network(nodes).states(slope)[-2].q[0]) == pytest.approx(2.0**blocks)


@pytest.mark.parametrize(
    "options",
    [{"norm": True}, {"in_front": True}, {"scale": 0.2}, {"weights": (0.8, 0.6)}],
    ids=lambda each: next(iter(each)),
)
def test_branches_that_have_a_size_of_their_own_are_left(options):
    nodes, _ = residual(3, **options)
    assert scale_branches(nodes) == nodes


def test_sums_that_are_no_residual_ones_are_left():
    nodes = Nodes([Input()])
    one, two = nodes.put(Linear, 0), nodes.put(Linear, 0)
    both = nodes.put(Sum, one, two)  # of as many layers
    doubled = nodes.put(Sum, both, nodes.put(Activation, both))  # of none
    three = nodes.put(Sum, doubled, nodes.put(Linear, doubled), nodes.put(Linear, doubled))
    nodes.put(Activation, three)
    assert scale_branches(nodes) == nodes


def test_a_difference_is_a_residual_sum_too_and_a_branch_may_end_in_two_layers():
    nodes = Nodes([Input()])
    x = nodes.put(Linear, 0)
    h = nodes.put(Activation, nodes.put(Linear, x))
    ends = [nodes.put(Linear, h), nodes.put(Linear, h)]
    nodes.put(Activation, nodes.put(Sum, x, nodes.put(Sum, *ends), weights=(1.0, -1.0)))
    scaled = scale_branches(nodes)
    assert [number for number, node in enumerate(scaled) if node != nodes[number]] == []
    # With one such sum the factor is 1; with two, each branch has a half.
    nodes2 = Nodes(nodes[:-1])
    y = len(nodes2) - 1
    last = nodes2.put(Linear, nodes2.put(Activation, nodes2.put(Linear, y)))
    nodes2.put(Activation, nodes2.put(Sum, y, last))
    scaled = scale_branches(nodes2)
    assert {number for number, node in enumerate(scaled) if node != nodes2[number]} == {*ends, last}
