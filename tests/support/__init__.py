"""Helpers that several folders of tests share."""

import os
import pathlib
import shutil

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def need(*alternatives: str, packages: str) -> str:
    """The path of the first of these programs that is installed; else the test is skipped, or with CI=true it fails."""
    for program in alternatives:
        if found := shutil.which(program):
            return found
    message = f"{' or '.join(alternatives)} not found; Debian, Ubuntu: apt-get install {packages}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
