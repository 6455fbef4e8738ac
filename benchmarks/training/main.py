"""``python -m benchmarks training [PART ...]``: Leaky ReLU in training, ours beside what PyTorch has.

Each part is stored in ``benchmarks/results/<machine>/training.json``, beside the other parts, and the tables
(``training.md``) and the plot (``training.png``) are made of all that is stored. So long runs can be cut in pieces:

    python -m benchmarks training layer --dtypes bfloat16 --memory fresh --powers 22,24
    python -m benchmarks training unet --rounds 9
"""

from __future__ import annotations

import argparse
import importlib
import pathlib
from typing import Any

from benchmarks import machine, storage

PARTS = ("layer", "chains", "unet", "mlp", "losses")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks training", description=__doc__.split("\n\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--powers", help="of layer: sizes as powers of two, such as 10,20")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="of layer")
    parser.add_argument("--memory", default="fresh,reused", help="of layer")
    parser.add_argument(
        "--small", type=int, help="of layer: bytes below which our layer calls PyTorch's function; store nothing"
    )
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes minutes")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results (default: by the machine's name)")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    return options


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    import torch

    from benchmarks.training import measurement, networks, plots, single_layer, table

    folder = options.save or storage.RESULTS / machine.name()
    stored = folder / "training.json"
    results: dict[str, Any] = {"machine": {}, "measured": [], "losses": {}}
    if stored.exists():
        results = storage.load(stored)
    compiled = not options.no_compile
    if options.small is not None:
        functional: Any = importlib.import_module("leakyrelu.torch.activations.functional")
        functional._SMALL = options.small
    for part in options.parts or PARTS:
        if part == "losses":
            results["losses"] = networks.losses()
            continue
        if part == "layer":
            powers = [int(each) for each in options.powers.split(",")] if options.powers else single_layer.POWERS
            measured = [
                row
                for memory in options.memory.split(",")
                for dtype in options.dtypes.split(",")
                for row in single_layer.measure(dtype, memory, powers, options.rounds, compiled)
            ]
        else:
            measured = networks.measure(part, options.rounds, compiled)
        results["measured"] = measurement.merge(results["measured"], measured)
    described = machine.describe()
    commands = dict.fromkeys([*results["machine"].get("commands", []), described.pop("command")])
    results["machine"] = described | {"torch_threads": torch.get_num_threads(), "commands": list(commands)}
    if options.small is not None:
        print(table.render(results))
        return
    storage.save(results, stored)
    (folder / "training.md").write_text(table.render(results))
    plots.write(results, folder)
    print(f"stored in {folder}")
