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
    help="Choose the slope of a Leaky ReLU by formula, see which units died, and train six activations side by side.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("study")(study_command)
app.command("diagnose")(diagnose_command)
app.command("memory")(memory_command)
app.command("slope")(slope_command)


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
