"""Rows of results by network: measured in processes of their own, and saved one by one beside those of earlier runs."""

from __future__ import annotations

import multiprocessing
import pathlib
import time
from typing import TYPE_CHECKING, Any

from benchmarks import machine, storage
from benchmarks.zoo.networks import chosen

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose networks and where results go."""
    parser.add_argument("words", nargs="*", help="networks whose name contains one of these (default: all)")
    parser.add_argument("--every", type=int, default=1, help="one network in so many")
    parser.add_argument("--missing", action="store_true", help="only networks that no earlier run has measured")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time (default: 1)")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no further network after so long")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results (default: by the machine's name)")


def folder(options: argparse.Namespace) -> pathlib.Path:
    """Return the folder for the results."""
    chosen_folder: pathlib.Path | None = options.save
    return chosen_folder or storage.RESULTS / machine.name()


def collect(
    path: pathlib.Path,
    work: Callable[[str], dict[str, Any]],
    options: argparse.Namespace,
    choose: Callable[[list[str]], Iterable[str]] = chosen,
) -> dict[str, Any]:
    """Run a function on each network that was chosen, and return the results, which are saved after each.

    A row of an earlier run stays until its network is measured again. Each has the number of its run, which says the
    commit and the command; a network that raises an error is listed with it.
    """
    earlier = storage.load(path) if path.exists() else {}
    host = machine.describe()
    runs = [*earlier.get("runs", []), {"commit": host.pop("commit"), "command": host.pop("command")}]
    rows, failed = dict(earlier.get("networks", {})), dict(earlier.get("failed", {}))
    results = {"machine": host, "runs": runs, "networks": rows, "failed": failed}
    names = [name for name in list(choose(options.words))[:: options.every] if not (options.missing and name in rows)]
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with context.Pool(options.jobs, maxtasksperchild=8) as pool:
        for name, row, error in pool.imap_unordered(_Task(work, start + 60 * options.minutes), names):
            if error == _TOO_LATE:
                continue
            rows.pop(name, None)
            failed.pop(name, None)
            if error:
                failed[name] = error
                print(f"{name}: {error}", flush=True)
            else:
                rows[name] = {"run": len(runs) - 1, **row}
                print(f"{name}: {rows[name]}", flush=True)
            storage.save(results, path)
    return results


def commits(results: dict[str, Any]) -> str:
    """Name the commits that the rows of results were measured at, and how many at each where they are several."""
    counts: dict[str, int] = {}
    for row in results["networks"].values():
        commit = results["runs"][row["run"]]["commit"]
        counts[commit] = counts.get(commit, 0) + 1
    if len(counts) == 1:
        return f"commit {next(iter(counts))}"
    return "commits " + ", ".join(f"{commit} ({count} networks)" for commit, count in counts.items())


def failures(results: dict[str, Any]) -> list[str]:
    """List the networks that could not be measured, with their errors, as lines of Markdown."""
    if not results["failed"]:
        return []
    return ["", "## Not measured", "", *(f"- {name}: {error}" for name, error in results["failed"].items())]


_TOO_LATE = "not begun in time"


class _Task:
    """A function of a network's name in another process; it has no deadline where that is not after its making."""

    def __init__(self, work: Callable[[str], dict[str, Any]], deadline: float) -> None:
        self.work = work
        self.deadline = deadline if deadline > time.monotonic() else float("inf")

    def __call__(self, name: str) -> tuple[str, dict[str, Any], str]:
        if time.monotonic() > self.deadline:
            return name, {}, _TOO_LATE
        try:
            return name, self.work(name), ""
        except Exception as error:  # the library's code may raise anything, and the others are to be measured
            return name, {}, f"{type(error).__name__}: {error}".splitlines()[0][:200]
