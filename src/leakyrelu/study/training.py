"""The network of a row, one training of it, and its measurements; all run in a worker on one thread."""

from __future__ import annotations

import itertools
import math
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from leakyrelu.study.result import Examination, Run, Snapshot
from leakyrelu.torch import CenteredLeakyReLU, LeakyReLU, diagnose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from leakyrelu.study.data import Data, Part
    from leakyrelu.study.settings import Settings
    from leakyrelu.study.variants import Row

_CHUNK = 1024  # samples at a time where no step is taken: memory, not the result, depends on it


def build(row: Row, *, features: int, classes: int, depth: int, width: int, seed: int) -> nn.Sequential:
    """Return ``depth`` hidden layers and a linear one on top, without skip connections or normalization.

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


def train(data: Data, settings: Settings, row: Row, seed: int, learning_rate: float) -> tuple[Run, NDArray[np.float32]]:
    """Train one network with Adam and return what happened, and the weights in one flat array."""
    network = _build(data, settings, row, seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    x, y = torch.from_numpy(data.train.x), torch.from_numpy(data.train.y)
    shuffle = torch.Generator().manual_seed(2 * seed + 1)  # by the seed alone: every row sees the same batches
    losses, accuracies, seconds = [], [], 0.0
    for _ in range(settings.epochs):
        start, total = time.perf_counter(), torch.zeros(())
        for batch in torch.split(torch.randperm(len(x), generator=shuffle), settings.batch_size):
            optimizer.zero_grad()
            loss = cross_entropy(network(x[batch]), y[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach() * len(batch)
        losses.append(float(total) / len(x))
        seconds += time.perf_counter() - start
        accuracies.append(accuracy(network, data.validation))
    weights = nn.utils.parameters_to_vector(network.parameters()).detach().numpy()
    diverged = not (np.isfinite(weights).all() and all(map(math.isfinite, losses)))
    return Run(seed, learning_rate, tuple(losses), tuple(accuracies), seconds, diverged), weights


def examine(data: Data, settings: Settings, row: Row, seed: int, weights: NDArray[np.float32]) -> Examination:
    """Measure a chosen run before and after training; only this function uses the test data."""
    network = _build(data, settings, row, seed)
    before = snapshot(network, data.train)
    nn.utils.vector_to_parameters(torch.from_numpy(weights), network.parameters())
    return Examination(seed, accuracy(network, data.test), before, snapshot(network, data.train))


def snapshot(network: nn.Sequential, part: Part) -> Snapshot:
    """Measure gradients and units, layer by layer, on all the samples of a part."""
    network.zero_grad()
    for x, y in _chunks(part):
        (cross_entropy(network(x), y, reduction="sum") / len(part.y)).backward()  # type: ignore[no-untyped-call]
    norms = [float(layer.weight.grad.norm()) for layer in hidden(network) if layer.weight.grad is not None]
    network.zero_grad()
    layers = diagnose(network, (x for x, _ in _chunks(part))).layers
    return Snapshot(
        gradient_norm=tuple(norms),
        silent_units=tuple(len(layer.silent_units) for layer in layers),
        always_on_units=tuple(len(layer.always_on_units) for layer in layers),
        mean_over_std=tuple(float(layer.mean_over_std) for layer in layers),
    )


def accuracy(network: nn.Module, part: Part) -> float:
    """Return the share of samples that are classified right."""
    with torch.no_grad():
        right = sum(int((network(x).argmax(1) == y).sum()) for x, y in _chunks(part))
    return right / len(part.y)


def _chunks(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
    x, y = torch.from_numpy(part.x), torch.from_numpy(part.y)
    return zip(torch.split(x, _CHUNK), torch.split(y, _CHUNK), strict=True)


def _build(data: Data, settings: Settings, row: Row, seed: int) -> nn.Sequential:
    return build(
        row, features=data.features, classes=data.classes, depth=settings.depth, width=settings.width, seed=seed
    )
