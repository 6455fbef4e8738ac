"""The command in this process and in another."""

from __future__ import annotations

import subprocess
import sys

from leakyrelu.cli import main


def refused(capsys, *arguments: str) -> str:
    """The one line on standard error, nothing on standard output, status 2."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("leakyrelu: ")
    assert err.count("\n") == 1
    return err.removeprefix("leakyrelu: ").rstrip()


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
