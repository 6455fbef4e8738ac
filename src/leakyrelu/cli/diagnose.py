"""``leakyrelu diagnose``: the report on the units of a model."""

from __future__ import annotations

import importlib
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leakyrelu._text import type_and_first_line
from leakyrelu.cli.datasets import Images, load_checkpoint, read_arrays, the_array
from leakyrelu.cli.errors import CommandError, check_outputs
from leakyrelu.cli.fail_on import parse_limits
from leakyrelu.cli.models import build_model, load_exported, load_scripted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from leakyrelu.cli.datasets import Arrays
    from leakyrelu.diagnosis.report import Report

    Source = Arrays | Images
    Progress = Callable[[int], object]


def diagnose_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="MODULE:FACTORY, such as package.module:make_model; an .onnx or .pt2 file; or a TorchScript file "
            "(.pt, .pth, .ts).",
        ),
    ],
    data: Annotated[Path, typer.Option(help="An .npy or .npz file, samples first, or a folder of images.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights for FACTORY's model: .safetensors, or a state_dict saved by PyTorch.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Samples at a time.")] = 256,
    html: Annotated[Path | None, typer.Option(help="Write the page here.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write every number here.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the picture here.")] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=SHARE",
            help="End with status 1 where more than this share of the units is KIND (silent, always-on, saturated, "
            "nan), such as silent=10%. May be repeated.",
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(metavar="HEIGHTxWIDTH", help="Resize images (bilinear). Otherwise they stay as they are."),
    ] = None,
    image_mean: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="Taken off the pixels, which are 0 to 255. (default: nothing)")
    ] = None,
    image_std: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="What the pixels are divided by. (default: 1)")
    ] = None,
) -> None:
    """Run data through a model and report which of its units are silent or always on, and what to do about it.

    FACTORY is called without arguments and returns a torch.nn.Module with its weights; a module itself is accepted. The
    current folder is searched for MODULE first. An .npz file holds an array X, or, for an ONNX model of several
    inputs, an array for each by name.
    """
    limits = parse_limits(fail_on or ())
    check_outputs({"--html": html, "--json": json, "--png": png}, {"--data": data, "--checkpoint": checkpoint})
    if batch_size < 1:
        raise CommandError(f"--batch-size must be at least 1, got {batch_size}")
    if html or png:
        for module in ("altair", "vl_convert", "jinja2"):  # before the work, not after it
            importlib.import_module(module)
    source: Source
    if data.is_dir():
        source = Images(data, _size(image_size), _three("--image-mean", image_mean), _three("--image-std", image_std))
    else:
        if given := [name for name, value in (("size", image_size), ("mean", image_mean), ("std", image_std)) if value]:
            raise CommandError(f"--image-{given[0]} is for a folder of images, and {data} is none")
        source = read_arrays(data)
    report = _report(target, source, data, checkpoint, batch_size)

    from leakyrelu.diagnosis.render.terminal import print_report

    print_report(report)
    title = f"What the units of {target} do"
    try:
        for path, write in ((json, lambda p: report.to_json(p)), (html, lambda p: report.to_html(p, title=title))):
            if path:
                write(path)
        if png:
            report.to_png(png, title=title)
    except OSError as error:
        raise CommandError(f"{error.filename or 'a file'} could not be written: {error.strerror or error}") from None
    for path in (json, html, png):
        if path:
            typer.echo(f"Wrote {path}")
    if exceeded := [text for limit in limits if (text := limit.exceeded_by(report))]:
        for text in exceeded:
            typer.echo(f"leakyrelu: failed: {text}", err=True)
        raise typer.Exit(1)


def _report(target: str, source: Source, data: Path, checkpoint: Path | None, batch_size: int) -> Report:
    suffix = Path(target).suffix.lower()
    if suffix == ".onnx":
        if checkpoint is not None:
            raise CommandError("--checkpoint is for MODULE:FACTORY; an ONNX file has its weights")
        return _onnx(target, source, data, batch_size)
    scripted = suffix in (".pt", ".pth", ".ts") and Path(target).is_file()
    if scripted or suffix == ".pt2":
        if checkpoint is not None:
            raise CommandError("--checkpoint is for MODULE:FACTORY; a program in a file has its weights")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            model, unit_axis = (load_scripted if scripted else load_exported)(target)
        for warning in caught:
            typer.echo(f"leakyrelu: {warning.message}", err=True)
        return _torch(target, model, unit_axis, source, data, batch_size)
    model = build_model(target)
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
    return _torch(target, model, None, source, data, batch_size)


def _onnx(target: str, source: Source, data: Path, batch_size: int) -> Report:
    from leakyrelu.onnx import diagnose

    batches: Any
    if isinstance(source, Images):
        batches, total = source.batches(batch_size), len(source)
    else:
        batches, total = source, max((len(x) for x in source.values() if x.ndim), default=0)
        if len(source) == 1 or "X" in source:
            try:
                names = [value.name for value in _onnx_inputs(target)]
            except Exception:  # the error of diagnose says more about the file
                names = []
            if len(names) == 1 and names[0] not in source:
                batches = the_array(data, source)[1]
    with _bar(total) as progress, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            report = diagnose(target, batches, batch_size=batch_size, progress=progress)
        except (ValueError, TypeError, FileNotFoundError) as error:
            raise CommandError(str(error)) from None
    for warning in caught:
        typer.echo(f"leakyrelu: {warning.message}", err=True)
    return report


def _onnx_inputs(target: str) -> list[Any]:
    from leakyrelu.onnx.census import require

    graph = require("onnx").load(target, load_external_data=False).graph
    constant = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in constant]


def _torch(
    target: str, model: nn.Module, unit_axis: dict[str, int] | None, source: Source, data: Path, batch_size: int
) -> Report:
    import torch

    from leakyrelu.torch import diagnose, watch
    from leakyrelu.torch.diagnosis.model_report import NoRectifierError

    try:
        watch(model, unit_axis=unit_axis)  # raises what is wrong with the model itself, before anything runs
    except (TypeError, ValueError) as error:
        raise CommandError(f"{target}: {error}") from None
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    dtype = weight.dtype if weight is not None else torch.float32
    if isinstance(source, Images):
        what, whole = f"images of {data}", True
        total, parts = len(source), source.batches(batch_size)
    else:
        name, x = the_array(data, source)
        what, whole = f"{name} of shape {tuple(x.shape)} and dtype {x.dtype}", x.dtype.kind == "f"
        total, parts = len(x), (x[i : i + batch_size] for i in range(0, len(x), batch_size))
        try:
            torch.from_numpy(x[:1])
        except TypeError:
            raise CommandError(
                f"{data}: {name} has dtype {x.dtype}, which PyTorch does not know; save as float32"
            ) from None
    with _bar(total) as progress:

        def batches() -> Iterator[torch.Tensor]:
            done = 0
            for part in parts:
                tensor = torch.from_numpy(part)
                yield tensor.to(dtype) if tensor.is_floating_point() else tensor
                done += len(part)
                progress(done)

        try:
            return diagnose(model, batches(), unit_axis=unit_axis)
        except CommandError:
            raise
        except NoRectifierError as error:
            raise CommandError(f"{target}: {error}") from None
        except Exception as error:
            hint = "" if whole else "; where the model wants real numbers, save X as float32"
            raise CommandError(f"the model could not be run on {what}: {type_and_first_line(error)}{hint}") from error


class _bar:  # noqa: N801 - used as a function
    """A progress bar on standard error with rate and time left, where that is a terminal."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("samples"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("samples", total=total, rate="")

    def __enter__(self) -> Progress:
        self.progress.start()
        return self._advance

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def _advance(self, done: int) -> None:
        speed = self.progress.tasks[0].speed
        self.progress.update(self.task, completed=done, rate=f"{speed:,.0f}/s" if speed else "")


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match or "0" in (match[1], match[2]):
        raise CommandError(f"--image-size {text!r} is not HEIGHTxWIDTH, such as 224x224")
    return int(match[1]), int(match[2])


def _three(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3) or (option == "--image-std" and 0.0 in values):
        raise CommandError(f"{option} {text!r} is not one number or three, such as 123.7,116.3,103.5")
    return values
