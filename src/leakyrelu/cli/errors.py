"""Input that cannot be used, and the check of the places to write to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Refusal(Exception):  # noqa: N818 - it is an answer to the user, not a defect
    """One line for standard error; the command ends with status 2."""


def check_outputs(outputs: dict[str, Path | None], inputs: dict[str, Path | None]) -> None:
    """Refuse, before any work, an output that cannot be written or would overwrite another file of this command.

    Writing is tried, not asked for: permissions alone do not tell (a full or read-only file system, a name too long).
    """
    seen = {path.resolve(): option for option, path in inputs.items() if path is not None}
    for option, path in outputs.items():
        if path is None:
            continue
        if (other := seen.setdefault(path.resolve(), option)) != option:
            raise Refusal(f"{option} {path} is the file given to {other}; give another name")
        if option == "--png":
            _check_png(path)
        try:
            existed = path.exists()
            with path.open("ab"):
                pass
            if not existed:
                path.unlink()
        except FileNotFoundError:
            raise Refusal(f"{option} {path} cannot be written: there is no folder {path.parent}") from None
        except OSError as error:
            raise Refusal(f"{option} {path} cannot be written: {error.strerror or error}") from None


def _check_png(path: Path) -> None:
    from leakyrelu._page.page import check_png

    try:
        check_png(path)
    except ValueError as error:
        raise Refusal(f"--png: {error}") from None
