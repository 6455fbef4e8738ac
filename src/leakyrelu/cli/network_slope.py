"""``leakyrelu slope MODULE:FACTORY``: the slope of a network, from its own graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakyrelu._text import printable, type_and_first_line, wrapped
from leakyrelu.cli.errors import CommandError
from leakyrelu.cli.inputs import random_input
from leakyrelu.cli.models import build_model
from leakyrelu.cli.outputs import check_outputs, write_outputs
from leakyrelu.cli.printing import progress_bar, warnings_as_lines

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from leakyrelu.torch import SlopeChoice, SlopeMeasurement


def print_network_slope(
    target: str, shape: str, eta: float, is_measured: bool, json: Path | None, html: Path | None
) -> None:
    """Choose the slope of a network, print the table and the sentence, measure it, and write the files asked for."""
    check_outputs({"--json": json, "--html": html}, {}, target)
    with warnings_as_lines():
        model = build_model(target)
        from leakyrelu.torch import choose_slope
        from leakyrelu.torch.slope.page import write_choice

        x = random_input(model, shape)
        try:
            choice = choose_slope(model, x, eta=eta)
        except (Exception, SystemExit) as error:
            raise CommandError(
                f"no slope could be chosen for {target} on an input of shape {tuple(x.shape)}: "
                f"{type_and_first_line(error)}"
            ) from error
        measured = _measure(target, x, eta) if is_measured else None
    _print(choice)
    if measured is not None:
        lines = repr(measured).splitlines()
        print("\nmeasured, with weights drawn by initialize:", *map(printable, lines), sep="\n")
    write_outputs((json, choice.to_json), (html, lambda path: write_choice(choice, path, f"Slope of {target}")))


def _measure(target: str, x: Tensor, eta: float) -> SlopeMeasurement:
    from leakyrelu.torch import initialize, measure_slope

    def make(slope: float) -> nn.Module:
        model = build_model(target)
        initialize(model, slope, x)
        return model

    with progress_bar(1, "forward passes") as progress:
        try:
            return measure_slope(make, x, eta, progress=progress)
        except (Exception, SystemExit) as error:
            raise CommandError(f"the slope of {target} could not be measured: {type_and_first_line(error)}") from error


def _print(choice: SlopeChoice) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("similarity behind")
    columns = choice.columns()
    for title in columns:
        table.add_column(f"slope {title}", justify="right")
    width = max(console.width - 14 * len(columns), 12)
    for layer, *values in zip(choice.layers, *columns.values(), strict=True):
        name = layer.name if len(layer.name) <= width else "…" + layer.name[1 - width :]
        table.add_row(Text(printable(name)), *(f"{value:.3f}" for value in values))
    console.print(table)
    for line in ("", *repr(choice).splitlines()):
        console.print(*wrapped(printable(line), 80, then="  "), sep="\n", markup=False)
    if choice.slope is not None:
        console.print(
            "\nfrom leakyrelu.torch import initialize, replace_relu\n"
            f"replace_relu(model, {choice.slope!r})\ninitialize(model, {choice.slope!r}, x)  # x: a batch of inputs",
            markup=False,
        )
