"""``python -m benchmarks slope``: similarity of unrelated inputs at every activation of networks at initialization.

Networks whose weights are drawn in `benchmarks.slope.networks` (libraries of some are installed
by ``make zoo-env``) run independent Gaussian inputs under two slopes. Results, saved after each network:
``slope.json`` and ``slope.md``.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch

from benchmarks.slope.measured import measured
from benchmarks.slope.networks import NETWORKS
from benchmarks.slope.predicted import predicted
from benchmarks.units.table import add_arguments, collect, commits, failures, folder
from benchmarks.zoo.networks import chosen

SLOPES = (0.01, 0.3)
_INITS = 16


def study(inits: int, name: str) -> dict[str, Any]:
    """Measure a network under each slope, and predict the same."""
    torch.set_num_threads(1)
    row: dict[str, Any] = {"inits": inits, "bound": NETWORKS[name].bound, "slopes": {}}
    for slope in SLOPES:
        found = measured(name, slope, inits)
        row["activations"] = [each.activation for each in found]
        row["slopes"][str(slope)] = {
            "measured": [round(each.mean, _DIGITS) for each in found],
            "standard_error": [round(each.standard_error, _DIGITS) for each in found],
            "predicted": [round(each, _DIGITS) for each in predicted(name, slope)],
        }
    return row


_DIGITS = 5


def worst(row: dict[str, Any], slope: str) -> tuple[float, str]:
    """Return the largest difference of a predicted from a measured similarity, and the activation that has it."""
    under = row["slopes"][slope]
    apart = [abs(one - other) for one, other in zip(under["predicted"], under["measured"], strict=True)]
    return max(zip(apart, row["activations"], strict=True))


def render(results: dict[str, Any]) -> str:
    """Lay the rows out as a Markdown table: a line for each network and slope."""
    host = results["machine"]
    lines = [
        "# Similarity of unrelated inputs at initialization",
        "",
        f"PyTorch {host['packages']['torch']}; {commits(results)}; `make bench-slope`. Normal weights with the gain of "
        "the slope behind an activation, zero biases, independent Gaussian inputs; normalizations as in training. "
        "Measured is E<u, v> / E|u||v| over pairs of samples and initializations, of the whole output of an "
        "activation, with its standard error. The worst difference is that of a prediction from it, at any activation.",
        "",
        "| network | inits | activations | slope | measured, last | predicted | worst difference | at | at most |",
        "|---|---:|---:|---:|---:|---:|---:|---|---:|",
    ]
    for name in (each for each in NETWORKS if each in results["networks"]):
        row = results["networks"][name]
        for slope, under in row["slopes"].items():
            last = f"{under['measured'][-1]:.3f} ± {under['standard_error'][-1]:.3f}"
            apart, where = worst(row, slope)
            bound = "" if row["bound"] is None else f"{row['bound']:g}"
            lines.append(
                f"| {name} | {row['inits']} | {len(row['activations'])} | {slope} | {last} "
                f"| {under['predicted'][-1]:.3f} | {apart:.3f} | {where} | {bound} |"
            )
    return "\n".join([*lines, *failures(results), ""])


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Name and text of each figure that the docs quote."""
    last = {
        f"slope, {kind}, {name}, {slope}": f"{under[kind][-1]:.3f}"
        for name, row in results["networks"].items()
        for slope, under in row["slopes"].items()
        for kind in ("measured", "predicted")
    }
    apart = {
        f"slope, apart, {name}": f"{max(worst(row, slope)[0] for slope in row['slopes']):.3f}"
        for name, row in results["networks"].items()
    }
    return last | apart | {"slope, table": "\n".join(_short_table(results))}


def _short_table(results: dict[str, Any]) -> list[str]:
    lines = ["| network | last activation, predicted / measured at 0.3 | worst difference |", "|---|---|---:|"]
    for name in (each for each in NETWORKS if each in results["networks"]):
        row = results["networks"][name]
        under = row["slopes"]["0.3"]
        apart = max(worst(row, slope)[0] for slope in row["slopes"])
        lines.append(f"| {name} | {under['predicted'][-1]:.3f} / {under['measured'][-1]:.3f} | {apart:.3f} |")
    return lines


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks slope", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--inits", type=int, default=_INITS, help="initializations (default: %(default)s)")
    options = parser.parse_args(arguments)
    path = folder(options) / "slope.json"
    results = collect(path, partial(study, options.inits), options, partial(chosen, among=NETWORKS))
    path.with_suffix(".md").write_text(render(results), encoding="utf-8")
    print(render(results))
