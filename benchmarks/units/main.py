"""``python -m benchmarks units``: whether the units of networks that others wrote are read along the right axis.

Each network (of ``benchmarks.zoo``, installed by ``make zoo-env``) runs once. An oracle that reads nothing of this
package finds which layer feeds each rectifier and along which axis, by changing the layer's channels one at a time;
then dead channels are planted in those layers, and the report of ``diagnose`` is compared with what the oracle
measures. Last, the silent units are revived: counted are those that fire afterwards on the same data, and that the
outputs are what they were is measured. Results: ``units.json``, and the tables ``units.md`` and ``revive.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import Counter
from typing import Any

import torch

from benchmarks.units import revival
from benchmarks.units.comparison import Verdict, compare
from benchmarks.units.planting import plant
from benchmarks.units.revival import revived
from benchmarks.units.table import add_arguments, collect, commits, failures, folder
from benchmarks.zoo.networks import NETWORKS, library
from leakyrelu.torch import NoRectifierError, diagnose

COLUMNS = {
    "calls": "calls",
    "rows": "rows",
    "right": "axis right",
    "wrong": "axis wrong",
    "assumed": "assumed",
    "assumed_right": "of these right",
    "open": "no layer feeds",
    "uncounted": "calls not counted",
    "unmatched": "rows of no call",
    "planted": "silent units",
    "found": "found",
    "named": "named by an alternative",
}


def judge(name: str) -> dict[str, Any]:
    """Plant dead channels in a network, compare its report with the oracle, and revive what is silent.

    In float64, so that a change of the outputs by reviving shows; networks that cast to float32 run in that.
    """
    torch.set_num_threads(1)
    start = time.perf_counter()
    model, batch, larger, oracle = plant(name, NETWORKS[name])
    try:
        verdict = dataclasses.asdict(compare(diagnose(model, batch), oracle.calls))
    except NoRectifierError:
        verdict = dataclasses.asdict(Verdict(calls=len(oracle.calls), uncounted=len(oracle.calls)))
    hidden = len(verdict["remarks"]) - 4
    verdict["remarks"][4:] = [f"and {hidden} more"] if hidden > 0 else []
    outcome = dataclasses.asdict(revived(model, larger)) if verdict["rows"] else {}
    precision = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.is_floating_point()}
    seconds = round(time.perf_counter() - start, 1)
    return {"precision": ", ".join(sorted(precision)), "seconds": seconds, "units": verdict, "revival": outcome}


def _numbers(verdict: dict[str, Any]) -> str:
    return " | ".join(str(verdict[name]) for name in COLUMNS)


def render(results: dict[str, Any]) -> str:
    """Lay the verdicts out as a Markdown table: the sum of each library, then each network."""
    host = results["machine"]
    measured = {name: row["units"] for name, row in results["networks"].items()}
    head = " | ".join(COLUMNS.values())
    lines = [
        "# The unit axis on networks that others wrote",
        "",
        f"`python -m benchmarks units`, PyTorch {host['packages']['torch']}; {commits(results)}. Random weights, dead "
        "channels planted in every layer that feeds a rectifier and has a bias; the oracle finds layer and axis by "
        "changing one channel at a time. Silent units are counted along the axes of the oracle.",
        "",
        f"| library | networks | {head} |",
        "|---" * (2 + len(COLUMNS)) + "|",
    ]
    counts = Counter(library(name) for name in measured)
    for each in [*sorted(counts), "all"]:
        rows = [row for name, row in measured.items() if each in ("all", library(name))]
        total = {column: sum(row[column] for row in rows) for column in COLUMNS}
        lines.append(f"| {each} | {len(rows)} | {_numbers(total)} |")
    lines += ["", f"| network | {head} |", "|---" * (1 + len(COLUMNS)) + "|"]
    lines += [f"| {name} | {_numbers(row)} |" for name, row in sorted(measured.items())]
    remarks = [f"- {name}: {remark}" for name, row in sorted(measured.items()) for remark in row["remarks"]]
    lines += ["", "## What is not as the oracle has it", "", *remarks] if remarks else []
    return "\n".join([*lines, *failures(results), ""])


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Name and text of each figure that the docs quote."""
    measured = [row["units"] for row in results["networks"].values()]
    found = {f"units, {column}": f"{sum(row[column] for row in measured):,}" for column in COLUMNS}
    libraries = {library(name) for name in results["networks"]}
    return found | {"units, networks": str(len(measured)), "units, libraries": str(len(libraries))}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks units", description=__doc__)
    add_arguments(parser)
    options = parser.parse_args(arguments)
    results = collect(folder(options) / "units.json", judge, options)
    (folder(options) / "units.md").write_text(render(results))
    (folder(options) / "revive.md").write_text(revival.render(results))
