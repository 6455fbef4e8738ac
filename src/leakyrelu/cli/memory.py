"""``leakyrelu memory``: the bytes that a training step of a model keeps, now and after `save_memory`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from leakyrelu._text import counted, printable, shorten, type_and_first_line, wrapped
from leakyrelu.cli.errors import CommandError
from leakyrelu.cli.inputs import random_input
from leakyrelu.cli.models import build_model
from leakyrelu.cli.printing import warnings_as_lines

if TYPE_CHECKING:
    from leakyrelu.torch import ActivationMemory, Replacement


def memory_command(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:FACTORY", help="What builds the model, such as package.module:make_model.")
    ],
    input: Annotated[str, typer.Option(help="Shape of one batch of inputs, such as 16x3x224x224.")],  # noqa: A002
) -> None:
    """Count the bytes that autograd keeps of one forward pass, layer by layer, as the model is and after save_memory.

    leakyrelu.torch.save_memory changes a model so that it keeps less for the same gradients. For a model with ReLUs a
    third column shows what is kept once they are Leaky ReLUs, which is another function. For example:
    leakyrelu memory mynet:make_model --input 16x3x224x224

    FACTORY is called without arguments and returns a torch.nn.Module; a module itself is accepted. The input is filled
    with random numbers, in the dtype and on the device of the model's parameters.
    """
    with warnings_as_lines():
        model = build_model(target)
        from torch import nn

        from leakyrelu.torch import activation_memory, restore, save_memory

        x = random_input(model, input)
        replaced = None
        try:
            columns = {"bytes now": activation_memory(model, x)}
            save_memory(model, x)
            columns["after save_memory"] = activation_memory(model, x)
            restore(model)
            if type(model) is not nn.ReLU:  # which no parent holds
                replaced = save_memory(model, x, replace_relu=_SLOPE).replaced
            if replaced is not None and (replaced.swapped or replaced.rewritten or replaced.stored):
                columns["with Leaky ReLU"] = activation_memory(model, x)
        except (Exception, SystemExit) as error:
            raise CommandError(
                f"{target} could not be run on an input of shape {tuple(x.shape)}: {type_and_first_line(error)}"
            ) from error
    _print(columns, replaced)


_SLOPE = 0.01


def _print(columns: dict[str, ActivationMemory], replaced: Replacement | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    before, *others = columns.values()
    rows = {module.name: module for column in reversed(columns.values()) for module in column.modules}
    order = dict.fromkeys(module.name for column in columns.values() for module in column.modules)
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_footer=True)
    table.add_column("module", footer="total")
    table.add_column("kind")
    # Three long titles would leave no room for names.
    titles = [title.replace(" ", "\n", 1) if others[1:] else title for title in columns]
    width = console.width - 3 * (1 + len(columns))  # between the columns
    for title, column in zip(titles, columns.values(), strict=True):
        total = f"{column.bytes:,}"
        table.add_column(title, justify="right", footer=total)
        width -= max(len(total), *map(len, title.split("\n")))
    # Names differ at their ends: what does not fit beside the other columns is cut off in front.
    kinds = min(max((len(module.kind) for module in rows.values()), default=0), width // 2)
    width = max(12, width - kinds)
    sizes = [{module.name: f"{module.bytes:,}" for module in column.modules} for column in columns.values()]
    for name in order:
        short = name if len(name) <= width else "\u2026" + name[1 - width :]
        row = [Text(printable(text)) for text in (short or "(model)", shorten(rows[name].kind, kinds))]
        table.add_row(*row, *(column.get(name, "0") for column in sizes))
    console.print(table)
    console.print(
        "\nKept by autograd after one forward pass, each storage once. Apart: the input\n"
        f"{before.input_bytes:,}, parameters and buffers {before.parameter_bytes:,}."
    )
    if before.bytes:
        console.print(f"save_memory keeps {others[0].bytes / before.bytes:.3f} of it.")
    if others[1:] and replaced is not None:
        share = f", and keeps {others[1].bytes / before.bytes:.3f} of it" if before.bytes else ""
        calls = sum(number for _, _, number in replaced.rewritten) + len(replaced.stored)
        text = (
            f"With Leaky ReLU: save_memory(model, x, replace_relu={_SLOPE}) changes the function that the model "
            f"computes{share}. It replaces {counted(len(replaced.layers), 'module')} and {counted(calls, 'call')}, and "
            f"leaves {len(replaced.left)}."
        )
        console.print("", *wrapped(text, 80, then=""), sep="\n")
