"""Part ``lone``: a Leaky ReLU by itself, forward plus backward, and the bytes that it keeps.

As in a network, several layers run before the first backward pass, each on an input of its own, and all their outputs
are alive at once; one backward pass then goes through all of them. Two ways to get memory, since which of them a layer
meets depends on what else the process does:

* ``fresh``: every tensor of 128 KiB and more is taken from the system, touched for the first time and given back, and
  the memory of the smaller ones is given back after each block. Outputs, gradients and what is kept count as fresh.
  Before the clock, memory is brought in (`harness.bring_in_memory`) and the same block runs once.
* ``reused``: the allocator gives nothing back, so that every tensor lies where an older one was.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmarks import harness
from leakyrelu.torch import LeakyReLU

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.torch_rows import Row

    Layer = Callable[[torch.Tensor], torch.Tensor]

DTYPES = ("float32", "bfloat16")
MEMORY = ("fresh", "reused")
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


def _contestants(compiled: bool) -> dict[str, Layer]:
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


def measure(dtype: str, memory: str, powers: Iterable[int], rounds: int, compiled: bool) -> list[Row]:
    rows: list[Row] = []
    library = _allocator(memory)
    for power in powers:
        x = torch.randn(2**power).to(getattr(torch, dtype))
        grad = torch.randn(2**power).to(x.dtype)
        layers = max(LAYERS[0], min(LAYERS[1], ALIVE_BYTES // x.nbytes))
        contestants = _contestants(compiled and power in COMPILED)
        blocks = {}
        for name, layer in contestants.items():
            _block(layer, x, grad, 2)  # compiles
            seconds = layers * _block(layer, x, grad, layers)
            blocks[name] = max(1, int(BLOCK_SECONDS / seconds))
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for name in harness.turns(contestants, rounds):
            taken = 0.0
            if memory == "fresh" and power >= harness.BRING_IN_FROM:
                harness.bring_in_memory(harness.KEPT_BYTES)
            _block(contestants[name], x, grad, layers)
            for _ in range(blocks[name]):
                taken += _block(contestants[name], x, grad, layers)
                if memory == "fresh":
                    library.malloc_trim(0)
            times[name].append(taken / blocks[name])
        for name, layer in contestants.items():
            row: Row = {
                "work": f"lone, {dtype}, {memory}",
                "size": f"2^{power}",
                "name": name,
                "times": times[name],
                "bytes": bytes_kept(layer, x),
                "note": "",
            }
            rows.append(row)
        middle = {name: statistics.median(values) for name, values in times.items()}
        ours = middle["leakyrelu"]
        summary = ", ".join(f"{name} {value / ours:.2f}" for name, value in middle.items())
        print(f"  lone {dtype} {memory} 2^{power}: {ours * 1e6:.1f} us; {summary}", flush=True)
    return rows
