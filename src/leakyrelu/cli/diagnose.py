"""``leakyrelu diagnose``: the report on the units of a model."""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leakyrelu._text import type_and_first_line
from leakyrelu.cli.datasets import Images, load_checkpoint, read_arrays, the_array
from leakyrelu.cli.errors import CommandError
from leakyrelu.cli.models import build_model, load_exported, load_scripted
from leakyrelu.cli.outputs import check_outputs, write_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from leakyrelu.cli.datasets import Arrays
    from leakyrelu.diagnosis.report import Report

    Source = Arrays | Images
    Progress = Callable[[int], object]

_FAIL_ON = ("silent", "always-on", "saturated", "nan")


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
    limits = [_limit(text) for text in fail_on or ()]
    check_outputs(html, json, png, {"--data": data, "--checkpoint": checkpoint})
    if batch_size < 1:
        raise CommandError(f"--batch-size must be at least 1, got {batch_size}")
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
    write_outputs(
        (json, report.to_json), (html, partial(report.to_html, title=title)), (png, partial(report.to_png, title=title))
    )
    exceeded = False
    for kind, limit in limits:
        count = sum(len(getattr(layer, f"{kind.replace('-', '_')}_units")) for layer in report.layers)
        share = count / max(report.units, 1)
        if share > limit:
            exceeded = True
            text = f"{count} of {report.units} units {kind} ({share:.2%}), more than {limit:.4g}"
            typer.echo(f"leakyrelu: failed: {text}", err=True)
    if exceeded:
        raise typer.Exit(1)


def _limit(text: str) -> tuple[str, float]:
    """Read ``silent=10%`` or ``silent=0.1``: a kind of units and their largest allowed share."""
    match = re.fullmatch(r"\s*([a-z-]+)\s*=\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", text)
    if not match or match[1] not in _FAIL_ON:
        raise CommandError(f"--fail-on {text!r} is not one of {', '.join(_FAIL_ON)} with a share, such as silent=10%")
    share = float(match[2]) / (100 if match[3] else 1)
    if share > 1:
        raise CommandError(f"--fail-on {text!r} is more than all units; write a share such as 10% or 0.1")
    return match[1], share


def _report(target: str, source: Source, data: Path, checkpoint: Path | None, batch_size: int) -> Report:
    suffix = Path(target).suffix.lower()
    scripted = suffix in (".pt", ".pth", ".ts") and Path(target).is_file()
    in_file = "an ONNX file" if suffix == ".onnx" else "a program in a file" if scripted or suffix == ".pt2" else ""
    if in_file and checkpoint is not None:
        raise CommandError(f"--checkpoint is for MODULE:FACTORY; {in_file} has its weights")
    if suffix == ".onnx":
        return _onnx(target, source, data, batch_size)
    unit_axis = None
    if in_file:
        with _warnings_as_lines():
            model, unit_axis = (load_scripted if scripted else load_exported)(target)
    else:
        model = build_model(target)
        if checkpoint is not None:
            load_checkpoint(model, checkpoint)
    return _torch(target, model, unit_axis, source, data, batch_size)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print warnings as lines on standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        typer.echo(f"leakyrelu: {warning.message}", err=True)


def _onnx(target: str, source: Source, data: Path, batch_size: int) -> Report:
    from leakyrelu.onnx import diagnose
    from leakyrelu.onnx.census import require

    batches: Any
    if isinstance(source, Images):
        batches, total = source.batches(batch_size), len(source)
    else:
        batches, total = source, max((len(x) for x in source.values() if x.ndim), default=0)
        if len(source) == 1 or "X" in source:
            try:
                graph = require("onnx").load(target, load_external_data=False).graph
                constant = {tensor.name for tensor in graph.initializer}
                names = [value.name for value in graph.input if value.name not in constant]
            except Exception:  # the error of diagnose describes the file better
                names = []
            if len(names) == 1 and names[0] not in source:
                batches = the_array(data, source)[1]
    with _warnings_as_lines(), _progress_bar(total) as progress:
        try:
            return diagnose(target, batches, batch_size=batch_size, progress=progress)
        except (ValueError, TypeError, FileNotFoundError) as error:
            raise CommandError(str(error)) from None


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
    with _progress_bar(total) as progress:

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


@contextmanager
def _progress_bar(total: int) -> Iterator[Progress]:
    """Show a progress bar with rate and time left on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("samples"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("samples", total=total, rate="")

        def advance(done: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, rate=f"{speed:,.0f}/s" if speed else "")

        yield advance


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
