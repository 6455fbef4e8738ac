"""``python -m benchmarks pairs``: what ``save_memory`` joins in networks that others wrote, and what it changes.

In each network (of ``benchmarks.zoo``, installed by ``make zoo-env``) ReLUs become Leaky ReLUs of slope 0.01. An oracle
that reads nothing of this package finds the normalizations whose output goes to one Leaky ReLU and nowhere else; then
``save_memory`` runs with a batch as example. Compared are the bytes that autograd keeps in training, and in float64
outputs, gradients and running statistics, with a copy of the network. Results, saved after each network: ``pairs.json``
and ``pairs.md``.
"""

from __future__ import annotations

import argparse
import copy
import functools
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.pairs.comparison import differences, run, time_steps
from benchmarks.pairs.oracle import joinable, kept
from benchmarks.units.table import add_arguments, collect, commits, failures, folder
from benchmarks.zoo.networks import chosen, library
from leakyrelu.torch import replace_relu, save_memory

if TYPE_CHECKING:
    from benchmarks.zoo.network import Network

SLOPE = 0.01


def measure(network: Network, size: int, rounds: int = 0) -> dict[str, Any]:
    """Join the pairs of a network, and count what was there, what was joined and what it changed."""
    model, batch = network.make().train(), network.batch(size)
    replace_relu(model, SLOPE)
    before = copy.deepcopy(model)
    trial = copy.deepcopy(model)  # whose running statistics the oracle changes
    called, pairs = joinable(trial, lambda: run(trial, batch))
    torch.manual_seed(3)
    saving = save_memory(model, batch)
    joined, reasons = {name for name, _ in saving.joined}, dict(saving.left)
    left = Counter(reasons.get(name, "not reported") for name in sorted(pairs - joined))
    row = {
        "batch": size,
        "normalizations": len(called),
        "joinable": len(pairs),
        "joined": len(pairs & joined),
        "others_joined": len(joined - pairs),
        "swapped": len(saving.swapped),
        "left": dict(left.most_common()),
        "left_names": sorted(pairs - joined)[:_NAMES],
    }
    for key, each in (("bytes_before", before), ("bytes_after", model)):
        each = copy.deepcopy(each)
        row[key] = kept(each, batch, functools.partial(run, each, batch))
    if rounds:
        row |= time_steps(copy.deepcopy(model), copy.deepcopy(before), batch, rounds)
    row["difference"] = differences(model.double(), before.double(), _double(batch))
    return row


_BATCH = 2
_NAMES = 5  # of what was not joined, which a row keeps


def _double(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {key: _double(each) for key, each in batch.items()}
    return batch.double() if batch.is_floating_point() else batch


def _work(size: int, rounds: int, name: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    return measure(chosen([name])[name], size, rounds)


def _share(row: dict[str, Any]) -> float:
    return float(row["bytes_after"] / row["bytes_before"]) if row["bytes_before"] else 1.0


def _difference(row: dict[str, Any]) -> float:
    return max(row["difference"].values(), default=0.0)


def _reasons(rows: list[dict[str, Any]]) -> str:
    reasons = sum((Counter(row["left"]) for row in rows), Counter[str]())
    return "; ".join(f"{count}: {_cell(reason)}" for reason, count in reasons.most_common())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _sum(rows: list[dict[str, Any]], key: str) -> int:
    return sum(int(row[key]) for row in rows)


def by_library(networks: dict[str, dict[str, Any]]) -> list[str]:
    """Lay the rows out as a Markdown table of a line for each library."""
    lines = [
        "| library | networks | joinable | joined | | bytes, median | bytes, most | difference | not joined, and why |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, row in sorted(networks.items()):
        groups.setdefault(library(name), []).append(row)
    for name, rows in [*groups.items(), ("all", list(networks.values()))]:
        if rows:
            wanted, joined, shares = _sum(rows, "joinable"), _sum(rows, "joined"), [*map(_share, rows)]
            lines.append(
                f"| {name} | {len(rows)} | {wanted} | {joined} | {_percentage(joined, wanted)} "
                f"| {statistics.median(shares):.3f} | {max(shares):.3f} | {max(map(_difference, rows)):.0e} "
                f"| {_reasons(rows) if name != 'all' else wanted - joined} |"
            )
    return lines


def render(results: dict[str, Any]) -> str:
    """Lay the rows out as Markdown tables: each library, then each network."""
    host, networks = results["machine"], dict(sorted(results["networks"].items()))
    lines = [
        "# Pairs of normalization and Leaky ReLU in networks that others wrote",
        "",
        f"PyTorch {host['packages']['torch']}; {commits(results)}; `make bench-zoo`. Random weights, ReLUs replaced by "
        f"Leaky ReLUs of slope {SLOPE}, in training. Joinable is a normalization whose output goes to one Leaky ReLU "
        "and nowhere else, as an oracle reads it off the operators. Bytes are what autograd keeps in float32, each "
        "storage once, without input and parameters: after `save_memory(model, example)`, of what it was before. The "
        "difference is the largest of any output, gradient (of inputs, of parameters) or running statistic in "
        "float64, relative to the largest value of its kind, in training and in evaluation. The batch has "
        f"{_BATCH} samples unless the network's name says otherwise.",
        "",
        *by_library(networks),
    ]
    is_timed = any("ratio" in row for row in networks.values())
    lines += [
        "",
        f"| network | norms | joinable | joined | MiB | bytes |{' step |' if is_timed else ''} difference "
        "| not joined, and why |",
        "|---|---:|---:|---:|---:|---:|---:|---|" + ("---|" if is_timed else ""),
    ]
    for name, row in networks.items():
        step = f" {row['ratio'].median:.2f} |" if "ratio" in row else " |"
        lines.append(
            f"| {name}{_size(row)} | {row['normalizations']} | {row['joinable']} | {row['joined']} "
            f"| {row['bytes_before'] / 2**20:.1f} | {_share(row):.3f} |{step if is_timed else ''} "
            f"{_difference(row):.0e} | {_reasons([row])} |"
        )
    return "\n".join([*lines, *failures(results), ""])


def _size(row: dict[str, Any]) -> str:
    size = row.get("batch", _BATCH)
    return "" if size == _BATCH else f", batch of {size}"


def _percentage(part: int, whole: int) -> str:
    # Rounded down: only all of them are 100 %.
    return f"{1000 * part // whole / 10:.1f}%" if whole else ""


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Name and text of each figure that the docs quote."""
    rows = list(results["networks"].values())
    wanted, joined = _sum(rows, "joinable"), _sum(rows, "joined")
    with_pairs = [_share(row) for row in rows if row["joinable"]] or [1.0]
    return {
        "pairs, by library": "\n".join(by_library(results["networks"])),
        "pairs, networks": str(len(rows)),
        "pairs, libraries": str(len({library(name) for name in results["networks"]})),
        "pairs, joinable": f"{wanted:,}",
        "pairs, joined": _percentage(joined, wanted),
        "pairs, bytes, median": f"{statistics.median(with_pairs):.2f}",
        "pairs, bytes, most": f"{max(map(_share, rows), default=1.0):.3f}",
        "pairs, difference": f"{max(map(_difference, rows), default=0.0):.0e}",
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks pairs", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--batch", type=int, default=_BATCH, help="size of the batch (default: %(default)s)")
    parser.add_argument("--time", type=int, default=0, metavar="ROUNDS", help="time so many training steps, too")
    options = parser.parse_args(arguments)
    path = folder(options) / "pairs.json"
    results = collect(path, functools.partial(_work, options.batch, options.time), options)
    path.with_suffix(".md").write_text(render(results), encoding="utf-8")
    print(f"stored in {path.parent}")
