"""``python -m benchmarks census``: what ``diagnose`` and ``watch`` cost beside the network that they count in.

Two figures, on convolutional networks on the CPU: the time of ``diagnose`` over several batches over that of the plain
forward pass over the same, all that happens once included; and the time of ten training steps under
``watch(model, every=10)`` over that of ten steps alone. Results: ``census.json`` and
``census.md``.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import leakyrelu
from benchmarks import machine, storage
from benchmarks.storage import Timing
from leakyrelu.torch import diagnose, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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


def compare(one: Callable[[], object], other: Callable[[], object], rounds: int) -> dict[str, Any]:
    """Time both in turn: the ratios within each round, and the quickest of each."""
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
        "ratio": Timing.of(second / first for first, second in times),
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
    diagnosed = compare(forward, lambda: diagnose(model, [x] * batches), rounds)
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

    rows.append({**what, "what": "watch every 10", "count": 10, **compare(train, watched, rounds)})
    return rows


def render(results: dict[str, Any]) -> str:
    """Lay the figures out as a Markdown table."""
    host = results["machine"]
    lines = [
        "# What a census costs",
        "",
        f"{host['processor']}, PyTorch {host['packages']['torch']}, {host['system']}; commit {host['commit']}; "
        f"`{host['command']}`. Plain is one batch forward, or one training step, at its quickest. A ratio is the "
        "median over rounds in which both took turns; the last column is the quickest round of each.",
        "",
        "| what | network | layout | batch | threads | plain (ms) | ratio | at most | of the quickest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(results["measured"], key=lambda row: row["what"]):
        lines.append(
            f"| {row['what']} | {row['network']} | {row['layout']} | {row['batch'][0]} | {row['threads']} "
            f"| {1e3 * row['plain_seconds'] / row['count']:.1f} | {row['ratio'].median:.3f} | {LIMITS[row['what']]} "
            f"| {row['watched_seconds'] / row['plain_seconds']:.3f} |"
        )
    return "\n".join([*lines, ""])


def _range(values: Iterable[float], digits: int = 2) -> str:
    values = list(values)
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Name and text of each figure that the docs quote."""
    measured = results["measured"]
    batches = sorted({row["batch"][0] for row in measured})
    works = {
        "diagnose": "`diagnose` over ten batches, against the forward pass",
        "watch every 10": "ten training steps under `watch(model, every=10)`",
    }
    table = ["| work | " + " | ".join(f"batch of {batch}" for batch in batches) + " |"]
    table.append("|---" * (1 + len(batches)) + "|")
    found = {}
    middles = []
    for what, title in works.items():
        cells = []
        for batch in batches:
            rows = [row for row in measured if row["what"] == what and row["batch"][0] == batch]
            cells.append(_range(row["ratio"].median for row in rows))
            middles.append((what, statistics.median(row["ratio"].median for row in rows)))
            milliseconds = [1e3 * row["plain_seconds"] / row["count"] for row in rows]
            found[f"census, {what}, plain, {batch}"] = _range(milliseconds, 1)
        table.append(f"| {title} | " + " | ".join(cells) + " |")
    found["census, watch, middle"] = _range(value for what, value in middles if what.startswith("watch"))
    return found | {"census": "\n".join(table)}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks census", description=__doc__)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, such as 1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--batch", default="2,4,16", help="batch sizes, such as 4,16")
    parser.add_argument("--batches", type=int, default=10, help="batches that diagnose takes")
    parser.add_argument("--layouts", default="contiguous,channels last")
    parser.add_argument("--print-only", action="store_true", help="store nothing")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results (default: by the machine's name)")
    options = parser.parse_args(arguments)
    measured = []
    for threads in (int(text) for text in options.threads.split(",")):
        torch.set_num_threads(threads)
        leakyrelu.set_num_threads(threads)
        for make in (plain, residual):
            for layout in options.layouts.split(","):
                for batch in (int(text) for text in options.batch.split(",")):
                    measured += measure(make, options.size, batch, layout, options.rounds, options.batches)
    results = {"machine": machine.describe(), "measured": measured}
    print(render(results))
    if options.print_only:
        return
    folder = options.save or storage.RESULTS / machine.name()
    storage.save(results, folder / "census.json")
    (folder / "census.md").write_text(render(results))
    print(f"stored in {folder}")
