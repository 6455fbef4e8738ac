"""``python -m benchmarks revive``: how many silent units of networks that others wrote are revived.

Each network (of ``benchmarks.zoo``, installed by ``make zoo-env``) runs once, in float64. Dead channels are planted in
every layer that feeds a rectifier, as in ``python -m benchmarks units``: an oracle that reads nothing of this package
finds these layers. Then the silent units are revived. Counted are those that fire afterwards on the same data; that
the outputs are what they were is measured. Results: ``revive.json`` and ``revive.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import pathlib
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks import machine, storage
from benchmarks.units.oracle import Oracle, scatter
from benchmarks.zoo.networks import chosen, library
from leakyrelu.torch import diagnose, revive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.zoo.network import Network


@dataclasses.dataclass
class Outcome:
    """What became of the silent units of one network, or of several together."""

    silent: int = 0
    revived: int = 0
    firing: int = 0  # of the revived
    flipped: int = 0
    difference: float = 0.0
    seconds: float = 0.0
    left: dict[str, int] = dataclasses.field(default_factory=dict)  # by reason, without names

    def __iadd__(self, other: Outcome) -> Outcome:
        for name in ("silent", "revived", "firing", "flipped", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.difference = max(self.difference, other.difference)
        self.left = dict(Counter(self.left) + Counter(other.left))
        return self


KINDS = {
    "a sum with": "their output goes into a sum of branches",
    "out of a sum": "they come out of a sum of branches",
    "network's output": "they are the network's output",
    "statistics are of several": "a normalization of several units together",
    "other consumers": "what makes them has other consumers",
    "used in several": "a layer is used in several places",
    "computed by": "weights that are computed",
    "parametrized": "weights that are computed",
    "take them together": "pooled along the units",
    "takes them together": "pooled along the units",
    "is added to their output": "a weight that is added behind them",
    "not linear": "a slope, and a maximum or the like in between",
}
"""Reasons by a part of their text."""


def plant(network: Network, samples: int = 2) -> tuple[Any, Any] | None:
    """Make a network in float64 with dead channels, and a batch for it; None where it has no rectifier.

    The oracle takes two samples, whatever the batch.
    """
    model, batch = network.make().double(), _double(network.batch(2))
    scatter(model, torch.Generator().manual_seed(2))
    oracle = Oracle(model, lambda: _run(model, batch))
    if not oracle.calls:
        return None
    oracle.find_feeders()
    oracle.plant()
    return model, _double(network.batch(samples))


def measure(model: Any, batch: Any) -> Outcome:
    """Revive the silent units of a network, and measure what became of them."""
    with torch.no_grad():
        before = list(_tensors(_run(model, batch)))
        report = diagnose(model, batch)
        start = time.perf_counter()
        done = revive(model, report)
        seconds = time.perf_counter() - start
        after = list(_tensors(_run(model, batch)))
        now = diagnose(model, batch)
    silent = {layer.name: set(layer.silent_units.tolist()) for layer in now.layers}
    left: Counter[str] = Counter()
    for _, units, reason in done.left:
        left[next((kind for part, kind in KINDS.items() if part in reason), reason)] += len(units)
    return Outcome(
        report.silent,
        done.units,
        sum(unit not in silent.get(name, ()) for name, units in done.revived.items() for unit in units),
        sum(map(len, done.flipped.values())),
        max((_difference(*pair) for pair in zip(before, after, strict=True)), default=0.0),
        seconds,
        dict(left),
    )


def _double(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _double(each) for key, each in value.items()}
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _run(model: Any, batch: Any) -> Any:
    with torch.no_grad():
        return model(**batch) if isinstance(batch, dict) else model(batch)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)


def _difference(before: Tensor, after: Tensor) -> float:
    if not before.is_floating_point():
        return float((before != after).any())
    scale = before.abs().max().clamp(min=torch.finfo(before.dtype).tiny)
    return float((before - after).abs().max() / scale)


COLUMNS = {"silent": "silent units", "revived": "revived", "firing": "of these fire", "flipped": "sign changed"}
IMPOSSIBLE = frozenset(
    {"their output goes into a sum of branches", "they come out of a sum of branches", "they are the network's output"}
    | {"a normalization of several units together", "what makes them has other consumers", "pooled along the units"}
    | {"a layer is used in several places", "weights that are computed"}
)
"""Reasons for which no weights can be found that leave the outputs as they are."""


def _share(outcome: Outcome) -> str:
    possible = outcome.silent - sum(count for kind, count in outcome.left.items() if kind in IMPOSSIBLE)
    return f"{outcome.revived / possible:.1%}" if possible else ""


def render(results: dict[str, Any]) -> str:
    """Lay the outcomes out as Markdown tables: the sum of each library, each network, and the reasons."""
    host = results["machine"]
    sums: dict[str, Outcome] = defaultdict(Outcome)
    for name, numbers in results["networks"].items():
        sums[library(name)] += Outcome(**numbers)
        sums["all"] += Outcome(**numbers)
    head = " | ".join(COLUMNS.values())
    lines = [
        "# Silent units of networks that others wrote, revived",
        "",
        f"PyTorch {host['packages']['torch']}; commit {host['commit']}; `{host['command']}`. Random weights in "
        f"float64, {results['samples']} samples of noise, dead channels planted in every layer that feeds a rectifier "
        "and has a bias. The share is of all units but those left for a reason named in `IMPOSSIBLE` of "
        "benchmarks/units/revival.py. The difference is the largest of any output, relative to the largest output.",
        "",
        f"| | {head} | share | largest difference |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    rows = [*sums.items(), *((name, Outcome(**numbers)) for name, numbers in results["networks"].items())]
    for name, each in rows:
        numbers = " | ".join(str(getattr(each, column)) for column in COLUMNS)
        lines.append(f"| {name} | {numbers} | {_share(each)} | {each.difference:.0e} |")
    lines += ["", "| left because | units |", "|---|---:|"]
    for kind, count in Counter(sums["all"].left).most_common():
        lines.append(f"| {kind} | {count} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Plant, revive and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks revive", description=__doc__)
    parser.add_argument("words", nargs="*", help="networks whose name contains one of these; all without")
    parser.add_argument("--samples", type=int, default=16, help="size of the batch (default: 16)")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop before the next network after so long")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results (default: by the machine's name)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    start = time.monotonic()
    for name, network in chosen(options.words).items():
        if options.minutes and time.monotonic() - start > 60 * options.minutes:
            break
        try:
            planted = plant(network, options.samples)
            if planted is None:
                continue
            found[name] = dataclasses.asdict(measure(*planted))
        except Exception as error:  # the library's code may raise anything, and the others are to be measured
            print(f"{name}: {type(error).__name__}: {error}".splitlines()[0], flush=True)
            continue
        print(name, found[name], flush=True)
        del planted
        gc.collect()
    results = {"machine": machine.describe(), "samples": options.samples, "networks": found}
    folder = options.save or storage.RESULTS / machine.name()
    storage.save(results, folder / "revive.json")
    (folder / "revive.md").write_text(render(results))
    print(f"stored in {folder}")
