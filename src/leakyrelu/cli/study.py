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
    network: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="mlp (plain), cnn (plain, convolutional), resnet (x + f(x), no normalization) or resnet-bn (with "
            "batch normalization).",
        ),
    ] = "mlp",
    depth: Annotated[
        int | None, typer.Option(help="Number of hidden layers. (default: 50; cnn: 30; residual: 31)")
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Number of units or channels in each. (default: 64; other than mlp: 16)")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the training data, at most. (default: 15; other than mlp: 60; with --quick: 5)"),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop a training once the best validation accuracy of so many epochs is at most 0.2 points above the "
            "best before; 0: never. (default: 0; other than mlp: 10)"
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Trainings of each activation, with other random weights. (default: 5; with --quick: 2)"),
    ] = None,
    lr: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RATES",
            help="Learning rates, with commas or repeated; the best counts. (default: 3e-4,1e-3; other than mlp: also "
            "3e-3)",
        ),
    ] = None,
    extend: Annotated[
        int | None,
        typer.Option(
            help="Where the best learning rate of a row is its lowest or highest, try further ones, so many at most. "
            "(default: 0; other than mlp: 4)"
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="digits (handwritten, of scikit-learn), mnist1d (MNIST-1D, generated) or an .npz file with arrays X "
            "(samples first) and y (labels). (default: digits)"
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Processes that train side by side. (default: one for each CPU, at most 8)"),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Train on the workers of this Dask scheduler, such as tcp://10.0.0.1:8786."
        ),
    ] = None,
    max_memory: MaxMemory = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts and the table to this file.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write every number to this file.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write a picture of the comparison to this file.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer epochs and seeds: a first look in seconds.")] = False,
) -> None:
    """Train one deep network with seven activations, and report accuracy, silent units and gradients.

    ReLU; Leaky ReLU at 0.001, 0.01 and 0.2; the two slopes by formula; PReLU. Same matrices, batches and optimizer for
    all; each at its own best learning rate on validation data. A formula that names no slope for this network is left
    out, and a line states so. Files are written only where asked for.
    """
    check_outputs({"--html": html, "--json": json, "--png": png}, {"--data": data})
    memory = memory_size(max_memory)
    if jobs is not None and jobs < 1:
        raise CommandError(f"--jobs must be at least 1, got {jobs}")
    if jobs and scheduler:
        raise CommandError("--jobs is for processes of this machine and --scheduler for a cluster: give one of them")
    given = {
        "depth": depth,
        "width": width,
        "epochs": epochs,
        "seeds": seeds,
        "patience": patience,
        "extensions": extend,
    }
    with warnings_as_lines():
        settings = _settings(network, quick, lr, given)
        result = _with_progress(_data(data, memory), settings, workers=jobs, scheduler=scheduler)
    _print(result)
    if html or json or png:
        from leakyrelu.study.output import write_html, write_json, write_picture

        writers = ((json, write_json), (html, write_html), (png, write_picture))
        write_outputs(*((path, partial(write, result)) for path, write in writers))


def _settings(network: str, quick: bool, lr: list[str] | None, given: dict[str, int | None]) -> Settings:
    from leakyrelu.study import default_settings

    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        if lr:
            chosen["learning_rates"] = tuple(_rate(text) for text in ",".join(lr).split(","))
        return dataclasses.replace(default_settings(network, quick=quick), **chosen)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _data(path: Path | None, memory: int) -> Data:
    from leakyrelu.study import SETS, load

    try:
        if path is None or str(path) in SETS:
            return SETS[str(path or "digits")]()
        return load(path, max_memory=memory)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"a learning rate must be a number, got {text!r}") from None


def _with_progress(data: Data, settings: Settings, **where: Any) -> StudyResult:
    from rich import progress
    from rich.console import Console

    from leakyrelu.study import DataError, SchedulerError, run_study

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

        try:
            return run_study(data, settings, progress=show, **where)
        except (DataError, SchedulerError) as error:
            raise CommandError(str(error)) from None


def _print(result: StudyResult) -> None:
    from rich.console import Console

    from leakyrelu.study.conclusion import concluding_sentence, formula_sentence, search_lines
    from leakyrelu.study.table import LEGEND, sources, terminal_table

    console = Console(highlight=False, emoji=False)
    console.print(terminal_table(result))
    console.print()
    for line in (LEGEND, f"Slopes: {sources(result)}.", *result.left_out, *search_lines(result)):
        console.print(line, style="dim", markup=False)
    console.print()
    console.print(printable(concluding_sentence(result)), markup=False)
    console.print()
    console.print(printable(formula_sentence(result)), markup=False)
