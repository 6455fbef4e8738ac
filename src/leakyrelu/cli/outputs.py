"""Files that a command writes on request: the page, the numbers and the picture."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import typer

from leakyrelu.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def check_outputs(html: Path | None, json: Path | None, png: Path | None, inputs: dict[str, Path | None]) -> None:
    """Raise, before any work, for an output that cannot be written or is another file of the command.

    Writing is tried, since permissions alone do not show it (a full or read-only file system, a name too long).
    """
    seen = {path.resolve(): option for option, path in inputs.items() if path is not None}
    for option, path in (("--html", html), ("--json", json), ("--png", png)):
        if path is None:
            continue
        if (other := seen.setdefault(path.resolve(), option)) != option:
            raise CommandError(f"{option} {path} is the file given to {other}; give another name")
        if option == "--png":
            from leakyrelu._page.page import check_png

            try:
                check_png(path)
            except ValueError as error:
                raise CommandError(f"--png: {error}") from None
        try:
            existed = path.exists()
            with path.open("ab"):
                pass
            if not existed:
                path.unlink()
        except FileNotFoundError:
            raise CommandError(f"{option} {path} cannot be written: there is no folder {path.parent}") from None
        except OSError as error:
            raise CommandError(f"{option} {path} cannot be written: {error.strerror or error}") from None
    if html or png:
        for module in ("altair", "vl_convert", "jinja2"):
            importlib.import_module(module)


def write_outputs(*outputs: tuple[Path | None, Callable[[Path], Any]]) -> None:
    """Write each file that has a path by its writer, and print the paths."""
    paths = [path for path, _ in outputs if path]
    try:
        for path, write in outputs:
            if path:
                write(path)
    except OSError as error:
        raise CommandError(f"{error.filename or 'a file'} could not be written: {error.strerror or error}") from None
    for path in paths:
        typer.echo(f"Wrote {path}")
