"""Learned slopes in PyTorch: forward plus backward, and the bytes kept beside the output, ours against PyTorch's.

    python -m benchmarks.torch_prelu [--small 0] [--threads 1]

`--small` replaces the number of elements below which our function goes PyTorch's way.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any

import torch
from torch.nn.functional import prelu as pytorch_prelu

from benchmarks import machine
from benchmarks.harness import interleave
from leakyrelu.torch import prelu

SHAPES = {
    "2^12": (16, 256),
    "2^14": (64, 256),
    "2^16": (256, 256),
    "2^18": (1024, 256),
    "matrix": (4096, 1024),
    "images": (32, 64, 56, 56),
    "small images": (8, 512, 16, 16),
}


def kept_beside(function: Any, x: torch.Tensor, w: torch.Tensor) -> int:
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = function(x, w)
    storages.pop(y.untyped_storage().data_ptr(), None)
    return sum(storages.values())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.small is not None:
        learned: Any = importlib.import_module("leakyrelu.torch.activations.parametric")
        learned._SMALL = options.small
    torch.set_num_threads(options.threads)
    print(machine.describe())
    print(f"{'dtype':9} {'data':13} {'slopes':9} {'ours, us':>9} {'pytorch':>9} {'ratio':>6}  kept beside the output")
    for dtype in (torch.float32, torch.bfloat16):
        for name, shape in SHAPES.items():
            for kind, channels, first in (("shared", 1, 0.25), ("each", shape[1], 0.25), ("negative", shape[1], -0.25)):
                w = torch.full((channels,), 0.25, dtype=dtype)
                w[0] = first
                measure(f"{str(dtype)[6:]:9} {name:13} {kind:9}", shape, w.requires_grad_(), options.repeats)


def measure(label: str, shape: tuple[int, ...], w: torch.Tensor, repeats: int) -> None:
    x = torch.randn(shape, dtype=w.dtype, requires_grad=True)
    grad = torch.randn(shape, dtype=w.dtype)

    def step(function: Any) -> Any:
        return lambda: torch.autograd.grad(function(x, w), (x, w), grad)

    seconds = interleave({"ours": step(prelu), "pytorch": step(pytorch_prelu)}, repeats=repeats)
    ours, theirs = seconds["ours"] * 1e6, seconds["pytorch"] * 1e6
    kept = f"{kept_beside(prelu, x, w):,} of {kept_beside(pytorch_prelu, x, w):,}"
    print(f"{label} {ours:9.0f} {theirs:9.0f} {ours / theirs:6.2f}  {kept}", flush=True)


if __name__ == "__main__":
    main()
