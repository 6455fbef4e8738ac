"""Part ``layer``: a Leaky ReLU by itself, forward plus backward, and the bytes that it keeps.

As in a network, several layers run before the first backward pass, each on an input of its own, and all their outputs
are alive at once; one backward pass then goes through all of them. Two ways to get memory, since it depends on
what else the process does which of them a layer meets:

* ``fresh``: every tensor of 128 KiB and more is taken from the system, touched for the first time and given back, and
  the memory of the smaller ones is given back after each block. Outputs, gradients and what is kept count as fresh.
  Before the clock, memory is prefaulted (`harness.prefault`) and the same block runs once.
* ``reused``: the allocator gives nothing back, so that every tensor lies where an older one was.
"""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmarks import harness
from benchmarks.storage import Timing
from leakyrelu.torch import LeakyReLU

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.training.measurement import Measurement

    Layer = Callable[[torch.Tensor], torch.Tensor]

WORK = "single layer"
POWERS = (10, 12, 14, 16, 17, 18, 19, 20, 22, 24, 26)
COMPILED = (10, 14, 18, 22, 26)  # sizes for torch.compile, which takes up to half a minute for each
# Of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
SLOPE = 0.01
ALIVE_BYTES = 1 << 26  # of all outputs together
LAYERS = (2, 32)
BLOCK_SECONDS = 0.05


def _allocator(memory: str) -> Any:
    library = ctypes.CDLL(None)
    fresh = memory == "fresh"
    library.mallopt(M_MMAP_MAX, 65536 if fresh else 0)
    library.mallopt(M_MMAP_THRESHOLD, 128 * 1024)
    library.mallopt(M_TRIM_THRESHOLD, 128 * 1024 if fresh else 2**31 - 1)
    return library


def _candidates(compiled: bool) -> dict[str, Layer]:
    layer = nn.LeakyReLU(SLOPE)
    found: dict[str, Layer] = {
        "PyTorch": layer,
        "PyTorch in place": nn.LeakyReLU(SLOPE, inplace=True),
        "checkpoint": lambda x: checkpoint(layer, x, use_reentrant=False),
        "leakyrelu": LeakyReLU(SLOPE),
    }
    if compiled:
        torch._dynamo.reset()  # one graph a size: kernels for all sizes at once would be split over threads for one
        found["torch.compile"] = torch.compile(nn.LeakyReLU(SLOPE), dynamic=False)
    return found


def _block(layer: Layer, x: torch.Tensor, grad: torch.Tensor, layers: int) -> float:
    """Seconds a layer."""
    leaves = [x.detach().requires_grad_() for _ in range(layers)]
    inputs = [leaf.clone() for leaf in leaves]
    start = time.perf_counter()
    outputs = [layer(each) for each in inputs]
    gradients = torch.autograd.grad(outputs, leaves, [grad] * layers)
    del outputs, gradients
    return (time.perf_counter() - start) / layers


def bytes_kept(layer: Layer, x: torch.Tensor) -> int:
    """Bytes of all storages that autograd keeps for the backward pass of one layer, the input among them."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _output = layer(x.detach().requires_grad_().clone())
    return sum(storage.nbytes() for storage in kept.values())


def measure(dtype: str, memory: str, powers: Iterable[int], rounds: int, compiled: bool) -> list[Measurement]:
    measured: list[Measurement] = []
    library = _allocator(memory)
    for power in powers:
        x = torch.randn(2**power).to(getattr(torch, dtype))
        grad = torch.randn(2**power).to(x.dtype)
        layers = max(LAYERS[0], min(LAYERS[1], ALIVE_BYTES // x.nbytes))
        candidates = _candidates(compiled and power in COMPILED)
        blocks = {}
        for name, layer in candidates.items():
            _block(layer, x, grad, 2)  # compiles
            blocks[name] = max(1, int(BLOCK_SECONDS / (layers * _block(layer, x, grad, layers))))
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for name in harness.round_robin(candidates, rounds):
            taken = 0.0
            if memory == "fresh" and power >= harness.PREFAULT_FROM:
                harness.prefault(harness.PREFAULT_BYTES)
            _block(candidates[name], x, grad, layers)
            for _ in range(blocks[name]):
                taken += _block(candidates[name], x, grad, layers)
                if memory == "fresh":
                    library.malloc_trim(0)
            times[name].append(taken / blocks[name])
        seconds = {name: Timing.of(samples) for name, samples in times.items()}
        for name, layer in candidates.items():
            row: Measurement = {
                "work": f"{WORK}, {dtype}, {memory}",
                "size": f"2^{power}",
                "name": name,
                "rounds": rounds,
                "seconds": seconds[name],
                "bytes": bytes_kept(layer, x),
                "note": "",
            }
            measured.append(row)
        ours = seconds["leakyrelu"].median
        summary = ", ".join(f"{name} {timing.median / ours:.2f}" for name, timing in seconds.items())
        print(f"  layer {dtype} {memory} 2^{power}: {ours * 1e6:.1f} us; {summary}", flush=True)
    return measured
