"""``python -m benchmarks arrays [PART ...]``: the array functions beside every peer.

Results: ``arrays.json``, ``arrays.md``, ``relative.png`` and ``limit.png``.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from benchmarks import machine, storage

if TYPE_CHECKING:
    from benchmarks.arrays.sizes import Measurement

PARTS = ("sizes", "layouts", "calls", "threads", "instruction-sets")
OPERATIONS = "forward,backward,both"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks arrays", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--powers", default="0-27", help="sizes as powers of two: 0-27, or 4,10,20")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--modes", default="out,fresh,new,in place")
    parser.add_argument("--operations", default=OPERATIONS)
    parser.add_argument("--dtypes", default="float32,bfloat16,float16")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results (default: by the machine's name)")
    parser.add_argument("--update", action="store_true", help="keep what is stored of all that is not measured now")
    parser.add_argument("--print-only", action="store_true", help="store nothing")
    parser.add_argument("--as-json", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only-ours", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    return options


def powers_of(text: str) -> list[int]:
    if "-" in text:
        first, last = text.split("-")
        return list(range(int(first), int(last) + 1))
    return [int(part) for part in text.split(",")]


def measured_in_a_process(environment: dict[str, str], *arguments: str) -> list[Measurement]:
    """Sizes measured in a process with another environment (instruction set, malloc)."""
    command = [sys.executable, "-m", "benchmarks", "sizes", "--as-json", *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    progress, _, result = done.stdout.partition("{")
    print(progress, end="", flush=True)
    found: list[Measurement] = storage.loads("{" + result)["sizes"]
    return found


def instruction_sets(powers: list[int], repeats: int) -> list[Measurement]:
    """Measure the forward pass of float32 in a process for each instruction set."""
    import leakyrelu
    from benchmarks.arrays.peers import OURS

    if not powers:
        return []
    chosen = ["--powers", ",".join(map(str, powers)), "--repeats", str(repeats), "--modes", "out,fresh,in place"]
    chosen += ["--only-ours", "--operations", "forward", "--dtypes", "float32"]
    found: list[Measurement] = []
    for isa in leakyrelu._core.config()["isa_available"]:
        measured = measured_in_a_process({"LEAKYRELU_ISA": isa}, *chosen)
        found = found or [{**each, "seconds": {}} for each in measured]
        for row, each in zip(found, measured, strict=True):
            row["seconds"][isa] = each["seconds"][OURS]
    return found


def sizes_for(operation: str, dtype: str, powers: list[int]) -> list[int]:
    """Every size for the forward pass of float32; from 2^10 on else, and every second one for the 16-bit types."""
    least = 0 if (operation, dtype) == ("forward", "float32") else 10
    return [power for power in powers if power >= least and (dtype == "float32" or power % 2 == 0)]


def updated(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Put what was measured now in the place of the same in `old`; sizes go by operation, dtype, mode and size."""

    def key(row: Measurement) -> tuple[str, str, str, int]:
        return row["operation"], row["dtype"], row["mode"], row["n"]

    measured = {key(row) for row in new.get("sizes", [])}
    sizes = [row for row in old.get("sizes", []) if key(row) not in measured] + new.get("sizes", [])
    before = [*old["machine"].get("before", []), {name: old["machine"][name] for name in ("command", "commit")}]
    return {**old, **new, "sizes": sizes, "machine": {**new["machine"], "before": before}}


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    from benchmarks.arrays import calls, layouts, peers, plots, sizes, table, threads

    parts = options.parts or PARTS
    powers, modes = powers_of(options.powers), options.modes.split(",")

    def measured(modes: list[str]) -> list[Measurement]:
        return [
            row
            for operation in options.operations.split(",")
            for dtype in options.dtypes.split(",")
            for row in sizes.measure(
                operation, dtype, modes, sizes_for(operation, dtype, powers), options.repeats, options.only_ours
            )
        ]

    if options.as_json:
        print(storage.dumps({"sizes": measured(modes)}))
        return
    folder = options.save or storage.RESULTS / machine.name()
    results: dict[str, Any] = {"machine": machine.describe()}
    stored = storage.load(folder / "arrays.json") if options.update else {}
    if "calls" in parts:
        results["calls"] = {"seconds": calls.small_calls(options.repeats)}
        results["imports"] = {"seconds": calls.import_seconds(options.repeats)}
    if "sizes" in parts:
        results["sizes"] = measured([mode for mode in modes if mode != "new"])
        large = [str(power) for power in powers if power >= peers.NEW_MEMORY_FROM]
        if "new" in modes and large:
            chosen = ["--operations", options.operations, "--dtypes", options.dtypes, "--powers", ",".join(large)]
            results["sizes"] += measured_in_a_process(
                peers.NEW_MEMORY, "--modes", "new", "--repeats", str(options.repeats), *chosen
            )
    if "layouts" in parts:
        results["layouts"] = layouts.measure(options.repeats)
    if "threads" in parts:
        results["threads"] = threads.measure([p for p in powers if p in range(14, 27, 2)], options.repeats)
    if "instruction-sets" in parts:
        results["instruction_sets"] = instruction_sets([p for p in powers if p in (10, 14, 20, 24)], options.repeats)
    if options.update:
        results = updated(stored, results)
    print(table.render(results))
    if options.print_only:
        return
    storage.save(results, folder / "arrays.json")
    (folder / "arrays.md").write_text(table.render(results))
    if results.get("sizes"):
        plots.write(results, folder)
    print(f"stored in {folder}")
