"""``leakyrelu memory``: the bytes that a training step of a model keeps, now and after `save_memory`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from leakyrelu._text import printable, type_and_first_line
from leakyrelu.cli.errors import CommandError
from leakyrelu.cli.models import build_model
from leakyrelu.cli.printing import warnings_as_lines

if TYPE_CHECKING:
    from torch import nn

    from leakyrelu.torch import ActivationMemory


def memory_command(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:FACTORY", help="What builds the model, such as package.module:make_model.")
    ],
    input: Annotated[str, typer.Option(help="Shape of one batch of inputs, such as 16x3x224x224.")],  # noqa: A002
) -> None:
    """Count the bytes that autograd keeps of one forward pass, layer by layer, as the model is and after save_memory.

    leakyrelu.torch.save_memory changes a model so that it keeps less for the same gradients. For example:
    leakyrelu memory mynet:make_model --input 16x3x224x224

    FACTORY is called without arguments and returns a torch.nn.Module; a module itself is accepted. The input is filled
    with random numbers, in the dtype and on the device of the model's parameters.
    """
    shape = _shape(input)
    with warnings_as_lines():
        model = build_model(target)
        before = _measure(model, shape, target)
        from leakyrelu.torch import save_memory

        save_memory(model)
        after = _measure(model, shape, target)
    _print(before, after)


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise CommandError(
            f"--input {text!r} is no shape; write sizes of at least 1 with x between, such as 16x3x224x224"
        )
    return shape


def _measure(model: nn.Module, shape: tuple[int, ...], target: str) -> ActivationMemory:
    import torch

    from leakyrelu.torch import activation_memory

    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    try:
        return activation_memory(model, torch.randn(shape, dtype=weight.dtype, device=weight.device))
    except (Exception, SystemExit) as error:
        raise CommandError(
            f"{target} could not be run on an input of shape {shape}: {type_and_first_line(error)}"
        ) from error


def _print(before: ActivationMemory, after: ActivationMemory) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_footer=True)
    table.add_column("module", footer="total")
    table.add_column("kind")
    table.add_column("bytes now", justify="right", footer=f"{before.bytes:,}")
    table.add_column("after save_memory", justify="right", footer=f"{after.bytes:,}")
    console = Console(highlight=False, soft_wrap=True)
    now = {module.name: module for module in before.modules}
    then = {module.name: module for module in after.modules}
    kinds = max((len(module.kind) for module in (now | then).values()), default=0)
    # Names differ at their ends: what does not fit beside the other columns is cut off in front.
    numbers = max(len("bytes now"), len(f"{before.bytes:,}")) + len("after save_memory")
    width = max(12, console.width - kinds - numbers - 10)
    for name in [*now, *(name for name in then if name not in now)]:
        short = name if len(name) <= width else "\u2026" + name[1 - width :]
        row = [Text(printable(text)) for text in (short or "(model)", (now.get(name) or then[name]).kind)]
        sizes = [f"{column[name].bytes:,}" if name in column else "0" for column in (now, then)]
        table.add_row(*row, *sizes)
    console.print(table)
    console.print(
        "\nKept by autograd after one forward pass, each storage once. Apart: the input\n"
        f"{before.input_bytes:,}, parameters and buffers {before.parameter_bytes:,}."
    )
    if before.bytes:
        console.print(f"save_memory keeps {after.bytes / before.bytes:.3f} of it.")
