"""Silent units of a network, revived: how many, how many of them fire, and what it changes."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.units.planting import SAMPLES, run
from benchmarks.units.table import commits
from benchmarks.zoo.networks import library
from leakyrelu.torch import diagnose, revive

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    "standardized": "the next weights are standardized, and no unit is left to make up for it",
    "goes into matmul()": "no weights take them: a product with other data",
    "goes into bmm()": "no weights take them: a product with other data",
    "goes into mul()": "no weights take them: a gate",
    "goes into conv2d()": "no weights take them: those of the convolution are made of data",
    "goes into": "no weights take them: another function",
    "not out of a layer": "no layer makes them: they come out of another function",
    "come apart or together": "they are not the units of one layer",
    "draw them again": "a layer of a library, of which nothing is known about its initial weights",
    "not linear": "a slope, and a maximum or the like in between",
}
"""Reasons by a part of their text; the first that fits counts."""


def revived(model: Any, batch: Any) -> Outcome:
    """Revive the silent units of a network, and measure what became of them."""
    with torch.no_grad():
        before = list(_tensors(run(model, batch)))
        report = diagnose(model, batch)
        start = time.perf_counter()
        done = revive(model, report)
        seconds = time.perf_counter() - start
        after = list(_tensors(run(model, batch)))
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
    {"their output goes into a sum of branches", "they are the network's output"}
    | {"a normalization of several units together", "what makes them has other consumers", "pooled along the units"}
    | {"no weights take them: a product with other data", "no weights take them: a gate"}
    | {"no weights take them: those of the convolution are made of data", "no weights take them: another function"}
    | {"no layer makes them: they come out of another function", "a layer is used in several places"}
)
"""Reasons for which no weights can be found that leave the outputs as they are."""


def _share(outcome: Outcome) -> str:
    possible = outcome.silent - sum(count for kind, count in outcome.left.items() if kind in IMPOSSIBLE)
    return f"{outcome.revived / possible:.1%}" if possible else ""


def render(results: dict[str, Any]) -> str:
    """Lay the outcomes out as Markdown tables: the sum of each library, each network, and the reasons."""
    host = results["machine"]
    networks = {name: Outcome(**row["revival"]) for name, row in sorted(results["networks"].items()) if row["revival"]}
    sums: dict[str, Outcome] = {}
    for name, outcome in networks.items():
        for group in (library(name), "all"):
            sums.setdefault(group, Outcome())
            sums[group] += outcome
    head = " | ".join(COLUMNS.values())
    lines = [
        "# Silent units of networks that others wrote, revived",
        "",
        f"`python -m benchmarks units`, PyTorch {host['packages']['torch']}; {commits(results)}. Random weights in "
        f"float64 (float32 where a network casts to it), {SAMPLES} samples of noise, dead channels planted in every "
        "layer that feeds a rectifier and has a bias. The share is of all units but those left for a reason named in "
        "`IMPOSSIBLE` of benchmarks/units/revival.py. The difference is the largest of any output, relative to the "
        "largest output.",
        "",
        f"| | {head} | of all | share | largest difference |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, each in [*((key, sums[key]) for key in [*sorted({*sums} - {"all"}), "all"]), *networks.items()]:
        numbers = " | ".join(str(getattr(each, column)) for column in COLUMNS)
        of_all = f"{each.revived / each.silent:.1%}" if each.silent else ""
        lines.append(f"| {name} | {numbers} | {of_all} | {_share(each)} | {each.difference:.0e} |")
    lines += ["", "| left because | units | counts against the share |", "|---|---:|---|"]
    for kind, count in Counter(sums["all"].left).most_common():
        lines.append(f"| {kind} | {count} | {'' if kind in IMPOSSIBLE else 'yes'} |")
    return "\n".join([*lines, ""])


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Name and text of each figure that the docs quote."""
    total = Outcome()
    outcomes = [Outcome(**row["revival"]) for row in results["networks"].values() if row["revival"]]
    for outcome in outcomes:
        total += outcome
    found = {f"revive, {name}": f"{getattr(total, name):,}" for name in ("silent", "revived", "firing", "flipped")}
    found |= {"revive, networks": str(len(outcomes)), "revive, share": _share(total)}
    found["revive, of all"] = f"{total.revived / total.silent:.1%}"
    found["revive, firing share"] = f"{total.firing / total.revived:.0%}"
    return found
