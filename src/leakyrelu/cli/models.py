"""Loaders of models: what a factory returns, or a program in a file."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakyrelu._text import type_and_first_line, with_article
from leakyrelu.cli.errors import CommandError

if TYPE_CHECKING:
    from torch import nn


def build_model(target: str) -> nn.Module:
    """Import MODULE, call FACTORY, and return the module that it makes."""
    from torch import nn

    module_name, colon, attribute = target.partition(":")
    if not (colon and module_name and attribute):
        raise CommandError(
            f"{target!r} names no factory; write MODULE:FACTORY, such as package.module:make_model, "
            "or the name of an .onnx, .pt2 or TorchScript file"
        )
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise CommandError(
                f"there is no module {error.name!r} in {here} or on Python's path (wanted for {target})"
            ) from None
        raise CommandError(f"importing {module_name} failed: {type_and_first_line(error)}") from error
    try:
        factory: Any = functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        raise CommandError(f"module {module_name} has no {attribute!r}{_alternatives(module)}") from None
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise CommandError(
            f"{target} is {with_article(type(factory).__name__)}, neither a torch.nn.Module nor what returns one"
        )
    try:
        model = factory()
    except (Exception, SystemExit) as error:
        raise CommandError(f"{target}() failed: {type_and_first_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise CommandError(f"{target}() returned {with_article(type(model).__name__)}, not a torch.nn.Module")
    return model


def load_exported(target: str) -> tuple[nn.Module, dict[str, int]]:
    """Load a file of ``torch.export.save``, its rectifiers as modules, and the axes of their units."""
    import torch

    from leakyrelu.torch.diagnosis.exported_program import rectifiers_as_modules

    if not Path(target).is_file():
        raise CommandError(f"{target} does not exist")
    try:
        program = torch.export.load(target)
    except Exception as error:
        raise CommandError(f"{target} is not a file of torch.export.save: {type_and_first_line(error)}") from None
    return rectifiers_as_modules(program)


def load_scripted(target: str) -> tuple[nn.Module, dict[str, int]]:
    """Load a file of ``torch.jit.save``, its rectifiers as modules, and the axes of their units."""
    import zipfile

    import torch

    from leakyrelu.torch.diagnosis.torchscript import rectifiers_as_modules

    if not (zipfile.is_zipfile(target) and any("/code/" in name for name in zipfile.ZipFile(target).namelist())):
        raise CommandError(
            f"{target} holds weights without the model: name what builds it, MODULE:FACTORY, and give this file to "
            "--checkpoint"
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.jit")  # deprecated; a file that is there must be read
            program = torch.jit.load(target, map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:
        raise CommandError(f"{target} is not a file of torch.jit.save: {type_and_first_line(error)}") from None
    return rectifiers_as_modules(program)


def _alternatives(module: object) -> str:
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    own = [name for name in names if getattr(vars(module)[name], "__module__", None) == getattr(module, "__name__", "")]
    return f"; it has {', '.join(own[:6])}" if own else ""
