"""Loaders of models: what a factory returns, or a program in a file."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakyrelu._extras import require
from leakyrelu._text import type_and_first_line, with_article
from leakyrelu.cli.checkpoints import error_without_program
from leakyrelu.cli.errors import CommandError
from leakyrelu.cli.interrupts import ended_by_signal

if TYPE_CHECKING:
    from torch import nn

_FILES = (".onnx", ".pt2", ".pt", ".pth", ".ts", ".safetensors", ".keras", ".h5")


def build_model(target: str, files: str = "") -> nn.Module:
    """Import MODULE, call FACTORY, and return the module that it makes; `files` says which files would do instead."""
    require("torch", by="a model of MODULE:FACTORY")
    from torch import nn

    module_name, _, attribute = target.partition(":")
    _check_names(target, module_name, attribute, files)
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
    require("torch", by="a .pt2 file")
    if not Path(target).is_file():
        raise CommandError(f"{target} does not exist")
    from leakyrelu.torch.diagnosis.export_file import load
    from leakyrelu.torch.diagnosis.exported_program import rectifiers_as_modules

    try:
        program = load(target)
    except ValueError as error:
        raise CommandError(str(error)) from None
    return rectifiers_as_modules(program)


def load_scripted(target: str) -> tuple[nn.Module, dict[str, int]]:
    """Load a file of ``torch.jit.save``, its rectifiers as modules, and the axes of their units."""
    require("torch", by="a TorchScript file")
    if not _holds_program(target):
        raise error_without_program(target)
    from leakyrelu.torch.diagnosis.script_file import load
    from leakyrelu.torch.diagnosis.torchscript import rectifiers_as_modules

    try:
        with ended_by_signal():  # PyTorch runs methods of the file meanwhile
            program = load(target)
    except ValueError as error:
        raise CommandError(str(error)) from None
    return rectifiers_as_modules(program)


def _holds_program(path: str) -> bool:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def _check_names(target: str, module: str, factory: str, files: str) -> None:
    """Refuse a target that is not MODULE:FACTORY, and say what to write."""
    path = Path(module)
    if path.suffix == ".py":
        parts = path.with_suffix("").parts
        inside = not path.is_absolute() and all(part.isidentifier() for part in parts)
        where = "" if inside else f", in the folder {path.parent}"
        written = f"{'.'.join(parts) if inside else path.stem}:{factory or 'FACTORY'}"
        raise CommandError(f"{target!r} names a file of Python, and a module is wanted: write {written}{where}")
    if module and factory:
        return
    cause = "names no factory;"
    if path.suffix.lower() in _FILES or path.is_file():
        cause = "is a file, and what builds the model is wanted:"
    raise CommandError(f"{target!r} {cause} write MODULE:FACTORY, such as package.module:make_model{files}")


def _alternatives(module: object) -> str:
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    own = [name for name in names if getattr(vars(module)[name], "__module__", None) == getattr(module, "__name__", "")]
    return f"; it has {', '.join(own[:6])}" if own else ""
