"""``python -m benchmarks.watch``: what a census costs beside the network that it watches.

Two figures, on convolutional networks on the CPU: the time of ``diagnose`` over several batches over that of the plain
forward pass over the same, all that happens once included; and the time of ten training steps under
``watch(model, every=10)`` over that of ten steps alone. Results go to ``benchmarks/results/<machine>/``: ``watch.md``
and ``watch.json``.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import leakyrelu
from benchmarks import machine
from leakyrelu.torch import diagnose, watch

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = pathlib.Path(__file__).parent / "results"
LIMITS = {"diagnose": 1.25, "watch every 10": 1.05}


class Block(nn.Module):
    """A residual block, its activations called as functions."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.skip = nn.Conv2d(before, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h))
        return functional.relu(h + self.skip(x))


def plain() -> nn.Module:
    """Convolution, batch norm and ReLU, seven times."""
    layers: list[nn.Module] = []
    for before, width, stride in (
        (3, 32, 1),
        (32, 64, 2),
        (64, 64, 1),
        (64, 128, 2),
        (128, 128, 1),
        (128, 256, 2),
        (256, 256, 1),
    ):
        layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


def residual() -> nn.Module:
    """Four residual blocks."""
    blocks = [Block(3, 32, 1), Block(32, 64, 2), Block(64, 128, 2), Block(128, 256, 2)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


def ratio(one: Callable[[], object], other: Callable[[], object], rounds: int) -> dict[str, float]:
    """Time both in turn; the median of the ratios within each round, and the quickest of each."""
    one(), other()
    times: list[tuple[float, float]] = []
    for number in range(rounds):
        pair = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            (one, other)[which]()
            pair[which] = time.perf_counter() - start
        times.append((pair[0], pair[1]))
    return {
        "plain_seconds": min(first for first, _ in times),
        "watched_seconds": min(second for _, second in times),
        "median_ratio": statistics.median(second / first for first, second in times),
        "ratio_of_quickest": min(second for _, second in times) / min(first for first, _ in times),
    }


def measure(
    make: Callable[[], nn.Module], size: int, batch: int, layout: str, rounds: int, batches: int
) -> list[dict[str, Any]]:
    """Both figures for one network."""
    torch.manual_seed(0)
    model, x = make(), torch.randn(batch, 3, size, size)
    if layout == "channels last":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.to(memory_format=torch.channels_last)

    def forward() -> None:
        model.eval()
        with torch.no_grad():
            for _ in range(batches):
                model(x)

    what = {
        "threads": torch.get_num_threads(),
        "network": make.__name__,
        "layout": layout,
        "batch": [batch, 3, size, size],
    }
    diagnosed = ratio(forward, lambda: diagnose(model, [x] * batches), rounds)
    rows = [{**what, "what": "diagnose", "count": batches, **diagnosed}]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def train() -> None:
        model.train()
        for _ in range(10):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    census = watch(model, every=10)

    def watched() -> None:
        with census:
            train()

    rows.append({**what, "what": "watch every 10", "count": 10, **ratio(train, watched, rounds)})
    return rows


def render(results: dict[str, Any]) -> str:
    """Lay the figures out as a Markdown table."""
    host = results["machine"]
    lines = [
        "# What a census costs",
        "",
        f"{host['processor']}, PyTorch {host['packages']['torch']}, {host['system']}; commit {host['commit']}; "
        f"`{results['command']}`. Plain is one batch forward, or one training step, at its quickest. A ratio is the "
        "median over rounds in which both took turns; the last column is the quickest round of each.",
        "",
        "| what | network | layout | batch | threads | plain (ms) | ratio | at most | of the quickest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(results["rows"], key=lambda row: row["what"]):
        lines.append(
            f"| {row['what']} | {row['network']} | {row['layout']} | {row['batch'][0]} | {row['threads']} "
            f"| {1e3 * row['plain_seconds'] / row['count']:.1f} | {row['median_ratio']:.3f} | {LIMITS[row['what']]} "
            f"| {row['ratio_of_quickest']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, such as 1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--batch", default="2,4,16", help="batch sizes, such as 4,16")
    parser.add_argument("--batches", type=int, default=10, help="batches that diagnose takes")
    parser.add_argument("--layouts", default="contiguous,channels last")
    parser.add_argument("--print-only", action="store_true", help="store nothing")
    options = parser.parse_args()
    rows = []
    for threads in (int(text) for text in options.threads.split(",")):
        torch.set_num_threads(threads)
        leakyrelu.set_num_threads(threads)
        for make in (plain, residual):
            for layout in options.layouts.split(","):
                for batch in (int(text) for text in options.batch.split(",")):
                    rows += measure(make, options.size, batch, layout, options.rounds, options.batches)
    command = " ".join(["python -m benchmarks.watch", *sys.argv[1:]])
    results = {"machine": machine.describe(), "command": command, "rows": rows}
    print(render(results))
    if options.print_only:
        return
    folder = RESULTS / machine.name()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "watch.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "watch.md").write_text(render(results) + "\n")
    print(f"stored in {folder}")


if __name__ == "__main__":
    main()
