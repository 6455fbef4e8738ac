"""The application of Typer: the commands, and the options that they have in common."""

from __future__ import annotations

from typing import Annotated

import typer

import leakyrelu
from leakyrelu.cli.diagnose import diagnose_command
from leakyrelu.cli.memory import memory_command
from leakyrelu.cli.slope import slope_command
from leakyrelu.cli.study import study_command

app = typer.Typer(
    name="leakyrelu",
    help="Diagnose dead units, choose the slope of a Leaky ReLU by formula, count the memory of a training step, and "
    "train seven activations side by side. What goes wrong is one line; LEAKYRELU_TRACEBACK=1 in the environment "
    "prints where, too.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# Given in full, since Typer cuts the first sentence of a docstring.
app.command("diagnose", short_help="Find units that died, with remedies.")(diagnose_command)
app.command("slope", short_help="Choose a slope by formula.")(slope_command)
app.command("memory", short_help="Count what a training step keeps.")(memory_command)
app.command("study", short_help="Compare seven activations in training.")(study_command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"leakyrelu {leakyrelu.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
