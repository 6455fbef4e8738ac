"""The command itself: version, help, wrong usage, packages that are missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from support.command import python, refused

import leakyrelu
from leakyrelu.cli import main

RELU = '<ir_version: 8, opset_import: ["":13]> g (float[n,2] x) => (float[n,2] y) { y = Relu(x) }'


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"leakyrelu {leakyrelu.__version__}\n"


@pytest.mark.parametrize("columns", [60, 80])
def test_help_names_the_commands_in_full(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERMINAL_WIDTH", str(columns))
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [line.split(maxsplit=1) for line in lines[lines.index("Commands:") + 1 :]]
    assert [name for name, _ in commands] == ["diagnose", "slope", "memory", "study"]
    assert all(text.endswith(".") and not text.endswith("..") for _, text in commands)
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("command", ["diagnose", "slope", "memory", "study"])
def test_no_help_is_cut(capsys, command):
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "..." not in shown.partition("\n")[2]
    assert max(map(len, shown.splitlines())) <= 80


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
        ("mnist1d", "['study', '--data', 'mnist1d']", "study"),
        ("altair", "['study', '--html', 'x.html']", "report"),
        ("vl_convert", "['study', '--png', 'x.png']", "report"),
        ("torch", "['diagnose', 'json:dumps', '--data', 'x.npy']", "torch"),
        ("torch", "['diagnose', 'm.pt2', '--data', 'x.npy']", "torch"),
        ("torch", "['memory', 'json:dumps', '--input', '1x2']", "torch"),
        ("onnx", "['diagnose', 'm.onnx', '--data', 'x.npy']", "onnx"),
        ("onnxruntime", "['diagnose', 'm.onnx', '--data', 'x.npy']", "onnx"),
        ("PIL", "['diagnose', 'json:dumps', '--data', 'images']", "cli"),
        ("safetensors", "['diagnose', 'torch.nn:ReLU', '--data', 'x.npy', '--checkpoint', 'x.safetensors']", "cli"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(missing, arguments, extra):
    np.save("x.npy", np.ones((3, 2), np.float32))
    for name in ("m.pt2", "m.onnx", "x.safetensors", "images/0.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    if missing == "onnxruntime":
        model = onnx.parser.parse_model(RELU)
        onnx.save(model, "m.onnx")
    run = python(
        f"import sys; sys.modules[{missing!r}] = None; from leakyrelu.cli import main; sys.exit(main({arguments}))"
    )
    assert (run.returncode, run.stdout) == (2, ""), run.stderr
    what = f"needs the package {missing!r}, which is not installed"
    assert f'{what}: pip install "leakyrelu[{extra}]"' in run.stderr
    assert run.stderr.startswith("leakyrelu: ")
    assert run.stderr.count("\n") == 1
