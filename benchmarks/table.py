"""The results as a table for people, and the bars that the project sets itself, each with what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers import FRESH, MODES, OURS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.sizes import Row

Results = dict[str, Any]


def _select(rows: Iterable[Row], **wanted: object) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]  # type: ignore[literal-required]


def limit_of(rows: list[Row]) -> float:
    """Seconds of the fastest pass over the same bytes."""
    return min(row["seconds"] for row in rows if row["name"].startswith("limit"))


def seconds_of(rows: list[Row], name: str) -> float:
    return next(row["seconds"] for row in rows if row["name"] == name)


def fastest_peer(rows: list[Row]) -> Row:
    peers = [row for row in rows if not row["name"].startswith((OURS, "limit"))]
    return min(peers, key=lambda row: row["seconds"])


def sizes_table(rows: list[Row], operation: str, dtype: str, mode: str) -> list[str]:
    """Markdown: microseconds of ours, and every peer and the limit as multiples of ours."""
    rows = _select(rows, operation=operation, dtype=dtype, mode=mode)
    if not rows:
        return []
    ours = next(row["name"] for row in rows if row["name"].startswith(OURS))
    names = list(
        dict.fromkeys(row["name"] for row in rows if row["name"] != ours and not row["name"].startswith("limit"))
    )
    has_limit = any(row["name"].startswith("limit") for row in rows)
    lines = [
        f"### {operation}, {dtype}, {mode}",
        "",
        f"| elements | {ours}, us | " + " | ".join(names) + (" | share of the limit |" if has_limit else " |"),
        "|---" * (2 + len(names) + has_limit) + "|",
    ]
    for n in sorted({row["n"] for row in rows}):
        here = _select(rows, n=n)
        base = seconds_of(here, ours)
        found = {row["name"]: row["seconds"] for row in here}
        cells = [f"{found[name] / base:.2f}x" if name in found else "" for name in names]
        if has_limit:
            cells.append(f"{limit_of(here) / base:.2f}")
        lines.append(f"| 2^{n.bit_length() - 1} | {base * 1e6:.2f} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _range(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def bars(results: Results) -> list[str]:
    """Each bar of the project, what was measured over its sizes, and whether it holds at every one of them."""
    rows: list[Row] = results["sizes"]
    lines = ["### Bars", "", "| work | bar | measured | holds at |", "|---|---|---|---|"]

    def add(work: str, bar: float, pairs: list[tuple[int, float]], text: str) -> None:
        if not pairs:
            return
        held = [n for n, value in pairs if value >= bar]
        missed = [f"2^{n.bit_length() - 1}" for n, value in pairs if value < bar]
        verdict = "every size" if not missed else f"{len(held)} of {len(pairs)} (not {', '.join(missed)})"
        lines.append(f"| {work} | {text} | {_range([value for _, value in pairs])} | {verdict} |")

    def ratio(
        operation: str, dtype: str, mode: str, ours: str, theirs: str | None, least: int, most: int = 1 << 27
    ) -> list[tuple[int, float]]:
        found = []
        for n in sorted({row["n"] for row in rows}):
            here = _select(rows, operation=operation, dtype=dtype, mode=mode, n=n)
            if not (least <= n <= most) or not here or not any(row["name"] == ours for row in here):
                continue
            if theirs is None:
                peer = fastest_peer(here)["seconds"]
            else:
                peers = [row["seconds"] for row in here if row["name"].startswith(theirs)]
                if not peers:
                    continue
                peer = min(peers)
            found.append((n, peer / seconds_of(here, ours)))
        return found

    signs = f"{OURS} from signs"
    add("forward, caller's output, against the fastest peer", 0.95,
        ratio("forward", "float32", "out", OURS, None, 1, 2**26), "at least 0.95 times as fast")  # fmt: skip
    for mode in FRESH:
        add(f"forward, {mode}, against PyTorch", 3,
            ratio("forward", "float32", mode, OURS, "PyTorch", 2**22), "3 times")  # fmt: skip
        add(f"forward, {mode}, against NumPy's best idiom", 2.5,
            ratio("forward", "float32", mode, OURS, "NumPy", 2**22), "2.5 times")  # fmt: skip
    add("backward from signs, caller's output, against PyTorch", 1.5,
        ratio("backward", "float32", "out", signs, "PyTorch", 2**22), "1.5 times")  # fmt: skip
    for mode in FRESH:
        add(f"backward from signs, {mode}, against PyTorch", 3,
            ratio("backward", "float32", mode, signs, "PyTorch", 2**22), "3 times")  # fmt: skip
    for mode in ("out", "in place"):
        add(f"forward, {mode}: share of the limit", 0.9,
            ratio("forward", "float32", mode, OURS, "limit", 2**20), "at least 0.9")  # fmt: skip
    for dtype in ("bfloat16", "float16"):
        for mode in ("out", *FRESH):
            add(f"forward, {dtype}, {mode}, against PyTorch", 1,
                ratio("forward", dtype, mode, OURS, "PyTorch", 2**14), "faster")  # fmt: skip
    for name, times in results.get("layouts", {}).items():
        ratio_ = min(seconds for peer, seconds in times.items() if peer != OURS) / times[OURS]
        lines.append(f"| {name}, against NumPy's best | faster | {ratio_:.2f} | {'yes' if ratio_ > 1 else 'NO'} |")
    for mode, times in by_threads(results.get("threads", []), 2**20).items():
        most = max(times, key=int)
        add(f"{most} threads against one, 2^20, {mode}", 1.6, [(2**20, times["1"] / times[most])], "at least 1.6")
    return [*lines, ""]


def by_threads(rows: list[Row], n: int) -> dict[str, dict[str, float]]:
    """Seconds of that size by mode and number of threads."""
    here = _select(rows, n=n)
    return {
        mode: {row["name"]: row["seconds"] for row in _select(here, mode=mode)}
        for mode in MODES
        if _select(here, mode=mode)
    }


def threads_table(rows: list[Row]) -> list[str]:
    """Markdown: microseconds of the forward pass, float32, by number of threads."""
    counts = sorted({row["name"] for row in rows}, key=int)
    lines = [
        "### Threads: forward, float32, us",
        "",
        "| elements | output | " + " | ".join(f"on {count}" for count in counts) + " | times as fast |",
        "|---" * (3 + len(counts)) + "|",
    ]
    for n in sorted({row["n"] for row in rows}):
        for mode, times in by_threads(rows, n).items():
            cells = [f"{times[count] * 1e6:.2f}" for count in counts] + [f"{times[counts[0]] / times[counts[-1]]:.2f}"]
            lines.append(f"| 2^{n.bit_length() - 1} | {mode} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def instruction_sets_table(sets: dict[str, list[Row]]) -> list[str]:
    """Markdown: microseconds of the forward pass, float32, by instruction set."""
    lines = [
        "### Instruction sets: forward, float32, us",
        "",
        "| elements | output | " + " | ".join(sets) + " |",
        "|---" * (2 + len(sets)) + "|",
    ]
    for row in next(iter(sets.values())):
        wanted = {key: row[key] for key in ("n", "mode", "name")}
        cells = [f"{_select(rows, **wanted)[0]['seconds'] * 1e6:.2f}" for rows in sets.values()]
        lines.append(f"| 2^{row['n'].bit_length() - 1} | {row['mode']} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def calls_table(results: Results) -> list[str]:
    lines = ["### One call", "", "| call | nanoseconds |", "|---|---|"]
    lines += [f"| {name} | {seconds * 1e9:.0f} |" for name, seconds in results["calls"].items()]
    lines += ["", "### Import", "", "| | milliseconds |", "|---|---|"]
    lines += [f"| {name} | {seconds * 1e3:.1f} |" for name, seconds in results["imports"].items()]
    return [*lines, ""]


def machine_table(machine: dict[str, object]) -> list[str]:
    return ["### Machine", "", *(f"- {key}: {value}" for key, value in machine.items()), ""]


def render(results: Results) -> str:
    lines = [
        "# Benchmark",
        "",
        "Multiples are of our time: 2.00x took twice as long. Median of interleaved rounds.",
        "",
        "`out`: into the caller's output. `fresh`: output allocated by the call, which glibc hands back and forth",
        "between calls up to 32 MiB, warm. `new`: the same where malloc asks the system for it, as for results that",
        "are kept. `in place`: over the input.",
        "",
    ]
    lines += bars(results) if results.get("sizes") else []
    lines += calls_table(results) if "calls" in results else []
    lines += threads_table(results["threads"]) if results.get("threads") else []
    sets = results.get("instruction_sets", {})
    lines += instruction_sets_table(sets) if any(sets.values()) else []
    for operation in ("forward", "backward", "both"):
        for dtype in ("float32", "bfloat16", "float16"):
            for mode in MODES:
                lines += sizes_table(results.get("sizes", []), operation, dtype, mode)
    return "\n".join([*lines, *machine_table(results["machine"])])
