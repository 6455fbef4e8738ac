"""Residual branches without normalization, scaled so that the signal does not grow from sum to sum."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from leakyrelu.slope.network.layers import Affine, Linear, Sum
from leakyrelu.slope.network.normalizations import BatchNorm, GroupNorm, LayerNorm, RMSNorm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leakyrelu.slope.network.node import Node


def scale_branches(nodes: Sequence[Node]) -> list[Node]:
    """Give the last layer of each plain residual branch the factor 1 / sqrt(n), for n such branches in the network.

    In a sum ``x + f(x)`` whose branch keeps the size of the signal, the second moment doubles; after n sums it is
    ``2**n``. With the factor it is ``(1 + 1/n)**n < e`` (De and Smith, "Batch normalization biases residual blocks
    towards the identity function in deep networks", NeurIPS 2020). A branch with a normalization is left, since its
    size does not follow that of x, and so is a sum one side of which is multiplied by a number, which weighs it
    already.
    """
    ancestors: list[frozenset[int]] = []
    for number, node in enumerate(nodes):
        ancestors.append(frozenset({number}).union(*(ancestors[each] for each in node.inputs)))
    ends = [
        end for number, node in enumerate(nodes) if isinstance(node, Sum) for end in _ends(nodes, number, ancestors)
    ]
    count = sum(isinstance(node, Sum) and bool(_ends(nodes, number, ancestors)) for number, node in enumerate(nodes))
    result = list(nodes)
    for end in ends:
        layer = nodes[end]
        assert isinstance(layer, Linear)
        result[end] = replace(layer, factor2=1.0 / count)
    return result


def _ends(nodes: Sequence[Node], number: int, ancestors: list[frozenset[int]]) -> list[int]:
    """Return the last layers of the branch of a sum; none where it is no plain residual sum."""
    node = nodes[number]
    if not isinstance(node, Sum) or len(node.inputs) != 2 or any(abs(w) != 1.0 for w in node.weights):
        return []
    common = ancestors[node.inputs[0]] & ancestors[node.inputs[1]]
    sides = [ancestors[each] - common for each in node.inputs]
    counts = [sum(isinstance(nodes[each], Linear) for each in side) for side in sides]
    if not common or counts[0] == counts[1]:
        return []
    branch = counts[1] > counts[0]
    if any(isinstance(nodes[each], BatchNorm | GroupNorm | LayerNorm | RMSNorm) for each in sides[branch]):
        return []
    factors = [nodes[each] for side in sides for each in side]
    if any(isinstance(each, Affine) and abs(each.factor) != 1.0 for each in factors):
        return []
    found, pending = [], [node.inputs[branch]]
    while pending:
        each = pending.pop()
        if each in sides[branch]:
            if isinstance(nodes[each], Linear):
                found.append(each)
            else:
                pending += nodes[each].inputs
    return found
