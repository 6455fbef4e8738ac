"""``python -m benchmarks compare --before PYTHON --after PYTHON``: two installed versions of leakyrelu, in turn.

Each argument is the interpreter of an environment that one of them is installed in. In each round both have a process,
which stands still while the other measures, and each workload is timed in the order before, after, after, before (or
the reverse, every second round), so that a drift of the machine counts for both. Of a round, the quickest block of each
counts, since other processes only add time, and their ratio is after over before. A new round has new processes, since
where an array lies, and on which pages, is worth more than the differences that are looked for. The U-Net, which takes
seconds, is timed in every third round.

The U-Net needs ``pip install --no-deps --target FOLDER dynamic-network-architectures timm`` and ``PYTHONPATH=FOLDER``.
Results: ``compare.json`` and ``compare.md``.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
from typing import TYPE_CHECKING, Any, TypedDict

from benchmarks import machine, storage
from benchmarks.storage import Timing
from benchmarks.workloads import ARRAYS, NETWORKS, UNET, WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MOST = 1.05
IMPORT = "import"
SIDES = ("before", "after")
TURNS = (("before", "after", "after", "before"), ("after", "before", "before", "after"))  # of even and odd rounds
_IMPORT_CODE = """
import time
start = time.perf_counter()
import numpy
middle = time.perf_counter()
import leakyrelu
end = time.perf_counter()
print(end - start, end - middle)
"""
IMPORTS = ("import, with NumPy", "import, NumPy imported before")


class Measurement(TypedDict):
    """Seconds of one workload in both versions, and the ratio of each round."""

    work: str
    rounds: int
    seconds: dict[str, Timing]
    ratio: Timing


class Process:
    """A process of one version that times workloads on demand (`benchmarks.workloads`)."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.workloads"],
            cwd=storage.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, work: str) -> float:
        """Ask for one workload."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        print(work, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self._process.args!r} ended with exit status {self._process.wait()} in {work!r}")
        return float(answer)

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()


def _imports(python: str) -> tuple[float, float]:
    done = subprocess.run([python, "-c", _IMPORT_CODE], cwd=storage.ROOT, capture_output=True, text=True, check=True)
    total, alone = map(float, done.stdout.split())
    return total, alone


def _import_round(pythons: dict[str, str], turns: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    for side in turns:
        for work, seconds in zip(IMPORTS, _imports(pythons[side]), strict=True):
            yield work, side, seconds


def _work_round(
    pythons: dict[str, str], turns: Sequence[str], works: Iterable[str]
) -> Iterator[tuple[str, str, float]]:
    processes = {side: Process(pythons[side]) for side in turns[:2]}
    for work in works:
        for process in processes.values():
            process.seconds(work)  # makes its data and warms up
        for side in turns if work == UNET else [*turns, *turns]:
            yield work, side, processes[side].seconds(work)
    for process in processes.values():
        process.close()


def measure(pythons: dict[str, str], works: list[str], rounds: int) -> list[Measurement]:
    """Time every workload in both versions, in as many rounds."""
    times: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        turns = TURNS[number % 2]
        found = list(_import_round(pythons, turns)) if IMPORT in works else []
        skipped = (IMPORT, UNET) if number % 3 else (IMPORT,)
        found += _work_round(pythons, turns, [work for work in works if work not in skipped])
        for work in dict.fromkeys(work for work, _, _ in found):
            for side in SIDES:
                blocks = [seconds for each, of, seconds in found if (each, of) == (work, side)]
                times.setdefault(work, {}).setdefault(side, []).append(min(blocks))
        print(f"  round {number + 1} of {rounds}", flush=True)
    return [
        {
            "work": work,
            "rounds": len(sides["before"]),
            "seconds": {side: Timing.of(sides[side]) for side in SIDES},
            "ratio": Timing.of(after / before for before, after in zip(sides["before"], sides["after"], strict=True)),
        }
        for work, sides in times.items()
    ]


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.4g} {unit}"
    return f"{seconds * 1e9:.4g} ns"


def _verdict(ratio: Timing) -> str:
    if ratio.median <= MOST:
        return "yes"
    return "within noise" if (ratio.first or ratio.median) <= MOST else "NO"


def render(results: dict[str, Any]) -> str:
    """Lay the comparison out as Markdown."""
    versions = results["versions"]
    lines = [
        "# Two versions in turn",
        "",
        f"Before: {versions['before']}. After: {versions['after']}. Seconds a call; "
        "arrays are float32, forward. The ratio is after over before within a round, as median and quartiles over the "
        "rounds.",
        "",
        f"| work | rounds | before | after | ratio | quartiles | at most {MOST} |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["measured"]:
        before, after = (_time(row["seconds"][side].median) for side in SIDES)
        ratio = row["ratio"]
        lines.append(
            f"| {row['work']} | {row['rounds']} | {before} | {after} | {ratio.median:.3f} | {ratio.quartiles(1, 3)} "
            f"| {_verdict(ratio)} |"
        )
    return "\n".join([*lines, "", *machine.machine_table(results["machine"]), ""])


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Name and text of each figure that the docs quote."""
    return {f"compare, {row['work']}": f"{row['ratio'].median:.2f}" for row in results["measured"]}


def _version(python: str) -> str:
    code = "import leakyrelu; print(leakyrelu.__version__, leakyrelu._core.config()['isa'])"
    done = subprocess.run([python, "-c", code], cwd=storage.ROOT, capture_output=True, text=True, check=True)
    return "leakyrelu {}, {}".format(*done.stdout.split())


def main(arguments: list[str]) -> None:
    groups = {IMPORT: [IMPORT], "arrays": list(ARRAYS), "networks": list(NETWORKS)}
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=__doc__.split("\n\n")[0])
    parser.add_argument("--before", required=True, metavar="PYTHON", help="interpreter of the older version")
    parser.add_argument("--after", required=True, metavar="PYTHON", help="interpreter of the newer version")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--works", default=";".join(groups), help=f"of {', '.join(groups)}; or names of workloads; separated by ;"
    )
    parser.add_argument("--print-only", action="store_true", help="store nothing")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results (default: by the machine's name)")
    options = parser.parse_args(arguments)
    chosen = options.works.split(";")
    works = [work for name in chosen for work in groups.get(name, [name])]
    if unknown := [work for work in works if work not in WORKLOADS and work != IMPORT]:
        parser.error(f"unknown workload: {'; '.join(unknown)}; choose from {'; '.join([*groups, *WORKLOADS])}")
    pythons = {"before": options.before, "after": options.after}
    results = {
        "machine": machine.describe(),
        "versions": {side: _version(python) for side, python in pythons.items()},
        "measured": measure(pythons, works, options.rounds),
    }
    print(render(results))
    if not options.print_only:
        folder = options.save or storage.RESULTS / machine.name()
        storage.save(results, folder / "compare.json")
        (folder / "compare.md").write_text(render(results))
        print(f"stored in {folder}")
