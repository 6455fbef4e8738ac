"""The results in training as tables for people, the project's own targets, and the figures of the docs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine_table
from benchmarks.training.measurement import median
from benchmarks.training.single_layer import WORK

if TYPE_CHECKING:
    from benchmarks.training.measurement import Measurement

OURS = "leakyrelu"
IN_PLACE = "PyTorch in place"
ORDER = ("chain", "U-Net", "MLP", WORK)
NETWORKS = ORDER[:-1]


def _by(measured: list[Measurement], key: str) -> dict[str, list[Measurement]]:
    ordered = sorted(measured, key=lambda row: list(dict.fromkeys(each[key] for each in measured)).index(row[key]))  # type: ignore[literal-required]
    return {name: list(group) for name, group in itertools.groupby(ordered, key=lambda row: row[key])}  # type: ignore[literal-required]


def works(measured: list[Measurement], start: str | tuple[str, ...]) -> dict[str, list[Measurement]]:
    """Measurements of every work whose name starts so, in the order of the tables."""
    found = {work: group for work, group in _by(measured, "work").items() if work.startswith(start)}
    return dict(
        sorted(found.items(), key=lambda pair: next(i for i, name in enumerate(ORDER) if pair[0].startswith(name)))
    )


def _quartiles(row: Measurement, scale: float) -> str:
    return row["seconds"].quartiles(scale, 1) if row["seconds"] else ""


def power(size: str) -> int:
    return int(size.removeprefix("2^"))


def layer_ratios(measured: list[Measurement]) -> list[tuple[int, str, float]]:
    """(power, candidate, time as a multiple of ours), of one work."""
    found = []
    for size, here in _by(measured, "size").items():
        ours = median(next(row for row in here if row["name"] == OURS))
        found += [(power(size), row["name"], median(row) / ours) for row in here]
    return sorted(found)


def against_pytorch(measured: list[Measurement]) -> tuple[dict[str, float], dict[str, float]]:
    """Compare with PyTorch's layer: times as fast from 2^22 on, and time as a multiple of its up to 2^20."""
    eager = {n: value for n, name, value in layer_ratios(measured) if name == "PyTorch"}
    large = {f"2^{n}": value for n, value in eager.items() if n >= 22}
    return large, {f"2^{n}": 1 / value for n, value in eager.items() if n <= 20}


def layer_table(work: str, measured: list[Measurement]) -> list[str]:
    names = [name for name in _by(measured, "name") if name != OURS]
    lines = [
        f"### {work}",
        "",
        f"| elements | {OURS}, us | quartiles | bytes kept, of the input | "
        + " | ".join(f"{name}: time | bytes" for name in names)
        + " |",
        "|---" * (4 + 2 * len(names)) + "|",
    ]
    width = 4 if "float32" in work else 2
    for size, here in sorted(_by(measured, "size").items(), key=lambda pair: power(pair[0])):
        found = {row["name"]: row for row in here}
        ours, input_bytes = found[OURS], 2 ** power(size) * width

        def share(row: Measurement, input_bytes: int = input_bytes) -> str:
            return "" if row["bytes"] is None else f"{row['bytes'] / input_bytes:.4g}"

        cells = [f"{median(ours) * 1e6:.1f}", _quartiles(ours, 1e6), share(ours)]
        for name in names:
            row = found.get(name)
            cells += [f"{median(row) / median(ours):.2f}x", share(row)] if row else ["", ""]
        lines.append(f"| {size} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def networks_table(measured: list[Measurement]) -> list[str]:
    lines = [
        "### Networks",
        "",
        "| network | input | | MiB kept | of in place | step, ms | quartiles | of in place |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for work, here in works(measured, NETWORKS).items():
        base = next(row for row in here if row["name"] == IN_PLACE)
        for row in here:
            start = f"| {work} | {row['size']} | {row['name']} |"
            if row["seconds"] is None:
                lines.append(f"{start} {row['note']} | | | | |")
                continue
            kept = row["bytes"] or 0
            lines.append(
                f"{start} {kept / 2**20:.1f} | {kept / (base['bytes'] or 1):.3f} | {median(row) * 1e3:.1f} "
                f"| {_quartiles(row, 1e3)} | {median(row) / median(base):.2f} |"
            )
    return [*lines, ""]


def targets_table(results: dict[str, Any]) -> list[str]:
    measured: list[Measurement] = results["measured"]
    lines = ["### Targets", "", "| work | target | measured | met |", "|---|---|---|---|"]

    def add(work: str, target: str, found: dict[str, float], holds: Any, digits: int = 2) -> None:
        if found:
            missed = [name for name, value in found.items() if not holds(value)]
            text = f"{min(found.values()):.{digits}f} to {max(found.values()):.{digits}f}"
            lines.append(f"| {work} | {target} | {text} | {'at ' + ', '.join(missed) + ' not' if missed else 'yes'} |")

    for work, here in works(measured, WORK).items():
        large, small = against_pytorch(here)
        if "fresh" in work:
            add(f"{work}, 2^22 and more", "2 times as fast as PyTorch", large, lambda value: value >= 2)
        add(f"{work}, to 2^20", "at most 1.1 times PyTorch's time", small, lambda value: value <= 1.1)
        width = 4 if "float32" in work else 2
        kept = {
            row["size"]: ((row["bytes"] or 0) - 64) / (2 ** power(row["size"]) * width)
            for row in here
            if row["name"] == OURS and 2 ** power(row["size"]) * width >= 2**20
        }
        if "fresh" in work:
            add(
                f"{work}, 1 MiB and more: bytes kept, of the input",
                f"1/{8 * width} + 64 bytes",
                kept,
                lambda value, width=width: value <= 1 / (8 * width),
                4,
            )
    for work, here in works(measured, NETWORKS).items():
        found = {row["name"]: row for row in here if row["seconds"]}
        base, ours = found[IN_PLACE], found[OURS]
        if not work.startswith("MLP"):
            most = 0.62 if work.startswith("U-Net") else 0.55
            kept = {work: (ours["bytes"] or 0) / (base["bytes"] or 1)}
            add(f"{work}: bytes, of in place", f"at most {most}", kept, lambda value, most=most: value <= most, 3)
        for peer in (IN_PLACE, "PyTorch"):
            add(
                f"{work}: step, of {peer}",
                "no slower",
                {work: median(ours) / median(found[peer])},
                lambda value: value <= 1,
            )
    for dtype, most in (("float32", 1e-5), ("float64", 1e-10)):
        if dtype in results["losses"]:
            difference = results["losses"][dtype]
            met = "yes" if difference <= most else "no"
            lines.append(
                f"| twenty training steps of the U-Net, {dtype}: losses, relative difference | at most {most:g} "
                f"| {difference:.1e} | {met} |"
            )
    return [*lines, ""]


def render(results: dict[str, Any]) -> str:
    measured: list[Measurement] = results["measured"]
    lines = [
        "# Benchmark of training",
        "",
        "Forward plus backward. Medians of interleaved rounds, and their quartiles. Of a single layer, times are",
        "multiples of ours (2.00x took twice as long), and bytes are shares of the input. The time that torch.compile",
        "takes to compile is not counted; under it, layers of ours become PyTorch's, with PyTorch's memory.",
        "",
        *targets_table(results),
    ]
    if works(measured, NETWORKS):
        lines += networks_table(measured)
    for work, here in works(measured, WORK).items():
        lines += layer_table(work, here)
    return "\n".join([*lines, *machine_table(results["machine"]), ""])


def _range(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Name and text of each figure that README and docs quote."""
    measured: list[Measurement] = results["measured"]
    kept, steps = [], []
    for here in works(measured, NETWORKS).values():
        found = {row["name"]: row for row in here}
        kept.append((found[OURS]["bytes"] or 0) / (found[IN_PLACE]["bytes"] or 1))
        steps.append(median(found[OURS]) / median(found[IN_PLACE]))
    layers = {work: against_pytorch(here) for work, here in works(measured, WORK).items()}
    return {
        "training, bytes": _range(kept),
        "training, time": _range(steps),
        "training, networks": "\n".join(networks_table(measured)[2:-1]),
        "training, losses in float32": f"{results['losses']['float32']:.1e}",
        "training, losses in float64": f"{results['losses']['float64']:.1e}",
        "layer, large": _range([value for work in layers if "fresh" in work for value in layers[work][0].values()]),
        "layer, small": _range([value for _, small in layers.values() for value in small.values()]),
    }
