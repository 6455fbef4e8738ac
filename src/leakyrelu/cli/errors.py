"""Errors in the input of a command, and the check of the files that it is to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class CommandError(Exception):
    """Error in the input of a command: one line for standard error, and exit status 2."""


def check_outputs(outputs: dict[str, Path | None], inputs: dict[str, Path | None]) -> None:
    """Raise `CommandError`, before any work, for an output that cannot be written or is another file of it.

    Writing is tried, since permissions alone do not show it (a full or read-only file system, a name too long).
    """
    seen = {path.resolve(): option for option, path in inputs.items() if path is not None}
    for option, path in outputs.items():
        if path is None:
            continue
        if (other := seen.setdefault(path.resolve(), option)) != option:
            raise CommandError(f"{option} {path} is the file given to {other}; give another name")
        if option == "--png":
            _check_png(path)
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


def _check_png(path: Path) -> None:
    from leakyrelu._page.page import check_png

    try:
        check_png(path)
    except ValueError as error:
        raise CommandError(f"--png: {error}") from None
