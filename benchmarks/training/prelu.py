"""``python -m benchmarks prelu``: learned slopes, forward plus backward, and the bytes kept beside the output.

Results: ``prelu.json`` and ``prelu.md``.
"""

from __future__ import annotations

import argparse
import importlib
import pathlib
from typing import Any, TypedDict

import torch
from torch.nn.functional import prelu as pytorch_prelu

from benchmarks import machine, storage
from benchmarks.harness import interleave
from benchmarks.storage import Timing
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
BELOW_2_18 = ("2^12", "2^14", "2^16")
OURS, THEIRS = "leakyrelu", "PyTorch"


class Measurement(TypedDict):
    """Seconds, their ratio, and bytes kept beside the output, of ours and of PyTorch's."""

    dtype: str
    data: str
    slopes: str
    seconds: dict[str, Timing]
    ratio: Timing
    bytes: dict[str, int]


def kept_beside(function: Any, x: torch.Tensor, w: torch.Tensor) -> int:
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = function(x, w)
    storages.pop(y.untyped_storage().data_ptr(), None)
    return sum(storages.values())


def measure(dtype: str, data: str, slopes: str, repeats: int) -> Measurement:
    """Measure one shape with shared slopes, one for each channel, or one for each channel of which one is negative."""
    shape = SHAPES[data]
    x = torch.randn(shape, dtype=getattr(torch, dtype), requires_grad=True)
    w = torch.full((1 if slopes == "shared" else shape[1],), 0.25, dtype=x.dtype)
    w[0] = -0.25 if slopes == "negative" else 0.25
    w.requires_grad_()
    grad = torch.randn(shape, dtype=x.dtype)

    def step(function: Any) -> Any:
        return lambda: torch.autograd.grad(function(x, w), (x, w), grad)

    functions = {OURS: prelu, THEIRS: pytorch_prelu}
    seconds = interleave({name: step(function) for name, function in functions.items()}, repeats)
    return {
        "dtype": dtype,
        "data": data,
        "slopes": slopes,
        "seconds": seconds,
        "ratio": Timing(seconds[OURS].median / seconds[THEIRS].median),
        "bytes": {name: kept_beside(function, x, w) for name, function in functions.items()},
    }


def render(results: dict[str, Any]) -> str:
    """Lay the measurements out as Markdown."""
    lines = [
        "# Learned slopes",
        "",
        "Forward plus backward of `prelu`; medians of interleaved rounds.",
        "",
        "| dtype | data | slopes | leakyrelu, us | PyTorch, us | ratio | bytes kept beside the output | by PyTorch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results["measured"]:
        seconds, kept = row["seconds"], row["bytes"]
        lines.append(
            f"| {row['dtype']} | {row['data']} | {row['slopes']} | {seconds[OURS].median * 1e6:.0f} "
            f"| {seconds[THEIRS].median * 1e6:.0f} | {row['ratio'].median:.2f} | {kept[OURS]:,} | {kept[THEIRS]:,} |"
        )
    return "\n".join([*lines, "", *machine.machine_table(results["machine"]), ""])


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Name and text of each figure that the docs quote."""
    large = [row["ratio"].median for row in results["measured"] if row["data"] not in BELOW_2_18]
    return {"prelu, large": f"{min(large):.2f} to {max(large):.2f}"}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks prelu", description=__doc__)
    parser.add_argument("--small", type=int, help="elements below which ours calls PyTorch's function; store nothing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", default=",".join(SHAPES), help="of the shapes")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results (default: by the machine's name)")
    options = parser.parse_args(arguments)
    if options.small is not None:
        parametric: Any = importlib.import_module("leakyrelu.torch.activations.parametric")
        parametric._SMALL = options.small
    torch.set_num_threads(options.threads)
    results: dict[str, Any] = {"machine": {**machine.describe(), "torch_threads": options.threads}}
    results["measured"] = [
        measure(dtype, data, slopes, options.repeats)
        for dtype in ("float32", "bfloat16")
        for data in options.data.split(",")
        for slopes in ("shared", "each", "negative")
    ]
    print(render(results))
    if options.small is None:
        folder = options.save or storage.RESULTS / machine.name()
        storage.save(results, folder / "prelu.json")
        (folder / "prelu.md").write_text(render(results))
        print(f"stored in {folder}")
