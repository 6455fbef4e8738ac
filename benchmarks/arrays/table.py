"""The results as tables for people, with the targets of the project, and the figures that the README quotes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.arrays.peers import FRESH, MODES, OURS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.arrays.sizes import Measurement
    from benchmarks.storage import Timing

Results = dict[str, Any]
SIGNS = f"{OURS} from signs"
LIMIT = "limit"


def select(measured: Iterable[Measurement], **wanted: object) -> list[Measurement]:
    return [row for row in measured if all(row[key] == value for key, value in wanted.items())]  # type: ignore[literal-required]


def _fastest(seconds: dict[str, Timing], start: str | tuple[str, ...]) -> float | None:
    """Median of the fastest candidate whose name starts so."""
    return min((timing.median for name, timing in seconds.items() if name.startswith(start)), default=None)


def limit_of(seconds: dict[str, Timing]) -> float | None:
    """Seconds of the fastest pass over the same bytes."""
    return _fastest(seconds, LIMIT)


def fastest_peer(seconds: dict[str, Timing]) -> float:
    return min(timing.median for name, timing in seconds.items() if not name.startswith((OURS, LIMIT)))


def power(n: int) -> str:
    return f"2^{n.bit_length() - 1}"


def sizes_table(measured: list[Measurement], operation: str, dtype: str, mode: str) -> list[str]:
    """Markdown: microseconds of ours, and every peer and the limit as multiples of ours."""
    measured = select(measured, operation=operation, dtype=dtype, mode=mode)
    if not measured:
        return []
    every = list(dict.fromkeys(name for row in measured for name in row["seconds"]))
    ours = next(name for name in every if name.startswith(OURS))
    names = [name for name in every if name != ours and not name.startswith(LIMIT)]
    has_limit = any(name.startswith(LIMIT) for name in every)
    lines = [
        f"### {operation}, {dtype}, {mode}",
        "",
        f"| elements | {ours}, us | " + " | ".join(names) + (" | share of the limit |" if has_limit else " |"),
        "|---" * (2 + len(names) + has_limit) + "|",
    ]
    for row in sorted(measured, key=lambda row: row["n"]):
        seconds = row["seconds"]
        base = seconds[ours].median
        cells = [f"{seconds[name].median / base:.2f}x" if name in seconds else "" for name in names]
        if has_limit:
            cells.append(f"{(limit_of(seconds) or 0) / base:.2f}")
        lines.append(f"| {power(row['n'])} | {base * 1e6:.2f} | " + " | ".join(cells) + " |")
    return [*lines, ""]


class Target(NamedTuple):
    """A target of the project, and what was measured at each size."""

    work: str
    text: str
    least: float
    found: list[tuple[int, float]]

    def range(self) -> str:
        values = [value for _, value in self.found]
        return f"{min(values):.2f} to {max(values):.2f}"

    def row(self) -> str:
        missed = [power(n) for n, value in self.found if value < self.least]
        met = len(self.found) - len(missed)
        verdict = "every size" if not missed else f"{met} of {len(self.found)} (not {', '.join(missed)})"
        return f"| {self.work} | {self.text} | {self.range()} | {verdict} |"


def targets(results: Results) -> list[Target]:
    """Each target that has measurements, and how many times as fast ours was at each of its sizes."""

    def ratios(
        operation: str, dtype: str, mode: str, ours: str, theirs: str | None, least: int, most: int = 1 << 27
    ) -> list[tuple[int, float]]:
        found = []
        here = select(results.get("sizes", []), operation=operation, dtype=dtype, mode=mode)
        for row in sorted(here, key=lambda row: row["n"]):
            seconds = row["seconds"]
            if ours not in seconds or not least <= row["n"] <= most:
                continue
            peer = fastest_peer(seconds) if theirs is None else _fastest(seconds, theirs)
            if peer is not None:
                found.append((row["n"], peer / seconds[ours].median))
        return found

    found = [
        Target("forward, caller's output, against the fastest peer", "at least 0.95 times as fast", 0.95,
               ratios("forward", "float32", "out", OURS, None, 1, 2**26))
    ]  # fmt: skip
    for mode in FRESH:
        for peer, name, least in (("PyTorch", "PyTorch", 3), ("NumPy", "NumPy's best idiom", 2.5)):
            found.append(
                Target(f"forward, {mode}, against {name}", f"{least} times", least,
                       ratios("forward", "float32", mode, OURS, peer, 2**22))
            )  # fmt: skip
    for mode, name, least in (("out", "caller's output", 1.5), *((mode, mode, 3) for mode in FRESH)):
        found.append(
            Target(f"backward from signs, {name}, against PyTorch", f"{least} times", least,
                   ratios("backward", "float32", mode, SIGNS, "PyTorch", 2**22))
        )  # fmt: skip
    for mode in ("out", "in place"):
        found.append(
            Target(f"forward, {mode}: share of the limit", "at least 0.9", 0.9,
                   ratios("forward", "float32", mode, OURS, LIMIT, 2**20))
        )  # fmt: skip
    for dtype in ("bfloat16", "float16"):
        for mode in ("out", *FRESH):
            found.append(
                Target(f"forward, {dtype}, {mode}, against PyTorch", "faster", 1,
                       ratios("forward", dtype, mode, OURS, "PyTorch", 2**14))
            )  # fmt: skip
    return [target for target in found if target.found]


def targets_table(results: Results) -> list[str]:
    lines = ["### Targets", "", "| work | target | measured | met at |", "|---|---|---|---|"]
    lines += [target.row() for target in targets(results)]
    for row in results.get("layouts", []):
        seconds = row["seconds"]
        ratio = fastest_peer(seconds) / seconds[OURS].median
        verdict = "yes" if ratio > 1 else "NO"
        lines.append(f"| {row['layout']}, against NumPy's best | faster | {ratio:.2f} | {verdict} |")
    for row in select(results.get("threads", []), n=2**20):
        seconds = row["seconds"]
        most = max(seconds, key=int)
        ratio = seconds["1"].median / seconds[most].median
        work = f"{most} threads against one, 2^20, {row['mode']}"
        lines.append(Target(work, "at least 1.6", 1.6, [(2**20, ratio)]).row())
    return [*lines, ""]


def by_name_table(title: str, measured: list[Measurement], heading: str, last: str | None = None) -> list[str]:
    """Markdown: microseconds of the forward pass by size and mode, with a column for each name."""
    names = list(measured[0]["seconds"])
    lines = [
        f"### {title}",
        "",
        "| elements | output | "
        + " | ".join(f"{heading}{name}" for name in names)
        + (f" | {last} |" if last else " |"),
        "|---" * (2 + len(names) + bool(last)) + "|",
    ]
    for row in measured:
        times = [row["seconds"][name].median for name in names]
        cells = [f"{each * 1e6:.2f}" for each in times] + ([f"{times[0] / times[-1]:.2f}"] if last else [])
        lines.append(f"| {power(row['n'])} | {row['mode']} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def calls_table(results: Results) -> list[str]:
    lines = ["### One call", "", "| call | nanoseconds |", "|---|---|"]
    lines += [f"| {name} | {timing.median * 1e9:.0f} |" for name, timing in results["calls"]["seconds"].items()]
    lines += ["", "### Import", "", "| | milliseconds |", "|---|---|"]
    lines += [f"| {name} | {timing.median * 1e3:.1f} |" for name, timing in results["imports"]["seconds"].items()]
    return [*lines, ""]


def render(results: Results) -> str:
    from benchmarks.machine import machine_table

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
    sizes, threads = results.get("sizes", []), results.get("threads", [])
    lines += targets_table(results) if sizes else []
    lines += calls_table(results) if "calls" in results else []
    if threads:
        ordered = sorted(threads, key=lambda row: (row["n"], MODES.index(row["mode"])))
        lines += by_name_table("Threads: forward, float32, us", ordered, "on ", "times as fast")
    if sets := results.get("instruction_sets", []):
        lines += by_name_table("Instruction sets: forward, float32, us", sets, "")
    for operation in ("forward", "backward", "both"):
        for dtype in ("float32", "bfloat16", "float16"):
            for mode in MODES:
                lines += sizes_table(sizes, operation, dtype, mode)
    return "\n".join([*lines, *machine_table(results["machine"]), ""])


# Rows of the README's table: work, peer, and the target that measures it.
_COMPARED = (
    ("forward into the caller's output", "the fastest of NumPy, numexpr, Numba, PyTorch, ONNX Runtime",
     "forward, caller's output, against the fastest peer"),
    ("forward, fresh output, memory new from the system", "PyTorch", "forward, new, against PyTorch"),
    ("the same", "NumPy's better idiom", "forward, new, against NumPy's best idiom"),
    ("forward, fresh output, memory often handed back warm", "PyTorch", "forward, fresh, against PyTorch"),
    ("the same", "NumPy's better idiom", "forward, fresh, against NumPy's best idiom"),
    ("backward from packed signs, caller's output", "PyTorch", "backward from signs, caller's output, against PyTorch"),
    ("backward from packed signs, memory new from the system", "PyTorch", "backward from signs, new, against PyTorch"),
    ("forward into the caller's output, bfloat16", "PyTorch", "forward, bfloat16, out, against PyTorch"),
)  # fmt: skip


def figures(results: Results) -> dict[str, str]:
    """Name and text of each figure that README and docs quote."""
    measured = {target.work: target for target in targets(results)}
    table = ["| work | sizes | against | times as fast |", "|---|---|---|---|"]
    for work, peer, name in _COMPARED:
        found = measured[name].found
        sizes = f"{power(found[0][0])} to {power(found[-1][0])}"
        table.append(f"| {work} | {sizes} | {peer} | {measured[name].range()} |")
    calls = {name: f"{timing.median * 1e9:.0f}" for name, timing in results["calls"]["seconds"].items()}
    return {
        "arrays": "\n".join(table),
        "call, leakyrelu": calls["leakyrelu, array"],
        "call, NumPy": calls["NumPy maximum(x, 0.01 * x)"],
        "call, PyTorch": calls["PyTorch leaky_relu"],
    }
