"""A lone activation in PyTorch: forward plus backward, and the bytes kept, ours against PyTorch's, interleaved.

    python -m benchmarks.torch_lone [--small 0] [--threads 1] [--fresh] [--exponents 10,16,20,22,24] [--json FILE]

`--small` replaces the number of elements below which our layer goes PyTorch's way. `--fresh` has every tensor of
128 KiB and more taken from the system and given back, as in a step whose tensors are larger than what the allocator
holds.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import pathlib
from typing import Any

import torch
from torch.nn.functional import leaky_relu as pytorch_leaky_relu
from torch.utils.checkpoint import checkpoint

from benchmarks import machine
from benchmarks.harness import interleave
from leakyrelu.torch import leaky_relu

M_MMAP_THRESHOLD = -3  # of mallopt(3)


def contestants(x: torch.Tensor, grad: torch.Tensor) -> dict[str, Any]:
    def step(function: Any) -> Any:
        def run() -> None:
            function(x).backward(grad)
            x.grad = None

        return run

    return {
        "ours": step(lambda t: leaky_relu(t, 0.1)),
        "pytorch": step(lambda t: pytorch_leaky_relu(t, 0.1)),
        "checkpoint": step(lambda t: checkpoint(pytorch_leaky_relu, t, 0.1, use_reentrant=False)),
    }


def bytes_kept(function: Any, x: torch.Tensor) -> int:
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _result = function(x, 0.1)
    return sum(storages.values())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--exponents", default="10,12,14,16,18,19,20,22,24,26")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    if options.small is not None:
        functional: Any = importlib.import_module("leakyrelu.torch.functional")
        functional._SMALL = options.small
    if options.fresh:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 128 * 1024)
    torch.set_num_threads(options.threads)
    rows = []
    print(
        f"{'dtype':9} {'n':>5} {'ours':>11} {'pytorch':>11} {'checkpoint':>11} {'ratio':>6}  bytes kept, of PyTorch's"
    )
    for dtype in (torch.float32, torch.bfloat16):
        for exponent in map(int, options.exponents.split(",")):
            x = torch.randn(2**exponent, dtype=dtype, requires_grad=True)
            seconds = interleave(contestants(x, x.detach().clone()), repeats=options.repeats)
            kept = {"ours": bytes_kept(leaky_relu, x), "pytorch": bytes_kept(pytorch_leaky_relu, x)}
            rows.append({"dtype": str(dtype), "elements": 2**exponent, "seconds": seconds, "bytes_kept": kept})
            times = " ".join(f"{1e6 * value:8.1f} us" for value in seconds.values())
            ratio, share = seconds["pytorch"] / seconds["ours"], kept["ours"] / kept["pytorch"]
            print(
                f"{str(dtype)[6:]:9} 2^{exponent:<3} {times} {ratio:6.2f}  {kept['ours']:,} ({share:.4f})", flush=True
            )
    if options.json:
        settings = {"threads": options.threads, "fresh": options.fresh, "small": options.small}
        record = {"machine": machine.describe(), "settings": settings, "rows": rows}
        options.json.write_text(json.dumps(record, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
