"""``python -m benchmarks watch``: what ``diagnose`` costs on networks that others wrote, beside their forward pass.

Each network (of ``benchmarks.zoo``, installed by ``make zoo-env``) runs the same batches alone and inside ``diagnose``,
in turn, on one thread: the 300 samples that a report takes for enough, or as many as fit in the time. All that happens
once is included. A ratio of CPU times is the median over the rounds. Batches of 16, and of 2, which are small enough
that what each call costs in Python shows. Results: ``watch.json``, ``watch.md``.
"""

from __future__ import annotations

import argparse
import gc
import math
import pathlib
import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

import leakyrelu
from benchmarks import machine, storage
from benchmarks.storage import Timing
from benchmarks.zoo.networks import chosen
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


def measure(name: str, network: Network, size: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Time the forward pass and ``diagnose`` over as many batches as take so many seconds, two at least."""
    model, batch = network.make(), network.batch(size)

    def forward(count: int) -> None:
        with torch.no_grad():
            for _ in range(count):
                model(**batch) if isinstance(batch, dict) else model(batch)

    forward(1)
    start = time.perf_counter()
    forward(1)
    # As many samples as a report takes for enough, or what fits in the time.
    count = min(math.ceil(ENOUGH / size), max(2, round(seconds / (time.perf_counter() - start))))
    times = compare(lambda: forward(count), lambda: diagnose(model, [batch] * count), rounds)
    report = diagnose(model, batch)
    return {"network": name, "batch": size, "count": count, "rows": len(report.layers), **times}


def summary(results: dict[str, Any]) -> dict[int, tuple[float, float]]:
    """Median and 90th percentile of the ratios over all networks, by batch size."""
    found = {}
    for size in sorted({row["batch"] for row in results["measured"]}, reverse=True):
        ratios = [row["ratio"].median for row in results["measured"] if row["batch"] == size]
        highest = statistics.quantiles(ratios, n=10, method="inclusive")[-1] if len(ratios) > 1 else ratios[0]
        found[size] = statistics.median(ratios), highest
    return found


def render(results: dict[str, Any]) -> str:
    """Lay the figures out as a Markdown table."""
    host = results["machine"]
    lines = [
        "# What diagnose costs on networks that others wrote",
        "",
        f"{host['processor']}, PyTorch {host['packages']['torch']}, {host['system']}; commit {host['commit']}; "
        f"`{host['command']}`. A ratio is the CPU time, on one thread, of `diagnose` "
        "over several batches over that of the forward pass over the same, the median over rounds in which both "
        "took turns.",
        "",
        "| batch | networks | median ratio | at most | 90th percentile | at most |",
        "|---|---|---|---|---|---|",
    ]
    for size, (median, highest) in summary(results).items():
        count = sum(row["batch"] == size for row in results["measured"])
        limits = [f"{limit}" if limit else "" for limit in LIMITS.get(size, (None, None))]
        lines.append(f"| {size} | {count} | {median:.3f} | {limits[0]} | {highest:.3f} | {limits[1]} |")
    lines += ["", "| network | rows | batch | plain (ms) | ratio |", "|---|---|---|---|---|"]
    for row in sorted(results["measured"], key=lambda row: (-row["batch"], row["network"])):
        lines.append(
            f"| {row['network']} | {row['rows']} | {row['batch']} "
            f"| {1e3 * row['plain_seconds'] / row['count']:.1f} | {row['ratio'].median:.3f} |"
        )
    return "\n".join([*lines, ""])


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Name and text of each figure that the docs quote."""
    found = {"watch, networks": str(len({row["network"] for row in results["measured"]}))}
    for size, (median, highest) in summary(results).items():
        found |= {f"watch, median, {size}": f"{median:.2f}", f"watch, 90 %, {size}": f"{highest:.2f}"}
    return found


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks watch", description=__doc__)
    parser.add_argument("words", nargs="*", help="networks whose name contains one of these (default: all)")
    parser.add_argument("--every", type=int, default=1, help="one network in so many")
    parser.add_argument("--batch", default="16,2", help="batch sizes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.7, help="about how long the forward passes of a round take")
    parser.add_argument("--print-only", action="store_true", help="store nothing")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results (default: by the machine's name)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    leakyrelu.set_num_threads(1)
    measured = []
    for name, network in list(chosen(options.words).items())[:: options.every]:
        for size in (int(text) for text in options.batch.split(",")):
            try:
                row = measure(name, network, size, options.rounds, options.seconds)
            except Exception as error:  # the library's code may raise anything, and the others are to be measured
                print(f"{name}, batch of {size}: {type(error).__name__}: {error}".splitlines()[0], flush=True)
                continue
            ratio: Timing = row["ratio"]
            print(f"{name}, batch of {size}: {row['rows']} rows, {ratio.median:.3f}", flush=True)
            measured.append(row)
            gc.collect()
    results = {"machine": machine.describe(), "measured": measured}
    print(render(results).partition("| network |")[0])
    if options.print_only:
        return
    folder = options.save or storage.RESULTS / machine.name()
    storage.save(results, folder / "watch.json")
    (folder / "watch.md").write_text(render(results))
    print(f"stored in {folder}")
