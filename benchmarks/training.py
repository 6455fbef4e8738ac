"""``python -m benchmarks torch [PART ...]``: Leaky ReLU in training, ours beside every way that PyTorch has.

Each part puts its rows into ``benchmarks/results/<machine>/torch.json``, beside those of the other parts, and the
tables (``torch.md``) and the picture (``torch.png``) are made of all that is there. So long runs can be cut in pieces:

    python -m benchmarks torch lone --dtypes bfloat16 --memory fresh --powers 22,24
    python -m benchmarks torch unet --rounds 4
    python -m benchmarks torch unet --rounds 4 --append
"""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import sys
from typing import Any

PARTS = ("lone", "chains", "unet", "mlp", "losses")
REDRAW = "pictures"
RESULTS = pathlib.Path(__file__).parent / "results"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks torch", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"of {', '.join(PARTS)} (default: all); {REDRAW}: make tables and picture of the stored results again",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--powers", help="of lone: sizes as powers of two, such as 10,20")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="of lone")
    parser.add_argument("--memory", default="fresh,reused", help="of lone")
    parser.add_argument(
        "--small", type=int, help="of lone: bytes below which our layer goes PyTorch's way; store nothing"
    )
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes minutes")
    parser.add_argument("--append", action="store_true", help="add the rounds to those that are stored")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results (default: by the machine's name)")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - {*PARTS, REDRAW}:
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    return options


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    import torch

    from benchmarks import machine, torch_lone, torch_networks, torch_picture, torch_rows, torch_table

    folder = options.save or RESULTS / machine.name()
    stored = folder / "torch.json"
    results: dict[str, Any] = {"machine": {}, "rows": [], "losses": {}}
    if stored.exists():
        results = json.loads(stored.read_text())
    compiled = not options.no_compile
    if options.small is not None:
        functional: Any = importlib.import_module("leakyrelu.torch.activations.functional")
        functional._SMALL = options.small
    parts = [part for part in options.parts or PARTS if part != REDRAW]
    for part in parts:
        if part == "losses":
            results["losses"] = torch_networks.losses()
            continue
        if part == "lone":
            powers = [int(each) for each in options.powers.split(",")] if options.powers else torch_lone.POWERS
            rows = [
                row
                for memory in options.memory.split(",")
                for dtype in options.dtypes.split(",")
                for row in torch_lone.measure(dtype, memory, powers, options.rounds, compiled)
            ]
        else:
            rows = torch_networks.measure(part, options.rounds, compiled)
        results["rows"] = torch_rows.merge(results["rows"], rows, options.append)
    if parts:
        commands = dict.fromkeys(
            [*results["machine"].get("commands", []), " ".join(["python -m benchmarks torch", *arguments])]
        )
        results["machine"] = machine.describe()
        del results["machine"]["command"]
        results["machine"] |= {"torch_threads": torch.get_num_threads(), "commands": list(commands)}
    text = torch_table.render(results)
    if options.small is not None:
        print(text)
        return
    folder.mkdir(parents=True, exist_ok=True)
    stored.write_text(json.dumps(results, indent=1) + "\n")
    (folder / "torch.md").write_text(text + "\n")
    torch_picture.write(results["rows"], folder)
    print(f"stored in {folder}")


if __name__ == "__main__":
    main(sys.argv[1:])
