"""``python -m benchmarks [PART ...]``: measure here, print the table, store table, figures and pictures.

Results go to ``benchmarks/results/<machine>/``: ``array.md``, ``array.json``, ``relative.png``, ``limit.png``.
``python -m benchmarks torch [PART ...]`` measures training with PyTorch (``benchmarks/training.py``).
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

PARTS = ("sizes", "layouts", "calls", "threads", "instruction-sets")
REDRAW = "pictures"
RESULTS = pathlib.Path(__file__).parent / "results"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"of {', '.join(PARTS)} (default: all); {REDRAW}: draw the stored results again",
    )
    parser.add_argument("--powers", default="0-27", help="sizes as powers of two: 0-27, or 4,10,20")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--modes", default="out,fresh,new,in place")
    parser.add_argument("--operations", default="forward,backward,both")
    parser.add_argument("--dtypes", default="float32,bfloat16,float16")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results (default: by the machine's name)")
    parser.add_argument("--update", action="store_true", help="keep what is stored of all that is not measured now")
    parser.add_argument("--print-only", action="store_true", help="store nothing")
    parser.add_argument("--rows-as-json", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only-ours", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - {*PARTS, REDRAW}:
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    return options


def powers_of(text: str) -> list[int]:
    if "-" in text:
        first, last = text.split("-")
        return list(range(int(first), int(last) + 1))
    return [int(part) for part in text.split(",")]


def rows_in_a_process(environment: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    """Rows measured in a process with another environment (instruction set, malloc)."""
    command = [sys.executable, "-m", "benchmarks", "sizes", "--rows-as-json", *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    *progress, last = done.stdout.splitlines()
    print(*progress, sep="\n", flush=True)
    rows: list[dict[str, Any]] = json.loads(last)
    return rows


def ours_in_a_process(powers: list[int], repeats: int, **environment: str) -> list[dict[str, Any]]:
    """Our forward rows, measured in a process with another environment."""
    if not powers:
        return []
    chosen = ["--powers", ",".join(map(str, powers)), "--repeats", str(repeats), "--modes", "out,fresh,in place"]
    return rows_in_a_process(environment, "--only-ours", "--operations", "forward", "--dtypes", "float32", *chosen)


def sizes_for(operation: str, dtype: str, powers: list[int]) -> list[int]:
    """Every size where it matters most, and every second one from 2^10 on for the 16-bit types."""
    least = 0 if (operation, dtype) == ("forward", "float32") else 10
    return [power for power in powers if power >= least and (dtype == "float32" or power % 2 == 0)]


def updated(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Put what was measured now in the place of the same in `old`; rows of sizes go by operation, dtype, mode, size."""

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in ("operation", "dtype", "mode", "n"))

    measured = {key(row) for row in new.get("sizes", [])}
    rows = [row for row in old.get("sizes", []) if key(row) not in measured] + new.get("sizes", [])
    before = [*old["machine"].get("before", []), {name: old["machine"][name] for name in ("command", "commit")}]
    return {**old, **new, "sizes": rows, "machine": {**new["machine"], "before": before}}


def main() -> None:
    if sys.argv[1:2] == ["torch"]:
        from benchmarks import training

        training.main(sys.argv[2:])
        return
    options = parse()
    from benchmarks import calls, layouts, machine, peers, pictures, sizes, table, threads

    parts = options.parts or PARTS
    powers, modes = powers_of(options.powers), options.modes.split(",")
    operations, dtypes = options.operations.split(","), options.dtypes.split(",")

    def measured(modes: list[str]) -> list[Any]:
        return [
            row
            for operation in operations
            for dtype in dtypes
            for row in sizes.measure(
                operation, dtype, modes, sizes_for(operation, dtype, powers), options.repeats, options.only_ours
            )
        ]

    if options.rows_as_json:
        print(json.dumps(measured(modes)))
        return
    folder = options.save or RESULTS / machine.name()
    if REDRAW in parts:
        pictures.write(json.loads((folder / "array.json").read_text())["sizes"], folder)
        return
    results: dict[str, Any] = {"machine": machine.describe()}
    stored = json.loads((folder / "array.json").read_text()) if options.update else {}
    if "calls" in parts:
        results["calls"] = calls.small_calls(options.repeats)
        results["imports"] = calls.import_seconds(options.repeats)
    if "sizes" in parts:
        results["sizes"] = measured([mode for mode in modes if mode != "new"])
        large = [str(power) for power in powers if power >= peers.NEW_MEMORY_FROM]
        if "new" in modes and large:
            chosen = ["--operations", options.operations, "--dtypes", options.dtypes, "--powers", ",".join(large)]
            results["sizes"] += rows_in_a_process(
                peers.NEW_MEMORY, "--modes", "new", "--repeats", str(options.repeats), *chosen
            )
    if "layouts" in parts:
        results["layouts"] = layouts.measure(options.repeats)
    if "threads" in parts:
        results["threads"] = threads.measure([p for p in powers if p in range(14, 27, 2)], options.repeats)
    if "instruction-sets" in parts:
        import leakyrelu

        results["instruction_sets"] = {
            isa: ours_in_a_process([p for p in powers if p in (10, 14, 20, 24)], options.repeats, LEAKYRELU_ISA=isa)
            for isa in leakyrelu._core.config()["isa_available"]
        }
    if options.update:
        results = updated(stored, results)
    text = table.render(results)
    print(text)
    if options.print_only:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "array.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "array.md").write_text(text + "\n")
    if results.get("sizes"):
        pictures.write(results["sizes"], folder)
    print(f"stored in {folder}")


if __name__ == "__main__":
    main()
