"""``leakyrelu study``: the side-by-side training, with a progress bar, a table, a sentence, and files on request."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leakyrelu._text import printable
from leakyrelu.cli.errors import CommandError
from leakyrelu.cli.options import MaxMemory, memory_size
from leakyrelu.cli.outputs import check_outputs, write_outputs
from leakyrelu.cli.printing import warnings_as_lines

if TYPE_CHECKING:
    from leakyrelu.study import Data, Settings, StudyResult


def study_command(
    depth: Annotated[int | None, typer.Option(help="Number of hidden layers. (default: 50)")] = None,
    width: Annotated[int | None, typer.Option(help="Number of units in each. (default: 64)")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training data. (default: 15; with --quick: 5)")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Trainings of each activation, with other random weights. (default: 5; with --quick: 2)"),
    ] = None,
    lr: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RATES", help="Learning rates, with commas or repeated; the best counts. (default: 3e-4,1e-3)"
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="An .npz file with arrays X (samples first) and y (labels). (default: the handwritten digits of "
            "scikit-learn)"
        ),
    ] = None,
    max_memory: MaxMemory = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts and the table to this file.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write every number to this file.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write a picture of the comparison to this file.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer epochs and seeds: a first look in seconds.")] = False,
) -> None:
    """Train one deep plain network with six activations, and report accuracy, silent units and gradients.

    ReLU; Leaky ReLU at 0.001, 0.01 and 0.2; the two slopes by formula. Same matrices, batches and optimizer for all;
    each at its own best learning rate on validation data. A formula without a solution at this depth is left out, and
    a line states so. Files are written only where asked for.
    """
    check_outputs({"--html": html, "--json": json, "--png": png}, {"--data": data})
    memory = memory_size(max_memory)
    given = {"depth": depth, "width": width, "epochs": epochs, "seeds": seeds}
    with warnings_as_lines():
        result = _with_progress(*_data_and_settings(data, memory, quick, lr, given))
    _print(result)
    if html or json or png:
        from leakyrelu.study.output import write_html, write_json, write_picture

        writers = ((json, write_json), (html, write_html), (png, write_picture))
        write_outputs(*((path, partial(write, result)) for path, write in writers))


def _data_and_settings(
    path: Path | None, memory: int, quick: bool, lr: list[str] | None, given: dict[str, int | None]
) -> tuple[Data, Settings]:
    from leakyrelu.study import QUICK, Settings, digits, load

    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        if lr:
            chosen["learning_rates"] = tuple(_rate(text) for text in ",".join(lr).split(","))
        settings = dataclasses.replace(QUICK if quick else Settings(), **chosen)
        return digits() if path is None else load(path, max_memory=memory), settings
    except ValueError as error:
        raise CommandError(str(error)) from None


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"a learning rate must be a number, got {text!r}") from None


def _with_progress(data: Data, settings: Settings) -> StudyResult:
    from rich import progress
    from rich.console import Console

    from leakyrelu.study import run_study

    columns = (
        progress.TextColumn("{task.description:<12}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def show(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name)

        return run_study(data, settings, progress=show)


def _print(result: StudyResult) -> None:
    from rich.console import Console

    from leakyrelu.study.conclusion import concluding_sentence
    from leakyrelu.study.table import LEGEND, sources, terminal_table

    console = Console(highlight=False, emoji=False)
    console.print(terminal_table(result))
    console.print()
    for line in (LEGEND, f"Slopes: {sources(result)}.", *result.left_out):
        console.print(line, style="dim", markup=False)
    console.print()
    console.print(printable(concluding_sentence(result)), markup=False)
