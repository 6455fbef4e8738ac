"""The entry point of the command ``leakyrelu``: runs it, and turns errors into one line and an exit status.

Exit status 0 for success, 1 where --fail-on is exceeded, 2 for input that cannot be used (one line on standard error
gives the reason), 130 after Ctrl-C. Each command imports what it needs when it is called: ``leakyrelu slope`` does not
import PyTorch.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from leakyrelu.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_EXTRAS = {
    **dict.fromkeys(("PIL", "safetensors", "typer", "rich"), "cli"),
    **dict.fromkeys(("onnx", "onnxruntime"), "onnx"),
    **dict.fromkeys(("altair", "vl_convert", "jinja2"), "report"),
    "torch": "torch",
    "sklearn": "study",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit status."""
    try:
        from leakyrelu.cli.commands import app

        status = app(list(sys.argv[1:] if arguments is None else arguments), "leakyrelu", standalone_mode=False)
    except CommandError as error:
        return _fail(str(error))
    except ImportError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRAS:
            raise
        return _fail(f'this needs {module}, which is not installed: pip install "leakyrelu[{_EXTRAS[module]}]"')
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as error:
        # Errors of Typer: recent versions hold the classes of Click inside, older ones use Click's, of the same names.
        if type(error).__name__ == "Abort":
            return _interrupted()
        if not hasattr(error, "format_message"):
            raise
        return _fail(f"{error.format_message()} (see leakyrelu --help)")
    if status == 130:  # newer versions of Typer return this after KeyboardInterrupt
        return _interrupted()
    return status if isinstance(status, int) else 0


def _fail(message: str) -> int:
    print("leakyrelu:", " ".join(message.split()), file=sys.stderr)
    return 2


def _interrupted() -> int:
    print("leakyrelu: interrupted", file=sys.stderr)
    return 130
