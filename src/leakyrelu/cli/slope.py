"""``leakyrelu slope``: the slope of a model, or both formulas at one depth with lines of PyTorch to paste."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import Annotated

import typer

from leakyrelu import slope as formulas
from leakyrelu.cli.errors import CommandError
from leakyrelu.cli.network_slope import print_network_slope

_DASH = "–"


def slope_command(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[MODULE:FACTORY]", help="What builds a model, such as package.module:make_model."),
    ] = None,
    input: Annotated[  # noqa: A002
        str | None, typer.Option(help="With a model: shape of one batch of inputs, such as 8x3x224x224.")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(help="Without a model: number of activation layers.  [default: 50]")
    ] = None,
    eta: Annotated[
        float,
        typer.Option(
            help="Largest cosine similarity of unrelated inputs, above 0 and below 1; also of the tailored slope."
        ),
    ] = 0.9,
    zeta: Annotated[
        float | None,
        typer.Option(
            help="For the centered slope: slope of the similarity map of the network at 1, above 1.  [default: 1.5]"
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="With a model: also initialize it 32 times and measure its slope (minutes)."),
    ] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="With a model: write the answer as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="With a model: write the answer as a page.")] = None,
) -> None:
    """Choose the slope of a model from its own graph, or compute those of two formulas for a depth.

    With MODULE:FACTORY and --input the model runs once, and the slope is chosen at which no part of it makes unrelated
    inputs more alike than eta, at initialization. For example: leakyrelu slope mynet:make_model --input 8x3x224x224

    Tailored: unrelated inputs leave a plain network of this depth with a given similarity. Centered: the activation has
    mean 0 and variance 1, and similar inputs move apart by a given factor. Without options it answers for 50 layers.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if target is not None:
        _refuse({"--depth": depth, "--zeta": zeta}, "is for a network of that depth; leave it out with MODULE:FACTORY")
        if input is None:
            raise CommandError(f"{target} needs --input, the shape of one batch of inputs, such as 8x3x224x224")
        _check_eta(eta)
        print_network_slope(target, input, eta, measure, json, html)
        return
    _refuse(
        {"--input": input, "--measure": measure or None, "--json": json, "--html": html},
        "is for a model; give MODULE:FACTORY, too",
    )
    depth, zeta = 50 if depth is None else depth, 1.5 if zeta is None else zeta
    if not 1 <= depth < 2**63:
        raise CommandError(f"--depth must be at least 1 and at most 2**63 - 1, got {depth}")
    _check_eta(eta)
    if not 1 < zeta < float("inf"):
        raise CommandError(f"--zeta must be a finite number above 1, got {zeta:g}")
    columns, lines, problems = [], [], []
    for name, formula, parameter in (("tailored", _tailored, eta), ("centered", _centered, zeta)):
        try:
            column, text = formula(depth, parameter)
            lines.append(text)
        except ValueError as error:
            column = [_DASH] * 7
            problems.append(f"{name}: {error}")
        columns.append(column)
    if not lines:
        raise CommandError("; ".join(problems))

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(f"depth {depth}")
    table.add_column(f"tailored, eta = {eta:g}", justify="right")
    table.add_column(f"centered, zeta = {zeta:g}", justify="right")
    names = ("slope", "shift", "scale", "mean", "variance", "gain", "similarity at the end")
    for name, *values in zip(names, *columns, strict=True):
        table.add_row(name, *values)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    relu, usual = formulas.correlation([0.0, 0.01], 0.0, depth)
    console.print(
        "\nThe activation is scale * (f(x) - shift), with f(x) = x if x > 0 else slope * x.\n"
        "In the lines below the weights hold the scale of the tailored one, as their gain.\n"
        "Mean, variance and gain are those of f for x ~ N(0, 1). Similarity is the cosine\n"
        f"of unrelated inputs after all layers; ReLU brings it to {relu:.3f}, slope 0.01 to {usual:.3f}.\n"
    )
    for problem in problems:
        console.print(problem + "\n", markup=False)
    console.print("from torch import nn\nfrom leakyrelu.torch import CenteredLeakyReLU, LeakyReLU\n", markup=False)
    console.print("\n\n".join(lines), markup=False)


def _refuse(options: dict[str, object], why: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise CommandError(f"{name} {why}")


def _check_eta(eta: float) -> None:
    if not 0 < eta < 1:
        raise CommandError(f"--eta must lie above 0 and below 1, got {eta:g}")


def _tailored(depth: int, eta: float) -> tuple[list[str], str]:
    alpha = formulas.tailored(depth, eta)
    gain = formulas.gain(alpha)
    return _column(alpha, 0.0, gain, formulas.correlation(alpha, 0.0, depth)), (
        f"# tailored: in linear layers behind an activation, biases 0\nactivation = LeakyReLU({alpha!r})\n"
        f"nn.init.orthogonal_(linear.weight, gain={gain!r})"
    )


def _centered(depth: int, zeta: float) -> tuple[list[str], str]:
    alpha = formulas.centered(depth, zeta)
    # Its mean is 0, so unrelated inputs stay unrelated.
    return _column(alpha, formulas.mean(alpha), formulas.variance(alpha) ** -0.5, 0.0), (
        f"# centered: in all linear layers, biases 0\nactivation = CenteredLeakyReLU({alpha!r})\n"
        "nn.init.orthogonal_(linear.weight)"
    )


def _column(alpha: float, shift: float, scale: float, similarity: float) -> list[str]:
    moments = (formulas.mean(alpha), formulas.variance(alpha), formulas.gain(alpha))
    return [f"{value:.6f}" for value in (alpha, shift, scale, *moments, similarity)]
