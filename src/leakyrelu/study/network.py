"""The network of a study: linear layers and one activation, without skip connections or normalization."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import nn

from leakyrelu.torch import CenteredLeakyReLU, LeakyReLU

if TYPE_CHECKING:
    from leakyrelu.study.variants import Row


def build(row: Row, *, features: int, classes: int, depth: int, width: int, seed: int) -> nn.Sequential:
    """Return ``depth`` hidden layers and a linear one on top, initialized for the row's slope.

    Weights are orthogonal, the same matrices for every row with the same seed, times the scale that keeps the second
    moment of the signal; biases are zero. A matrix that widens is orthogonal in its columns, and its scale
    carries the factor sqrt(outputs / inputs) that this costs. No activation stands before the first layer, whose scale
    is therefore 1.
    """
    generator = torch.Generator().manual_seed(2 * seed)
    sizes = [features, *[width] * depth, classes]
    network = nn.Sequential()
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        linear = nn.Linear(inputs, outputs)
        widening = max(1.0, outputs / inputs) ** 0.5
        nn.init.orthogonal_(linear.weight, gain=widening * (row.scale if number else 1.0), generator=generator)
        nn.init.zeros_(linear.bias)
        if number < depth:
            network.add_module(f"linear{number + 1}", linear)
            network.add_module(f"activation{number + 1}", _activation(row))
        else:
            network.add_module("readout", linear)
    return network


def hidden(network: nn.Sequential) -> list[nn.Linear]:
    """Return the linear layers in front of an activation, first to last."""
    return [layer for name, layer in network.named_children() if isinstance(layer, nn.Linear) and name != "readout"]


def _activation(row: Row) -> nn.Module:
    if row.kind == "relu":
        return nn.ReLU()
    return CenteredLeakyReLU(row.slope) if row.kind == "centered" else LeakyReLU(row.slope)
