"""The command itself: version, help, wrong usage, packages that are missing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.command import python, refused

import leakyrelu
from leakyrelu.cli import main


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"leakyrelu {leakyrelu.__version__}\n"


def test_help_names_the_three_commands(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("study", "diagnose", "slope"))


def test_python_minus_m_is_the_command():
    run = subprocess.run([sys.executable, "-m", "leakyrelu", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"leakyrelu {leakyrelu.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["study", "--depth", "deep"], "--depth"),
        (["study", "--deep"], "--deep"),
        (["diagnose"], "TARGET"),
        (["diagnose", "a:b"], "--data"),
    ],
)
def test_wrong_usage_is_one_line_too(capsys, arguments, part):
    message = refused(capsys, *arguments)
    assert part in message
    assert "leakyrelu --help" in message


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("typer", "['slope']", "cli"),
        ("rich", "['slope']", "cli"),
        ("torch", "['study']", "torch"),
        ("sklearn", "['study']", "study"),
        ("altair", "['study', '--html', 'x.html']", "report"),
        ("vl_convert", "['study', '--png', 'x.png']", "report"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(missing, arguments, extra):
    run = python(
        f"import sys; sys.modules[{missing!r}] = None; from leakyrelu.cli import main; sys.exit(main({arguments}))"
    )
    assert (run.returncode, run.stdout) == (2, ""), run.stderr
    what = f"needs the package {missing!r}, which is not installed"
    assert f'{what}: pip install "leakyrelu[{extra}]"' in run.stderr
    assert run.stderr.startswith("leakyrelu: ")
    assert run.stderr.count("\n") == 1
