"""The results beside other packages as tables for people, and the figures of the docs."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.readers import OURS

# The time of the short table is that of the networks in which each package finds modules to look at.
TIMED = {
    "time, in forward passes: perceptron": "ReLU modules",
    "time, in forward passes: convolutions": "convolutions, batch norm",
}


def cell(row: dict[str, Any]) -> str:
    """Say what a package found in one network."""
    if "error" in row:
        return "fails"
    if row["found"] == row["planted"] or not row["found"]:
        text = "all" if row["found"] else "none"
    else:
        text = f"{row['found']:,} of {row['planted']:,}"
    return f"{text}, {row['false_alarms']:,} false" if row["false_alarms"] else text


def _multiple(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _ratio(row: dict[str, Any]) -> float:
    return float(row["seconds"].median / row["plain_seconds"])


def compared(results: dict[str, Any]) -> list[str]:
    """Lay out one row for each network and one column for each package, with what it says and what it costs below."""
    measured = results["measured"]
    names = list(dict.fromkeys(row["reader"] for row in measured))
    readers = {reader["name"]: reader for reader in results["readers"]}
    by = {(row["case"], row["reader"]): row for row in measured}
    cases = list(dict.fromkeys(row["case"] for row in measured))

    def title(name: str) -> str:
        return name if name == OURS else f"{name} {readers[name]['version']}"

    lines = [
        "| planted behind | " + " | ".join(map(title, names)) + " |",
        "|---" * (1 + len(names)) + "|",
        "| *says* | " + " | ".join(f"*{readers[name]['reports']}*" for name in names) + " |",
    ]
    lines += [f"| {case} | " + " | ".join(cell(by[case, name]) for name in names) + " |" for case in cases]
    for work, case in TIMED.items():
        ratios = [_multiple(_ratio(by[case, name])) if "seconds" in by[case, name] else "" for name in names]
        lines.append(f"| {work} | " + " | ".join(ratios) + " |")
    return lines


def render(results: dict[str, Any]) -> str:
    """Lay the results out as Markdown tables."""
    host = results["machine"]
    missing = [reader["name"] for reader in results["readers"] if not reader["version"]]
    lines = [
        "# Planted dead units, read by several packages",
        "",
        f"{host['processor']}, PyTorch {host['packages']['torch']}, {host['system']}; commit {host['commit']}; "
        f"`{host['command']}`. Planted and found are in the terms of each package: units, positions of units, or "
        "layers with planted units. Times are medians over rounds in which all took turns.",
        "",
        *compared(results),
        "",
    ]
    if missing:
        lines += [f"Not installed: {', '.join(missing)}.", ""]
    lines += [
        "| planted behind | package | planted | found | missed | false alarms | ms | quartiles | in forward passes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results["measured"]:
        start = f"| {row['case']} | {row['reader']} "
        if "error" in row:
            lines.append(f"{start}| {row['error']} ||||||| ")
            continue
        lines.append(
            f"{start}| {row['planted']:,} | {row['found']:,} | {row['planted'] - row['found']:,} "
            f"| {row['false_alarms']:,} | {1e3 * row['seconds'].median:.2f} | {row['seconds'].quartiles(1e3, 2)} "
            f"| {_multiple(_ratio(row))} |"
        )
    return "\n".join([*lines, ""])


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Name and text of each figure that the docs quote."""
    return {"peers": "\n".join(compared(results))}
