"""A model of any kind, run on the data: the report of ``leakyrelu diagnose``."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leakyrelu._extras import require
from leakyrelu._text import type_and_first_line
from leakyrelu.cli.checkpoints import load_checkpoint
from leakyrelu.cli.datasets import Images, the_array
from leakyrelu.cli.errors import CommandError
from leakyrelu.cli.interrupts import interruptible
from leakyrelu.cli.models import build_model, load_exported, load_scripted
from leakyrelu.cli.printing import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from leakyrelu.cli.datasets import Arrays
    from leakyrelu.diagnosis.report import Report

    Source = Arrays | Images

_SOURCES = {".onnx": "onnx", ".pt2": "exported", **dict.fromkeys((".pt", ".pth", ".ts"), "torchscript")}


def report_on(
    target: str,
    source: Source,
    data: Path,
    checkpoint: Path | None,
    batch_size: int,
    command: Sequence[str],
    unit_axis: dict[str, int],
) -> Report:
    """Run the data through what the target names, and return the report, which holds the command line."""
    kind = _SOURCES.get(Path(target).suffix.lower(), "model")
    if kind == "torchscript" and not Path(target).is_file():
        if ":" not in target:
            raise CommandError(f"{target} does not exist")
        kind = "model"
    if kind != "model" and checkpoint is not None:
        in_file = "an ONNX file" if kind == "onnx" else "a program in a file"
        raise CommandError(f"--checkpoint is for MODULE:FACTORY; {in_file} has its weights")
    with nullcontext() if kind == "model" else interruptible():
        if kind == "onnx":
            report = _onnx(target, source, data, batch_size, unit_axis)
        else:
            if kind == "model":
                model = build_model(target, ", or the name of an .onnx, .pt2 or TorchScript file")
                if checkpoint is not None:
                    load_checkpoint(model, checkpoint)
            else:
                model, found = (load_exported if kind == "exported" else load_scripted)(target)
                unit_axis = {**found, **unit_axis}
            report = _torch(target, model, unit_axis, source, data, batch_size)
    return replace(report, source=kind, command=command)


def _onnx(target: str, source: Source, data: Path, batch_size: int, unit_axis: dict[str, int]) -> Report:
    from leakyrelu.onnx import diagnose

    batches: Any
    if isinstance(source, Images):
        batches, total = source.batches(batch_size), len(source)
    else:
        batches, total = source, max((len(x) for x in source.values() if x.ndim), default=0)
        if len(source) == 1 or "X" in source:
            try:
                graph = require("onnx", by="an ONNX file").load(target, load_external_data=False).graph
                constant = {tensor.name for tensor in graph.initializer}
                names = [value.name for value in graph.input if value.name not in constant]
            except Exception:  # the error of diagnose describes the file better
                names = []
            if len(names) == 1 and names[0] not in source:
                batches = the_array(data, source)[1]
    with progress_bar(total) as progress:
        try:
            return diagnose(target, batches, batch_size=batch_size, unit_axis=unit_axis, progress=progress)
        except (CommandError, ImportError):
            raise
        except (ValueError, TypeError, FileNotFoundError) as error:
            raise CommandError(str(error)) from error
        except Exception as error:
            raise CommandError(f"{target} could not be diagnosed: {type_and_first_line(error)}") from error


def _torch(
    target: str, model: nn.Module, unit_axis: dict[str, int], source: Source, data: Path, batch_size: int
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
        what, hint = f"images of {data}", ""
        total, parts = len(source), source.batches(batch_size)
    else:
        name, x = the_array(data, source)
        what = f"{name} of shape {tuple(x.shape)} and dtype {x.dtype}"
        hint = "" if x.dtype.kind == "f" else "; where the model wants real numbers, save X as float32"
        native = x.dtype.newbyteorder("=")
        # Copied, since memory that is mapped cannot be written, which PyTorch warns of.
        total, parts = len(x), (np.array(x[i : i + batch_size], native) for i in range(0, len(x), batch_size))
        try:
            torch.from_numpy(np.empty(0, native))
        except TypeError:
            raise CommandError(
                f"{data}: {name} has dtype {x.dtype}, which PyTorch does not know; save as float32"
            ) from None
    with progress_bar(total) as progress:

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
        except (Exception, SystemExit) as error:
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                hint = f"; give a --batch-size below {batch_size}"
            raise CommandError(f"the model could not be run on {what}: {type_and_first_line(error)}{hint}") from error
