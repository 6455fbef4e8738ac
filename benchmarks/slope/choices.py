"""``python -m benchmarks choices``: what `choose_slope` answers for networks that others wrote, and cannot read.

The networks are those of ``benchmarks.zoo`` (installed by ``make zoo-env``), in training, with random weights. Results,
saved after each network: ``choices.json`` and ``choices.md``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from benchmarks.units.table import add_arguments, collect, commits, failures, folder
from benchmarks.zoo.networks import chosen, library
from leakyrelu.torch import NoRectifierError, choose_slope

_BATCH = 4
_SHOWN = 3  # operations that a row names


def study(name: str) -> dict[str, Any]:
    """Choose the slope of a network."""
    torch.set_num_threads(1)
    network = chosen([name])[name]
    model, batch = network.make().train(), network.batch(_BATCH)
    start = time.perf_counter()
    try:
        choice = choose_slope(model, batch) if not isinstance(batch, dict) else choose_slope(_Keywords(model), batch)
    except NoRectifierError as error:
        return {"rectifiers": 0, "reason": str(error)}
    return {
        "rectifiers": len(choice.layers),
        "slope": choice.slope,
        "reason": choice.reason,
        "worst": choice.worst.similarity,
        "assumed": len(choice.assumed),
        "unknown": len(choice.unknown),
        "named": [text.partition(" in ")[0] for text in choice.unknown[:_SHOWN]],
        "seconds": time.perf_counter() - start,
    }


class _Keywords(torch.nn.Module):
    """A model called with a dict of keyword arguments as its only argument."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Any]) -> Any:
        return self.model(**batch)


def _counts(rows: list[dict[str, Any]]) -> tuple[int, int, int, int]:
    """Return how many have a rectifier; of these, with a slope, without, and with nothing unknown."""
    with_any = [row for row in rows if row["rectifiers"]]
    slopes = sum(row["slope"] is not None for row in with_any)
    return len(with_any), slopes, len(with_any) - slopes, sum(not row["unknown"] for row in with_any)


def by_library(networks: dict[str, dict[str, Any]]) -> list[str]:
    """Lay the rows out as a Markdown table of a line for each library."""
    lines = ["| library | networks with a ReLU | slope | none | nothing unknown |", "|---|---:|---:|---:|---:|"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, row in sorted(networks.items()):
        groups.setdefault(library(name), []).append(row)
    for name, rows in [*groups.items(), ("all", list(networks.values()))]:
        lines.append(f"| {name} | " + " | ".join(map(str, _counts(rows))) + " |")
    return lines


def render(results: dict[str, Any]) -> str:
    """Lay the rows out as Markdown tables."""
    host, networks = results["machine"], dict(sorted(results["networks"].items()))
    lines = [
        "# What choose_slope answers for networks that others wrote",
        "",
        f"PyTorch {host['packages']['torch']}; {commits(results)}; `make bench-slope`. Random weights, in training, a "
        f"batch of {_BATCH}, eta = 0.9. The last column names operations that could not be read.",
        "",
        *by_library(networks),
        "",
        "| network | activations | slope | worst part | assumed | unknown | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, row in networks.items():
        if row["rectifiers"]:
            slope = "none" if row["slope"] is None else f"{row['slope']:.3f}"
            lines.append(
                f"| {name} | {row['rectifiers']} | {slope} | {row['worst']:.3f} | {row['assumed']} | {row['unknown']} "
                f"| {', '.join(dict.fromkeys(row['named']))} |"
            )
    return "\n".join([*lines, *failures(results), ""])


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Name and text of each figure that the docs quote."""
    rows = [row for name, row in results["networks"].items() if library(name) == "timm"]
    in_timm, _, _, read = _counts(rows)
    every, slopes, none, all_read = _counts(list(results["networks"].values()))
    return {
        "choices, timm": str(in_timm),
        "choices, timm read": str(read),
        "choices, networks": str(every),
        "choices, read": str(all_read),
        "choices, slopes": str(slopes),
        "choices, none": str(none),
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks choices", description=__doc__)
    add_arguments(parser)
    options = parser.parse_args(arguments)
    path = folder(options) / "choices.json"
    results = collect(path, study, options)
    path.with_suffix(".md").write_text(render(results), encoding="utf-8")
    print(f"stored in {path.parent}")
