"""One training of the network of a row, and its measurements; all run in a worker on one thread."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from leakyrelu.study.networks import build, hidden
from leakyrelu.study.result import Examination, Run, Snapshot
from leakyrelu.torch import diagnose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from leakyrelu.study.data import Data, Part
    from leakyrelu.study.settings import Settings
    from leakyrelu.study.variants import Row

    Weights = dict[str, NDArray[np.float32]]

_CHUNK = 1024  # samples at a time where no step is taken: memory, not the result, depends on it


def train(data: Data, settings: Settings, row: Row, seed: int, learning_rate: float) -> tuple[Run, Weights]:
    """Train one network with Adam and return what happened, and its weights and statistics by name."""
    network = _build(data, settings, row, seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    x, y = _tensors(data.train)
    shuffle = torch.Generator().manual_seed(2 * seed + 1)  # by the seed alone: every row sees the same batches
    losses: list[float] = []
    accuracies: list[float] = []
    seconds = 0.0
    while len(losses) < settings.epochs and not settings.flat(accuracies):
        start, total = time.perf_counter(), torch.zeros(())
        network.train()
        for batch in torch.split(torch.randperm(len(x), generator=shuffle), settings.batch_size):
            optimizer.zero_grad()
            loss = cross_entropy(network(x[batch]), y[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach() * len(batch)
        losses.append(float(total) / len(x))
        seconds += time.perf_counter() - start
        accuracies.append(accuracy(network, data.validation))
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    finite = all(np.isfinite(value).all() for value in weights.values())
    diverged = not (finite and all(map(math.isfinite, losses)))
    return Run(seed, learning_rate, tuple(losses), tuple(accuracies), seconds, diverged), weights


def examine(data: Data, settings: Settings, row: Row, seed: int, weights: Weights) -> Examination:
    """Measure a chosen run before and after training; only this function uses the test data."""
    network = _build(data, settings, row, seed)
    _take_statistics(network, data.train)
    before = snapshot(network, data.train)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return Examination(seed, accuracy(network, data.test), before, snapshot(network, data.train))


def snapshot(network: nn.Sequential, part: Part) -> Snapshot:
    """Measure gradients and units, layer by layer, on all the samples of a part."""
    network.eval()
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


def _take_statistics(network: nn.Sequential, part: Part) -> None:
    """Give batch normalizations the statistics of a part, on which a new network would otherwise know nothing."""
    normalizations = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    if not normalizations:
        return
    for layer in normalizations:
        layer.momentum = None  # the mean over all chunks
    network.train()
    with torch.no_grad():
        for x, _ in _chunks(part):
            network(x)


def accuracy(network: nn.Module, part: Part) -> float:
    """Return the share of samples that are classified right."""
    network.eval()
    with torch.no_grad():
        right = sum(int((network(x).argmax(1) == y).sum()) for x, y in _chunks(part))
    return right / len(part.y)


def _chunks(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
    x, y = _tensors(part)
    return zip(torch.split(x, _CHUNK), torch.split(y, _CHUNK), strict=True)


def _tensors(part: Part) -> tuple[Tensor, Tensor]:
    """Copy a part: what a worker received may lie at any address, by which rounding could differ."""
    return torch.tensor(part.x), torch.tensor(part.y)


def _build(data: Data, settings: Settings, row: Row, seed: int) -> nn.Sequential:
    return build(
        row,
        shape=data.sample_shape,
        classes=data.classes,
        depth=settings.depth,
        width=settings.width,
        seed=seed,
        network=settings.network,
    )
