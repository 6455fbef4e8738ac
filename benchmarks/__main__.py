"""``python -m benchmarks [PART ...]``: measure here, print the table, store table, figures and pictures.

Results go to ``benchmarks/results/<machine>/``: ``array.md``, ``array.json``, ``relative.png``, ``limit.png``.
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
    parser.add_argument("--modes", default="out,fresh,in place")
    parser.add_argument("--operations", default="forward,backward,both")
    parser.add_argument("--dtypes", default="float32,bfloat16,float16")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results (default: by the machine's name)")
    parser.add_argument("--print-only", action="store_true", help="store nothing")
    parser.add_argument("--ours-as-json", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - {*PARTS, REDRAW}:
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    return options


def powers_of(text: str) -> list[int]:
    if "-" in text:
        first, last = text.split("-")
        return list(range(int(first), int(last) + 1))
    return [int(part) for part in text.split(",")]


def ours_in_a_process(powers: list[int], repeats: int, **environment: str) -> list[dict[str, Any]]:
    """Our forward rows, measured in a process with another environment (threads, instruction set)."""
    if not powers:
        return []
    command = [sys.executable, "-m", "benchmarks", "sizes", "--ours-as-json", "--operations", "forward"]
    command += ["--dtypes", "float32", "--powers", ",".join(map(str, powers)), "--repeats", str(repeats)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def main() -> None:
    options = parse()
    from benchmarks import calls, layouts, machine, pictures, sizes, table

    parts = options.parts or PARTS
    powers, modes = powers_of(options.powers), options.modes.split(",")
    operations, dtypes = options.operations.split(","), options.dtypes.split(",")
    if options.ours_as_json:
        print(json.dumps(sizes.measure("forward", "float32", modes, powers, options.repeats, only_ours=True)))
        return
    folder = options.save or RESULTS / machine.name()
    if REDRAW in parts:
        pictures.write(json.loads((folder / "array.json").read_text())["sizes"], folder)
        return
    results: dict[str, Any] = {"machine": machine.describe()}
    if "calls" in parts:
        results["calls"] = calls.small_calls(options.repeats)
        results["imports"] = calls.import_seconds(options.repeats)
    if "sizes" in parts:
        results["sizes"] = []
        for operation in operations:
            for dtype in dtypes:
                chosen = powers if operation == "forward" and dtype == "float32" else [p for p in powers if p >= 10]
                chosen = [p for p in chosen if dtype == "float32" or p % 2 == 0]
                results["sizes"] += sizes.measure(operation, dtype, modes, chosen, options.repeats)
    if "layouts" in parts:
        results["layouts"] = layouts.measure(options.repeats)
    if "threads" in parts:
        results["one_thread"] = ours_in_a_process(
            [p for p in powers if p in range(14, 27, 2)], options.repeats, LEAKYRELU_NUM_THREADS="1"
        )
    if "instruction-sets" in parts:
        import leakyrelu

        results["instruction_sets"] = {
            isa: ours_in_a_process([p for p in powers if p in (10, 14, 20, 24)], options.repeats, LEAKYRELU_ISA=isa)
            for isa in leakyrelu._core.config()["isa_available"]
        }
    text = table.render(results)
    print(text)
    if options.print_only:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "array.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "array.md").write_text(text + "\n")
    if "sizes" in parts:
        pictures.write(results["sizes"], folder)
    print(f"stored in {folder}")


if __name__ == "__main__":
    main()
