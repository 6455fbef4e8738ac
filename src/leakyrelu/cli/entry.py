"""The entry point of the command ``leakyrelu``: runs it, and turns errors into one line and an exit status.

Exit status 0 for success, 1 where --fail-on is exceeded, 2 for input that cannot be used (one line on standard error
gives the reason), 130 after Ctrl-C. With the environment variable ``LEAKYRELU_TRACEBACK`` set, the traceback stands
before the line. Each command imports what it needs when it is called: ``leakyrelu slope`` does not import PyTorch.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from leakyrelu._extras import extra_of, missing
from leakyrelu._text import first_line, printable, type_and_first_line
from leakyrelu.cli.errors import CommandError
from leakyrelu.cli.interrupts import INTERRUPTED, print_interrupted
from leakyrelu.cli.printing import print_line

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with suppress(AttributeError):  # what the encoding of a terminal lacks must not end the command
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        from leakyrelu.cli.commands import app

        status = app(given, "leakyrelu", standalone_mode=False, obj=given)
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as error:
        # Errors of Typer: recent versions hold the classes of Click inside, older ones use Click's, of the same names.
        if type(error).__name__ == "Abort":
            return _interrupted()
        if os.environ.get("LEAKYRELU_TRACEBACK"):
            for line in traceback.format_exc().splitlines():
                print(printable(line), file=sys.stderr)
        print_line(_message(error))
        return 2
    if status == INTERRUPTED:  # newer versions of Typer return this after KeyboardInterrupt
        return _interrupted()
    return status if isinstance(status, int) else 0


def _message(error: Exception) -> str:
    if isinstance(error, CommandError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and extra_of((error.name or "").partition(".")[0]):
        return str(missing(error, "this"))
    if isinstance(error, ImportError):  # says what is missing, or which version
        return first_line(error)
    if hasattr(error, "format_message"):
        return f"{' '.join(error.format_message().split())} (see leakyrelu --help)"
    if isinstance(error, OSError) and error.strerror:
        return f"{'output' if error.filename is None else error.filename} cannot be used: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"there is not enough memory ({type_and_first_line(error)}): give fewer or smaller samples"
    return f"unexpected error, {type_and_first_line(error)}: LEAKYRELU_TRACEBACK=1 shows where"


def _interrupted() -> int:
    print_interrupted()
    return INTERRUPTED
