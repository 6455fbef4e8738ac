"""``python -m benchmarks units``: whether the units of networks that others wrote are read along the right axis.

Each network (of ``benchmarks.zoo``, installed by ``make zoo-env``) runs once. An oracle that reads nothing of this
package finds which layer feeds each rectifier and along which axis, by changing the layer's channels one at a time;
then dead channels are planted in those layers, and the report of ``diagnose`` is compared with what the oracle
measures. Results: ``units.json`` and ``units.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import pathlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import machine, storage
from benchmarks.units.comparison import Verdict, compare
from benchmarks.units.oracle import Oracle, scatter
from benchmarks.zoo.networks import chosen, library
from leakyrelu.torch import NoRectifierError, diagnose

if TYPE_CHECKING:
    from benchmarks.zoo.network import Network

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


def judge(network: Network, size: int = 2) -> Verdict:
    """Plant dead channels in a network, and compare its report with the oracle."""
    model, batch = network.make(), network.batch(size)
    scatter(model, torch.Generator().manual_seed(2))

    def run() -> object:
        return model(**batch) if isinstance(batch, dict) else model(batch)

    oracle = Oracle(model, run)
    oracle.find_feeders()
    oracle.plant()
    try:
        report = diagnose(model, batch)
    except NoRectifierError:
        return Verdict(calls=len(oracle.calls), uncounted=len(oracle.calls))
    return compare(report, oracle.calls)


def _numbers(verdict: dict[str, Any]) -> str:
    return " | ".join(str(verdict[name]) for name in COLUMNS)


def render(results: dict[str, Any]) -> str:
    """Lay the verdicts out as a Markdown table: the sum of each library, then each network."""
    host = results["machine"]
    measured = results["measured"]
    head = " | ".join(COLUMNS.values())
    lines = [
        "# The unit axis on networks that others wrote",
        "",
        f"PyTorch {host['packages']['torch']}; commit {host['commit']}; `{host['command']}`. Random weights, dead "
        "channels planted in every layer that feeds a rectifier and has a bias; the oracle finds layer and axis by "
        "changing one channel at a time. Silent units are counted along the axes of the oracle.",
        "",
        f"| library | networks | {head} |",
        "|---" * (2 + len(COLUMNS)) + "|",
    ]
    counts = Counter(library(row["network"]) for row in measured)
    for name in [*counts, "all"]:
        rows = [row for row in measured if name in ("all", library(row["network"]))]
        total = {column: sum(row[column] for row in rows) for column in COLUMNS}
        lines.append(f"| {name} | {len(rows)} | {_numbers(total)} |")
    lines += ["", f"| network | {head} |", "|---" * (1 + len(COLUMNS)) + "|"]
    lines += [f"| {row['network']} | {_numbers(row)} |" for row in measured]
    remarks = [f"- {row['network']}: {remark}" for row in measured for remark in row["remarks"]]
    return "\n".join([*lines, "", *(["## What is not as the oracle has it", "", *remarks, ""] if remarks else [])])


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Name and text of each figure that the docs quote."""
    measured = results["measured"]
    found = {f"units, {column}": f"{sum(row[column] for row in measured):,}" for column in COLUMNS}
    libraries = {library(row["network"]) for row in measured}
    return found | {"units, networks": str(len(measured)), "units, libraries": str(len(libraries))}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks units", description=__doc__)
    parser.add_argument("words", nargs="*", help="networks whose name contains one of these (default: all)")
    parser.add_argument("--print-only", action="store_true", help="store nothing")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results (default: by the machine's name)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    measured = []
    for name, network in chosen(options.words).items():
        start = time.perf_counter()
        try:
            verdict = judge(network)
        except Exception as error:  # the library's code may raise anything, and the others are to be judged
            print(f"{name}: {type(error).__name__}: {error}".splitlines()[0], flush=True)
            continue
        row = {"network": name, **dataclasses.asdict(verdict)}
        row["remarks"], hidden = row["remarks"][:4], len(row["remarks"]) - 4
        row["remarks"] += [f"and {hidden} more"] if hidden > 0 else []
        shown = ", ".join(f"{text} {row[column]}" for column, text in COLUMNS.items() if row[column])
        print(f"{name} ({time.perf_counter() - start:.0f} s): {shown}", flush=True)
        for remark in row["remarks"]:
            print(f"    {remark}", flush=True)
        measured.append(row)
        gc.collect()
    results = {"machine": machine.describe(), "measured": measured}
    if options.print_only:
        return
    folder = options.save or storage.RESULTS / machine.name()
    storage.save(results, folder / "units.json")
    (folder / "units.md").write_text(render(results))
    print(f"stored in {folder}")
