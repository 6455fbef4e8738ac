"""Files that a command writes on request: the page, the numbers and the picture."""

from __future__ import annotations

import os
import stat
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakyrelu._extras import require
from leakyrelu._files import check_writable
from leakyrelu._text import printable, type_and_first_line
from leakyrelu.cli.datasets import SUFFIXES
from leakyrelu.cli.errors import CommandError
from leakyrelu.cli.inputs import files_of_option, files_of_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def check_outputs(
    outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None], target: str | None = None
) -> None:
    """Raise, before any work, for an output that cannot be written, is an input, or is another output.

    Parameters
    ----------
    outputs, inputs
        Files by the options that name them; a folder stands for the images in it.
    target
        What the command reads the model from.
    """
    wanted = {option: path for option, path in outputs.items() if path is not None}
    read: dict[object, str] = {}
    if wanted:
        options = chain.from_iterable(files_of_option(option, path) for option, path in inputs.items())
        for path, what in chain(options, files_of_target(target) if target else ()):
            read.setdefault(_identity(path), what)
    for option, path in wanted.items():
        what = read.setdefault(_identity(path), f"the file given to {option}")
        if what != f"the file given to {option}":
            raise CommandError(f"{option} {path} is {what}; give another name")
        for other, folder in inputs.items():
            if folder is not None and _would_be_read(path, folder):
                raise CommandError(
                    f"{option} {path} would be an image of the folder given to {other}; give another folder"
                )
        _check_writable(option, path)
    if wanted.keys() & {"--html", "--png"}:
        for module in ("altair", "vl_convert", "jinja2"):
            require(module, by="this")


def write_outputs(*outputs: tuple[Path | None, Callable[[Path], Any]]) -> None:
    """Write each file that has a path by its writer, and print the paths."""
    wanted = [(path, write) for path, write in outputs if path]
    for path, write in wanted:
        try:
            write(path)
        except Exception as error:  # renderers raise almost any
            cause = isinstance(error, OSError) and error.strerror
            raise CommandError(f"{path} could not be written: {cause or type_and_first_line(error)}") from error
    for path, _ in wanted:
        print(printable(f"Wrote {path}"))


def _identity(path: Path) -> object:
    """Return what hard and symbolic links to one file have in common; for a file to come and for a device, its path."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return os.path.realpath(path)
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else os.path.realpath(path)


def _would_be_read(path: Path, folder: Path) -> bool:
    """Whether the next run would take an output for an image of a folder."""
    return (
        path.suffix.lower() in SUFFIXES
        and folder.is_dir()
        and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    )


def _check_writable(option: str, path: Path) -> None:
    if option == "--png":
        from leakyrelu._page.page import check_png

        try:
            check_png(path)
        except ValueError as error:
            raise CommandError(f"--png: {error}") from None
    try:
        check_writable(path)
    except FileNotFoundError:
        raise CommandError(f"{option} {path} cannot be written: there is no folder {path.parent}") from None
    except (OSError, ValueError) as error:
        raise CommandError(f"{option} {path} cannot be written: {getattr(error, 'strerror', None) or error}") from None
