"""Similarity of unrelated inputs at every activation of a network, as `leakyrelu.torch.choose_slope` predicts it."""

from __future__ import annotations

import torch

from benchmarks.slope.networks import NETWORKS
from leakyrelu.slope.network import Network
from leakyrelu.torch.slope.recorder import record
from leakyrelu.torch.slope.translation import translate


def predicted(name: str, slope: float) -> list[float]:
    """Predict a network of `NETWORKS` at every activation, in the order of the calls, with the exact gain."""
    torch.manual_seed(0)
    network = NETWORKS[name]
    translation = translate(record(network.make(slope), (network.inputs(),), None), exact_gain=True)
    graph = Network(translation.nodes)
    similarities = graph.similarities(slope)
    return [float(similarities[end]) for end in graph.ends]
