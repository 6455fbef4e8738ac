"""``leakyrelu diagnose``: the report on the units of the user's own model."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leakyrelu.cli.refusal import Refusal, check_outputs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from leakyrelu.census import Report


def diagnose(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:FACTORY", help="What builds the model, such as package.module:make_model.")
    ],
    data: Annotated[Path, typer.Option(help="An .npz file with an array X, samples first.")],
    html: Annotated[Path | None, typer.Option(help="Write the page here.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write every number here.")] = None,
    batch_size: Annotated[int, typer.Option(help="Samples at a time.")] = 256,
) -> None:
    """Run data through a PyTorch model and report which of its units are silent or always on.

    FACTORY is called without arguments and returns a torch.nn.Module with its weights; a module itself will do. The
    current folder is searched for MODULE first.
    """
    from leakyrelu.study.data import DataError, read_npz

    check_outputs({"--html": html, "--json": json}, {"--data": data})
    if batch_size < 1:
        raise Refusal(f"--batch-size must be at least 1, got {batch_size}")
    if html:
        for module in ("altair", "vl_convert", "jinja2"):  # before the work, not after it
            importlib.import_module(module)
    try:
        x = read_npz(data, ("X",))["X"]
    except DataError as error:
        raise Refusal(str(error)) from None
    if x.ndim < 1 or len(x) == 0:
        raise Refusal(f"{data}: X has shape {x.shape}; it must hold at least one sample, samples first")
    if x.dtype.kind not in "biuf":
        raise Refusal(f"{data}: X has dtype {x.dtype}; it must hold real numbers")
    report = _report(target, _model(target), x, batch_size, data)
    typer.echo(repr(report))
    try:
        if json:
            report.to_json(json)
        if html:
            report.to_html(html, title=f"What the units of {target} do")
    except OSError as error:
        raise Refusal(f"{error.filename or 'a file'} could not be written: {error.strerror or error}") from None
    for path in (json, html):
        if path:
            typer.echo(f"Wrote {path}")


def _model(target: str) -> nn.Module:
    from torch import nn

    module_name, colon, attribute = target.partition(":")
    if not (colon and module_name and attribute):
        raise Refusal(f"{target!r} names no factory; write MODULE:FACTORY, such as package.module:make_model")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise Refusal(
                f"there is no module {error.name!r} in {here} or on Python's path (wanted for {target})"
            ) from None
        raise Refusal(f"importing {module_name} failed: {_name(error)}") from error
    except (Exception, SystemExit) as error:
        raise Refusal(f"importing {module_name} failed: {_name(error)}") from error
    try:
        factory: Any = functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        raise Refusal(f"module {module_name} has no {attribute!r}{_instead(module)}") from None
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise Refusal(f"{target} is a {type(factory).__name__}, neither a torch.nn.Module nor what returns one")
    try:
        model = factory()
    except (Exception, SystemExit) as error:
        raise Refusal(f"{target}() failed: {_name(error)}") from error
    if not isinstance(model, nn.Module):
        raise Refusal(f"{target}() returned a {type(model).__name__}, not a torch.nn.Module")
    return model


def _report(target: str, model: nn.Module, x: NDArray[Any], batch_size: int, path: Path) -> Report:
    import torch

    from leakyrelu.torch import diagnose, watch

    try:
        watch(model)  # says what is wrong with the model itself, before anything runs
    except (TypeError, ValueError) as error:
        raise Refusal(f"{target}: {error}") from None
    try:
        samples = torch.from_numpy(x)
    except TypeError:
        raise Refusal(f"{path}: X has dtype {x.dtype}, which PyTorch does not know; save it as float32") from None
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    if samples.is_floating_point():
        samples = samples.to(weight.dtype if weight is not None else torch.float32)
    try:
        return diagnose(model, torch.split(samples, batch_size))
    except Exception as error:
        hint = "" if samples.is_floating_point() else "; where the model wants real numbers, save X as float32"
        raise Refusal(
            f"the model could not be run on X of shape {tuple(x.shape)} and dtype {x.dtype}: {_name(error)}{hint}"
        ) from error


def _name(error: BaseException) -> str:
    """Return the type and the first line of an error."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _instead(module: object) -> str:
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    own = [name for name in names if getattr(vars(module)[name], "__module__", None) == getattr(module, "__name__", "")]
    return f"; it has {', '.join(own[:6])}" if own else ""
