"""Similarity of unrelated inputs at every activation of a network, measured. It depends on nothing of leakyrelu."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from benchmarks.slope.networks import NETWORKS

if TYPE_CHECKING:
    from torch import Tensor


class Measured(NamedTuple):
    """Similarity behind one activation, over pairs and initializations, and its standard error."""

    activation: str
    mean: float
    standard_error: float


def measured(name: str, slope: float, inits: int = 8) -> list[Measured]:
    """Measure a network of `NETWORKS` at every activation, in the order of the calls.

    Each initialization has inputs of its own. The similarity is that of the whole output for one sample with that for
    another: E<u, v> / E|u||v| over pairs and initializations, with a jackknife over the initializations. The same
    numbers are drawn for each slope.
    """
    network = NETWORKS[name]
    products, norms = [], []
    names: list[str] = []
    for number in range(inits):
        torch.manual_seed(number)
        model = network.make(slope)
        names, means = _outputs(model, network.inputs())
        products.append([product for product, _ in means])
        norms.append([norm for _, norm in means])
    above, below = torch.tensor(products, dtype=torch.float64), torch.tensor(norms, dtype=torch.float64)
    ratio = above.sum(0) / below.sum(0)
    without = (above.sum(0) - above) / (below.sum(0) - below)
    error = math.sqrt(inits - 1) * without.std(0, correction=0)
    return [Measured(*each) for each in zip(names, ratio.tolist(), error.tolist(), strict=True)]


def _outputs(model: nn.Module, inputs: Tensor) -> tuple[list[str], list[tuple[float, float]]]:
    """Run a model; return for each call of an activation its name, and the means over pairs behind it."""
    calls: Counter[str] = Counter()
    names: list[str] = []
    means: list[tuple[float, float]] = []

    def read(name: str, output: Tensor) -> None:
        calls[name] += 1
        names.append(f"{name}, call {calls[name]}" if calls[name] > 1 else name)
        means.append(pair_means(output))

    for name, module in model.named_modules():
        if isinstance(module, nn.LeakyReLU):
            module.register_forward_hook(lambda _module, _inputs, output, name=name: read(name, output))
    with torch.no_grad():
        model(inputs)
    return names, means


def pair_means(output: Tensor) -> tuple[float, float]:
    """Return the means of <u, v> and |u||v| over the pairs of samples along the first axis."""
    rows = output.flatten(1).double()
    gram = rows @ rows.T
    sizes = gram.diagonal().sqrt()
    pairs = torch.triu(torch.ones_like(gram, dtype=torch.bool), 1)
    return float(gram[pairs].mean()), float(torch.outer(sizes, sizes)[pairs].mean())
