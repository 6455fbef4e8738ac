"""``python -m benchmarks.watch``: what a census costs beside the network that it watches.

Two figures, on a convolutional network on the CPU: the time of ``diagnose`` over that of the plain forward pass, and
the time of a training step under ``watch(model, every=10)`` over that of a step alone. Results go to
``benchmarks/results/<machine>/``: ``watch.md`` and ``watch.json``.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
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


def measure(make: Callable[[], nn.Module], size: int, batch: int, layout: str, rounds: int) -> list[dict[str, Any]]:
    """Both figures for one network."""
    torch.manual_seed(0)
    model, x = make(), torch.randn(batch, 3, size, size)
    if layout == "channels last":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.to(memory_format=torch.channels_last)

    def forward() -> None:
        model.eval()
        with torch.no_grad():
            model(x)

    what = {"network": make.__name__, "layout": layout, "batch": [batch, 3, size, size]}
    rows = [{**what, "what": "diagnose", **ratio(forward, lambda: diagnose(model, [x]), 3 * rounds)}]
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

    rows.append({**what, "what": "watch every 10", **ratio(train, watched, rounds)})
    return rows


def render(results: dict[str, Any]) -> str:
    """Lay the figures out as a Markdown table."""
    host = results["machine"]
    lines = [
        "# What a census costs",
        "",
        f"{host['processor']}, {results['threads']} thread(s), PyTorch {host['packages']['torch']}, {host['system']}; "
        f"commit {host['commit']}; `python -m benchmarks.watch`. A ratio is the median over rounds in which both took "
        "turns.",
        "",
        "| network | layout | what | plain (ms) | watched (ms) | ratio | at most |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        milliseconds = [f"{1e3 * row[name]:.1f}" for name in ("plain_seconds", "watched_seconds")]
        lines.append(
            f"| {row['network']} | {row['layout']} | {row['what']} | {milliseconds[0]} | {milliseconds[1]} "
            f"| {row['median_ratio']:.3f} | {LIMITS[row['what']]} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--print-only", action="store_true", help="store nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    leakyrelu.set_num_threads(options.threads)
    rows = [
        row
        for make in (plain, residual)
        for layout in ("contiguous", "channels last")
        for row in measure(make, options.size, options.batch, layout, options.rounds)
    ]
    results = {"machine": machine.describe(), "threads": options.threads, "rows": rows}
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
