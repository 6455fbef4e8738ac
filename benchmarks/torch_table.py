"""The results in training as tables for people, and the bars that the project sets itself."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from benchmarks.torch_rows import median, spread

if TYPE_CHECKING:
    from benchmarks.torch_rows import Row

OURS = "leakyrelu"
IN_PLACE = "PyTorch in place"
ORDER = ("chain", "U-Net", "MLP", "lone")


def _by(rows: list[Row], key: str) -> dict[str, list[Row]]:
    ordered = sorted(rows, key=lambda row: list(dict.fromkeys(each[key] for each in rows)).index(row[key]))  # type: ignore[literal-required]
    return {name: list(group) for name, group in itertools.groupby(ordered, key=lambda row: row[key])}  # type: ignore[literal-required]


def works(rows: list[Row], start: str) -> dict[str, list[Row]]:
    """Rows of every work whose name starts so (or, for "", of every network)."""
    found = {
        work: group
        for work, group in _by(rows, "work").items()
        if (work.startswith(start) if start else not work.startswith("lone"))
    }
    return dict(sorted(found.items(), key=lambda pair: ORDER.index(pair[0].split()[0].rstrip(","))))


def power(size: str) -> int:
    return int(size.removeprefix("2^"))


def lone_ratios(rows: list[Row]) -> list[tuple[int, str, float]]:
    """(power, contestant, time as a multiple of ours), of one work."""
    found = []
    for size, here in _by(rows, "size").items():
        ours = median(next(row for row in here if row["name"] == OURS))
        found += [(power(size), row["name"], median(row) / ours) for row in here]
    return sorted(found)


def lone_table(work: str, rows: list[Row]) -> list[str]:
    names = [name for name in _by(rows, "name") if name != OURS]
    lines = [
        f"### {work}",
        "",
        f"| elements | {OURS}, us | quartiles | bytes kept, of the input | "
        + " | ".join(f"{name}: time | bytes" for name in names)
        + " |",
        "|---" * (4 + 2 * len(names)) + "|",
    ]
    width = 4 if "float32" in work else 2
    for size, here in sorted(_by(rows, "size").items(), key=lambda pair: power(pair[0])):
        found = {row["name"]: row for row in here}
        ours, input_bytes = found[OURS], 2 ** power(size) * width
        first, third = spread(ours)

        def share(row: Row, input_bytes: int = input_bytes) -> str:
            return "" if row["bytes"] is None else f"{row['bytes'] / input_bytes:.4g}"

        cells = [f"{median(ours) * 1e6:.1f}", f"{first * 1e6:.1f} to {third * 1e6:.1f}", share(ours)]
        for name in names:
            row = found.get(name)
            cells += [f"{median(row) / median(ours):.2f}x", share(row)] if row else ["", ""]
        lines.append(f"| {size} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def networks_table(rows: list[Row]) -> list[str]:
    lines = [
        "### Networks",
        "",
        "| network | input | | MiB kept | of in place | step, ms | quartiles | of in place |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for work, here in works(rows, "").items():
        base = next(row for row in here if row["name"] == IN_PLACE)
        for row in here:
            start = f"| {work} | {row['size']} | {row['name']} |"
            if not row["times"]:
                lines.append(f"{start} {row['note']} | | | | |")
                continue
            first, third = spread(row)
            kept = row["bytes"] or 0
            lines.append(
                f"{start} {kept / 2**20:.1f} | {kept / (base['bytes'] or 1):.3f} | {median(row) * 1e3:.1f} "
                f"| {first * 1e3:.1f} to {third * 1e3:.1f} | {median(row) / median(base):.2f} |"
            )
    return [*lines, ""]


def largest_difference(losses: dict[str, list[float]]) -> float:
    """Of the losses of two runs, relative."""
    plain, ours = losses[IN_PLACE], losses[OURS]
    return max(abs(a - b) / abs(a) for a, b in zip(plain, ours, strict=True))


def bars(results: dict[str, Any]) -> list[str]:
    rows: list[Row] = results["rows"]
    lines = ["### Bars", "", "| work | bar | measured | holds |", "|---|---|---|---|"]

    def add(work: str, bar: str, found: dict[str, float], holds: Any, digits: int = 2) -> None:
        if found:
            missed = [name for name, value in found.items() if not holds(value)]
            text = f"{min(found.values()):.{digits}f} to {max(found.values()):.{digits}f}"
            lines.append(f"| {work} | {bar} | {text} | {'at ' + ', '.join(missed) + ' not' if missed else 'yes'} |")

    for work, here in works(rows, "lone").items():
        eager = {f"2^{n}": value for n, name, value in lone_ratios(here) if name == "PyTorch"}
        large = {size: value for size, value in eager.items() if power(size) >= 22}
        small = {size: 1 / value for size, value in eager.items() if power(size) <= 20}
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
    for work, here in works(rows, "").items():
        found = {row["name"]: row for row in here if row["times"]}
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
            found_difference = largest_difference(results["losses"][dtype])
            holds = "yes" if found_difference <= most else "no"
            lines.append(
                f"| twenty training steps of the U-Net, {dtype}: losses, relative difference | at most {most:g} "
                f"| {found_difference:.1e} | {holds} |"
            )
    return [*lines, ""]


def machine_table(machine: dict[str, Any]) -> list[str]:
    lines = ["### Machine", ""]
    for key, value in machine.items():
        lines += [f"- {key}:", *(f"  - `{each}`" for each in value)] if key == "commands" else [f"- {key}: {value}"]
    return [*lines, ""]


def render(results: dict[str, Any]) -> str:
    rows: list[Row] = results["rows"]
    lines = [
        "# Benchmark of training",
        "",
        "Forward plus backward. Medians of interleaved rounds, and their quartiles. Of a lone layer, times are",
        "multiples of ours (2.00x took twice as long), and bytes are shares of the input. The time that torch.compile",
        "takes to compile is not counted; under it, layers of ours become PyTorch's, with PyTorch's memory.",
        "",
        *bars(results),
    ]
    if works(rows, ""):
        lines += networks_table(rows)
    for work, here in works(rows, "lone").items():
        lines += lone_table(work, here)
    return "\n".join([*lines, *machine_table(results["machine"])])
