"""``python -m benchmarks peers``: planted dead units, read by this package and by others that look for dead units.

Each reads the same networks on the same data; `networks` plants the units, `readers` drives the packages, `scores` says
what counts as found. They take turns, and the time of each is held against that of the plain forward pass. A package
that is not installed is left out, and named. Results: ``peers.json`` and ``peers.md``.

``make bench-peers`` runs it in a virtual environment of its own, with the versions of ``requirements.txt``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import pathlib
from typing import Any

import torch

import leakyrelu
from benchmarks import harness, machine, storage
from benchmarks.peers import networks, readers, table
from benchmarks.peers.scores import score

PLAIN = "plain forward pass"


def _quietly(read: Any, *arguments: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return read(*arguments)


def measure(case: networks.Case, installed: list[readers.Reader], rounds: int) -> list[dict[str, Any]]:
    """Let every reader read one network: what it found and how long it took, or why it could not."""
    rows: list[dict[str, Any]] = []
    runs: dict[str, Any] = {PLAIN: functools.partial(readers.forward, case.model, case.batches)}
    for reader in installed:
        row: dict[str, Any] = {"case": case.name, "reader": reader.name}
        rows.append(row)
        try:
            said = _quietly(reader.read, case.model, case.batches)
        except Exception as error:  # of a package that is measured, whatever it is
            row["error"] = f"{type(error).__name__}: {error}"
            continue
        row |= score(reader, case, said)._asdict()
        runs[reader.name] = functools.partial(_quietly, reader.read, case.model, case.batches)
    seconds = harness.interleave(runs, rounds, threads=torch.get_num_threads() > 1)
    plain = seconds.pop(PLAIN)
    for row in rows:
        if row["reader"] in seconds:
            row |= {"plain_seconds": plain.median, "seconds": seconds[row["reader"]]}
    return rows


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks peers", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--width", type=int, default=256, help="features of the perceptrons; 8 a channel of the others")
    parser.add_argument("--batch", type=int, default=128, help="samples in a batch; 8 an image")
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--size", type=int, default=16, help="height and width of the images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results (default: by the machine's name)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    leakyrelu.set_num_threads(options.threads)
    installed = [reader for reader in readers.READERS if reader.version]
    cases = networks.cases(options.width, options.batch, options.batches, options.size)
    results = {
        "machine": machine.describe(),
        "readers": [
            {"name": reader.name, "version": reader.version, "reports": reader.reports} for reader in readers.READERS
        ],
        "measured": [row for case in cases for row in measure(case, installed, options.rounds)],
    }
    folder = options.save or storage.RESULTS / machine.name()
    storage.save(results, folder / "peers.json")
    (folder / "peers.md").write_text(table.render(results))
    print(table.render(results))
    print(f"stored in {folder}")
