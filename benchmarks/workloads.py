"""What `benchmarks.compare` times in each of two installed versions, in a process of its own.

``python -m benchmarks.workloads`` reads names of workloads from its standard input, one a line, and answers each with
the seconds that one call takes: the first time from the warm-up, then from a block of calls. It calls nothing but
public names that every version since 0.1 has.
"""

from __future__ import annotations

import functools
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

import leakyrelu
from benchmarks import harness

if TYPE_CHECKING:
    from collections.abc import Callable

POWERS = (10, 16, 20, 24)
LAYER_POWERS = (20, 24)
IMAGES = 16
BATCHES = 10
ALPHA = 0.01


def one_element(kind: str) -> Callable[[], object]:
    x = np.array([-1.5], np.float32)
    out = np.empty_like(x)
    calls: dict[str, Callable[[], object]] = {
        "array": lambda: leakyrelu.leaky_relu(x, ALPHA),
        "array, out=": lambda: leakyrelu.leaky_relu(x, ALPHA, out=out),
        "Python float": lambda: leakyrelu.leaky_relu(-1.5),
    }
    return calls[kind]


def forward(power: int, kind: str) -> Callable[[], object]:
    x = np.random.default_rng(0).standard_normal(2**power, dtype=np.float32)
    if kind == "fresh":
        return lambda: leakyrelu.leaky_relu(x, ALPHA)
    out = np.empty_like(x)
    return lambda: leakyrelu.leaky_relu(x, ALPHA, out=out)


def layer(power: int) -> Callable[[], object]:
    """Forward and backward pass of a Leaky ReLU by itself."""
    import torch

    from leakyrelu.torch import LeakyReLU

    x = torch.randn(2**power, generator=torch.Generator().manual_seed(0)).requires_grad_()
    grad, module = torch.ones_like(x), LeakyReLU(ALPHA)
    return lambda: torch.autograd.grad(module(x), x, grad)


def unet_step() -> Callable[[], object]:
    """Training step of the U-Net of nnU-Net after save_memory."""
    import torch

    from benchmarks.training import networks
    from leakyrelu.torch import save_memory

    make, shape = networks.NETWORKS["unet"]["U-Net 3-D, instance norm"]
    torch.manual_seed(0)
    model = make()
    save_memory(model)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return lambda: networks.step(model, x)


def diagnosis(network: str) -> Callable[[], object]:
    """`diagnose` over batches of 16 images."""
    import torch

    from benchmarks import census
    from leakyrelu.torch import diagnose

    torch.manual_seed(0)
    model = {"plain": census.plain, "residual": census.residual}[network]()
    batches = [torch.randn(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))] * BATCHES
    return lambda: diagnose(model, batches)


ARRAYS: dict[str, Callable[[], Callable[[], object]]] = {
    **{
        f"one element, {kind}": functools.partial(one_element, kind)
        for kind in ("array", "array, out=", "Python float")
    },
    **{
        f"2^{power}, {kind}": functools.partial(forward, power, kind)
        for power in POWERS
        for kind in ("caller's output", "fresh")
    },
}
UNET = "U-Net, training step"
NETWORKS: dict[str, Callable[[], Callable[[], object]]] = {
    UNET: unet_step,
    **{f"single layer, 2^{power}": functools.partial(layer, power) for power in LAYER_POWERS},
    **{
        f"diagnose, {network}, {IMAGES} images": functools.partial(diagnosis, network)
        for network in ("plain", "residual")
    },
}
WORKLOADS = ARRAYS | NETWORKS
# Those that take new memory from the system in each call.
NEW_MEMORY = ("2^24, fresh", "single layer, 2^24")


class Worker:
    """The workloads that this process has been asked for, each made and warmed up once."""

    def __init__(self) -> None:
        self._ready: dict[str, tuple[Callable[[], object], int, float]] = {}

    def seconds(self, name: str) -> float:
        """Seconds a call of a workload, over a block of calls; of the warm-up, where it is asked for the first time."""
        if name not in self._ready:
            run = WORKLOADS[name]()
            calls, seconds = harness.calls_a_block(run)
            self._ready[name] = run, calls, seconds
            return seconds
        if name in NEW_MEMORY:
            harness.prefault(harness.PREFAULT_BYTES)
        if not name.startswith(("one element", "2^10")):
            time.sleep(harness.SETTLE_SECONDS)
        return harness.block(*self._ready[name])


def main() -> None:
    """Answer each name that arrives."""
    worker = Worker()
    for line in sys.stdin:
        print(worker.seconds(line.rstrip("\n")), flush=True)


if __name__ == "__main__":
    main()
