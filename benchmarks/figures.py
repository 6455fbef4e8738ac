"""``python -m benchmarks figures``: write the figures of README, docs and result tables from the committed results.

In a page, the text between ``<!-- figure: NAME -->`` and ``<!-- /figure -->`` is a figure: a number in a sentence, or a
whole table. It is written by this command alone, from the results of the machine in `MACHINE`. ``--check`` writes
nothing, and fails if a file is not what the results give.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

from benchmarks import census, compare, storage
from benchmarks.arrays import table as arrays
from benchmarks.pairs import main as pairs
from benchmarks.peers import table as peers
from benchmarks.slope import choices
from benchmarks.slope import main as slope
from benchmarks.training import prelu
from benchmarks.training import table as training
from benchmarks.units import cost, revival
from benchmarks.units import main as units

if TYPE_CHECKING:
    import pathlib

MACHINE = "amd-epyc-25-17-x2"
# Stem of the table, and the module that writes it and knows the figures of the results, which have the same stem.
BENCHMARKS: dict[str, Any] = {
    "arrays": arrays,
    "training": training,
    "prelu": prelu,
    "census": census,
    "peers": peers,
    "compare": compare,
    "watch": cost,
    "units": units,
    "revive": revival,
    "pairs": pairs,
    "slope": slope,
    "choices": choices,
}
SOURCES = {"revive": "units"}
"""Tables of the results of another name."""
FIGURE = re.compile(r"(<!-- figure: ([^>]+?) -->)(.*?)(<!-- /figure -->)", re.DOTALL)


def pages() -> list[pathlib.Path]:
    """README and every page of the docs."""
    return [storage.ROOT / "README.md", *sorted((storage.ROOT / "docs").rglob("*.md"))]


def _source(folder: pathlib.Path, stem: str) -> pathlib.Path:
    return folder / f"{SOURCES.get(stem, stem)}.json"


def quoted(folder: pathlib.Path) -> dict[str, str]:
    """Every figure of the results in a folder, by name."""
    found: dict[str, str] = {}
    for stem, module in BENCHMARKS.items():
        if (source := _source(folder, stem)).exists():
            found |= module.figures(storage.load(source))
    return found


def fill(text: str, figures: dict[str, str], where: str) -> str:
    """Put the present figures between the marks of a page."""

    def replace(found: re.Match[str]) -> str:
        start, name, _, end = found.groups()
        if name not in figures:
            raise SystemExit(f"{where} quotes an unknown figure: {name}; there are: {', '.join(sorted(figures))}")
        value = figures[name]
        return f"{start}\n\n{value}\n\n{end}" if "\n" in value else f"{start}{value}{end}"

    return FIGURE.sub(replace, text)


def expected() -> dict[pathlib.Path, str]:
    """Make the text that each page and each table of results should hold."""
    found = {}
    for folder in sorted(storage.RESULTS.iterdir()):
        for stem, module in BENCHMARKS.items():
            if (source := _source(folder, stem)).exists():
                found[folder / f"{stem}.md"] = module.render(storage.load(source))
    figures = quoted(storage.RESULTS / MACHINE)
    for page in pages():
        found[page] = fill(page.read_text(encoding="utf-8"), figures, page.name)
    return found


def draw() -> None:
    """Draw the plots of all stored results again."""
    from benchmarks.arrays import plots as arrays_plots
    from benchmarks.training import plots as training_plots

    for folder in sorted(storage.RESULTS.iterdir()):
        for stem, plots in (("arrays", arrays_plots), ("training", training_plots)):
            if (folder / f"{stem}.json").exists():
                plots.write(storage.load(folder / f"{stem}.json"), folder)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks figures", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is stale")
    parser.add_argument("--plots", action="store_true", help="draw the plots of the stored results again, too")
    options = parser.parse_args(arguments)
    stale = {
        path: text for path, text in expected().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    names = ", ".join(str(path.relative_to(storage.ROOT)) for path in stale)
    if options.check:
        raise SystemExit(f"stale: {names}; run: make figures" if stale else 0)
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    if options.plots:
        draw()
    print(f"written: {names}" if stale else "every figure is that of the committed results")
