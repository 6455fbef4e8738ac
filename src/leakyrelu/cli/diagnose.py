"""``leakyrelu diagnose``: the report on the units of a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from leakyrelu._text import printable
from leakyrelu.cli import options
from leakyrelu.cli.datasets import Images, read_data
from leakyrelu.cli.errors import CommandError
from leakyrelu.cli.outputs import check_outputs, write_outputs
from leakyrelu.cli.printing import print_line, warnings_as_lines
from leakyrelu.cli.running import report_on

if TYPE_CHECKING:
    from leakyrelu.cli.running import Source


def diagnose_command(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="The model: MODULE:FACTORY, such as package.module:make_model, or a file of ONNX (.onnx), "
            "torch.export (.pt2) or TorchScript (.pt, .pth, .ts).",
        ),
    ],
    data: Annotated[Path, typer.Option(help="The data: an .npy or .npz file, samples first, or a folder of images.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Weights for the model of FACTORY: a .safetensors file, or a state_dict saved by PyTorch."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Samples that go through the model at a time.")] = 256,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts and tables to this file.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write every number to this file.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write a picture of the units to this file.")] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=SHARE",
            help="End with status 1 where more than this share of the units is KIND (silent, always-on, saturated, "
            "nan), such as silent=10%. May be repeated.",
        ),
    ] = None,
    unit_axis: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=AXIS",
            help="Which axis of its input holds the units of an activation, such as encoder.act=2, where the report "
            "says that this is an assumption. May be repeated.",
        ),
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Resize images to this size. (default: as they are)")
    ] = None,
    image_mean: Annotated[
        str | None,
        typer.Option(
            metavar="R,G,B",
            help="Subtract this from the pixels, which are 0 to 255, in grayscale images of 16 bits 0 to 65535. "
            "(default: 0)",
        ),
    ] = None,
    image_std: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="Then divide the pixels by this. (default: 1)")
    ] = None,
    max_memory: options.MaxMemory = None,
) -> None:
    """Run data through a model and report which of its units are silent or always on, and what to do about it.

    A unit is an output channel of a layer with an activation such as ReLU. It is silent where the input of its
    activation was positive for no sample: a ReLU then gives 0 and passes no gradient. For example:
    leakyrelu diagnose mynet:make_model --data samples.npy --checkpoint weights.pt --html report.html

    FACTORY is called without arguments and returns a torch.nn.Module with its weights; a module itself is accepted. The
    current folder is searched for MODULE first. An .npz file holds an array X, or, for an ONNX model of several
    inputs, an array for each by name. The exit status is 0, 1 where --fail-on is exceeded, or 2 where something cannot
    be used, with the reason in one line.
    """
    limits = [options.limit(text) for text in fail_on or ()]
    axes = dict(options.unit_axis(text) for text in unit_axis or ())
    size, mean = options.image_size(image_size), options.by_channel("--image-mean", image_mean)
    std = options.by_channel("--image-std", image_std)
    memory = options.memory_size(max_memory)
    outputs = {"--html": html, "--json": json, "--png": png}
    check_outputs(outputs, {"--data": data, "--checkpoint": checkpoint}, target)
    if batch_size < 1:
        raise CommandError(f"--batch-size must be at least 1, got {batch_size}")
    with warnings_as_lines():
        source: Source
        if data.is_dir():
            source = Images(data, size, mean, std)
        else:
            for name, value in (("size", size), ("mean", mean), ("std", std)):
                if value is not None:
                    raise CommandError(f"--image-{name} is for a folder of images, and {data} is none")
            source = read_data(data, memory)
        report = report_on(target, source, data, checkpoint, batch_size, ["leakyrelu", *context.obj], axes)

    from leakyrelu.diagnosis.render.terminal import print_report

    print_report(report)
    title = printable(f"What the units of {target} do")
    write_outputs(
        (json, report.to_json), (html, partial(report.to_html, title=title)), (png, partial(report.to_png, title=title))
    )
    failures = []
    for limit in limits:
        count = sum(len(getattr(layer, f"{limit.kind.replace('-', '_')}_units")) for layer in report.layers)
        failures.append(limit.exceeded(count, report.units))
    for failure in filter(None, failures):
        print_line(f"failed: {failure}")
    if any(failures):
        raise typer.Exit(1)
