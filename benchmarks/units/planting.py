"""Networks with planted dead channels, and the oracle that found where to plant them.

What the oracle finds takes most of the time and depends on nothing of this package: it is kept in `KEPT`, in a file
for each network, and the next run reads it there.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import storage
from benchmarks.units.oracle import REVISION, Feeder, Oracle, scatter

if TYPE_CHECKING:
    from benchmarks.zoo.network import Network

SAMPLES = 16
KEPT = storage.ROOT / "build" / "oracle"


class Planted(NamedTuple):
    """A network with dead channels, two samples that the oracle saw it on, more samples, and the oracle."""

    model: nn.Module
    batch: Any
    larger: Any
    oracle: Oracle


def plant(name: str, network: Network) -> Planted:
    """Plant dead channels in every layer that feeds a rectifier; in float64 where the network runs in it."""
    try:
        return _planted(name, network, torch.float64)
    except RuntimeError:  # it casts to float32 inside
        return _planted(name, network, torch.float32)


def run(model: nn.Module, batch: Any) -> Any:
    """Run a model on a batch, which is a tensor or keyword arguments."""
    with torch.no_grad():
        return model(**batch) if isinstance(batch, dict) else model(batch)


def _find_feeders(name: str, oracle: Oracle) -> None:
    """Let the oracle find the layers, or read what it found before on this network."""
    text = f"{name} {torch.__version__} {REVISION}"
    path = KEPT / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        oracle.find_feeders()
        KEPT.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([call.feeder for call in oracle.calls]), encoding="utf-8")
        return
    for call, found in zip(oracle.calls, json.loads(path.read_text(encoding="utf-8")), strict=True):
        call.feeder = None if found is None else Feeder(found[0], tuple(found[1]))


def _planted(name: str, network: Network, dtype: torch.dtype) -> Planted:
    model = network.make().to(dtype)
    batch, larger = (_cast(network.batch(size), dtype) for size in (2, SAMPLES))
    scatter(model, torch.Generator().manual_seed(2))
    oracle = Oracle(model, lambda: run(model, batch))
    _find_feeders(name, oracle)
    oracle.plant()
    return Planted(model, batch, larger, oracle)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, dict):
        return {key: _cast(each, dtype) for key, each in value.items()}
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
