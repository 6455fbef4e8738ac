"""``python -m benchmarks watch``: what ``diagnose`` costs on networks that others wrote, beside their forward pass.

Each network (of ``benchmarks.zoo``, installed by ``make zoo-env``) runs the same batches alone and inside ``diagnose``,
in turn, on one thread: the 300 samples that a report takes for enough, or as many as fit in the time. All that happens
once is included. A ratio of CPU times is the median over the rounds. Batches of 16, and of 2, which are small enough
that what each call costs in Python shows. Results: ``watch.json``, ``watch.md``.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

import leakyrelu
from benchmarks.storage import Timing
from benchmarks.units.table import add_arguments, collect, commits, failures, folder
from benchmarks.zoo.networks import NETWORKS
from leakyrelu.diagnosis.thresholds import ENOUGH
from leakyrelu.torch import diagnose

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.zoo.network import Network

LIMITS = {16: (1.25, None), 2: (1.4, 2.0)}
"""By batch size: what the median, and the 90th percentile, of the ratios over all networks may be."""


def compare(one: Callable[[], object], other: Callable[[], object], rounds: int) -> dict[str, Any]:
    """Time both in turn, in CPU time, which other work on the machine does not count into: ratios within each round."""
    one(), other()
    times = []
    for number in range(rounds):
        pair = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.process_time()
            (one, other)[which]()
            pair[which] = time.process_time() - start
        times.append(pair)
    return {"plain_seconds": min(first for first, _ in times), "ratio": Timing.of(each[1] / each[0] for each in times)}


def measure(network: Network, size: int, rounds: int, samples: int, seconds: float) -> dict[str, Any]:
    """Time the forward pass and ``diagnose`` over as many batches as take so many seconds, two at least."""
    model, batch = network.make(), network.batch(size)

    def forward(count: int) -> None:
        with torch.no_grad():
            for _ in range(count):
                model(**batch) if isinstance(batch, dict) else model(batch)

    forward(1)
    start = time.perf_counter()
    forward(1)
    count = min(math.ceil(samples / size), max(2, round(seconds / (time.perf_counter() - start))))
    times = compare(lambda: forward(count), lambda: diagnose(model, [batch] * count), rounds)
    report = diagnose(model, batch)
    return {"count": count, "rows": len(report.layers), **times}


def study(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Measure one network at each batch size."""
    torch.set_num_threads(1)
    leakyrelu.set_num_threads(1)
    sizes = [int(text) for text in options.batch.split(",")]
    return {
        str(size): measure(NETWORKS[name], size, options.rounds, options.samples, options.seconds) for size in sizes
    }


def _ratios(results: dict[str, Any]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for row in results["networks"].values():
        for size in LIMITS:
            if str(size) in row:
                found.setdefault(size, []).append(row[str(size)]["ratio"].median)
    return found


def summary(results: dict[str, Any]) -> dict[int, tuple[float, float]]:
    """Median and 90th percentile of the ratios over all networks, by batch size."""
    found = {}
    for size, ratios in _ratios(results).items():
        highest = statistics.quantiles(ratios, n=10, method="inclusive")[-1] if len(ratios) > 1 else ratios[0]
        found[size] = statistics.median(ratios), highest
    return found


def render(results: dict[str, Any]) -> str:
    """Lay the figures out as a Markdown table."""
    host = results["machine"]
    lines = [
        "# What diagnose costs on networks that others wrote",
        "",
        f"`python -m benchmarks watch`, {host['processor']}, PyTorch {host['packages']['torch']}, {host['system']}; "
        f"{commits(results)}. A ratio is the CPU time, on one thread, of `diagnose` over several batches over that of "
        "the forward pass over the same, the median over rounds in which both took turns.",
        "",
        "| batch | networks | median ratio | at most | 90th percentile | at most |",
        "|---|---|---|---|---|---|",
    ]
    for size, (median, highest) in summary(results).items():
        count = len(_ratios(results)[size])
        limits = [f"{limit}" if limit else "" for limit in LIMITS[size]]
        lines.append(f"| {size} | {count} | {median:.3f} | {limits[0]} | {highest:.3f} | {limits[1]} |")
    lines += ["", "| network | rows | batch | batches | plain (ms) | ratio |", "|---|---|---|---|---|---|"]
    for size in LIMITS:
        for name, sizes in sorted(results["networks"].items()):
            if (row := sizes.get(str(size))) is not None:
                milliseconds = 1e3 * row["plain_seconds"] / row["count"]
                ratio = f"{row['ratio'].median:.3f}"
                lines.append(f"| {name} | {row['rows']} | {size} | {row['count']} | {milliseconds:.1f} | {ratio} |")
    return "\n".join([*lines, *failures(results), ""])


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Name and text of each figure that the docs quote."""
    found = {"watch, networks": str(len(results["networks"]))}
    for size, (median, highest) in summary(results).items():
        found |= {f"watch, median, {size}": f"{median:.2f}", f"watch, 90 %, {size}": f"{highest:.2f}"}
    return found


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks watch", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--batch", default="16,2", help="batch sizes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=ENOUGH, help=f"of a report, at most (default: {ENOUGH})")
    parser.add_argument("--seconds", type=float, default=0.7, help="about how long the forward passes of a round take")
    options = parser.parse_args(arguments)
    results = collect(folder(options) / "watch.json", partial(study, options), options)
    print(render(results).partition("| network |")[0])
    (folder(options) / "watch.md").write_text(render(results))
