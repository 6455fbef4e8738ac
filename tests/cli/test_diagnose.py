"""The command diagnose: what it finds, what it refuses, and its exit status."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from support.command import refused

from leakyrelu.cli import main


@pytest.mark.parametrize("target", ["mymodels:planted", "mymodels:ready", "mymodels:Zoo.make"])
@pytest.mark.parametrize("batch_size", ["7", "1000"])
def test_diagnose_finds_what_was_planted(capsys, models, target, batch_size):
    arguments = ["--data", "x.npz", "--json", "r.json", "--html", "r.html", "--batch-size", batch_size]
    assert main(["diagnose", target, *arguments]) == 0
    out = capsys.readouterr().out
    from leakyrelu.diagnosis.report import Report

    report = Report.from_json(Path("r.json").read_text("utf-8"))
    assert report.layers[0].silent_units.tolist() == [1, 3]
    assert report.layers[0].always_on_units.tolist() == [0]
    assert report.layers[0].samples == 300
    assert out.splitlines()[0] == "1 layer, 5 units: 2 of 5 units silent (40.0 %), 1 always on"
    assert "warning: Layer 1: 2 of 5 units silent" in out
    assert out.endswith("\nWrote r.json\nWrote r.html\n")
    assert max(map(len, out.splitlines())) <= 80
    assert target in Path("r.html").read_text("utf-8")


def test_the_plan_ends_with_the_command_that_checks_it(capsys, models):
    assert main(["diagnose", "mymodels:planted", "--data", "x.npz"]) == 0
    check = "leakyrelu diagnose mymodels:planted --data x.npz --fail-on silent=0%"
    last = capsys.readouterr().out.rstrip().splitlines()[-1].strip()
    assert last == check
    assert main(shlex.split(check)[1:]) == 1  # nothing was done about it yet


def test_an_assumed_axis_is_settled_by_an_option(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("spectra.py").write_text(
        "import torch\n"
        "class Spectrum(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv, self.act = torch.nn.Conv2d(1, 4, 1), torch.nn.ReLU()\n"
        "    def forward(self, x):\n"
        "        return self.act(torch.fft.fft2(self.conv(x)).real)\n"
    )
    np.save("x.npy", np.random.default_rng(0).normal(size=(300, 1, 3, 5)).astype(np.float32))
    arguments = ["diagnose", "spectra:Spectrum", "--data", "x.npy"]
    assert main([*arguments, "--unit-axis", "act=3"]) == 0
    known = capsys.readouterr().out
    assert "1 layer, 5 units" in known
    assert "assum" not in known
    assert main(arguments) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "axis of the units assumed: act; --unit-axis settles it" in out
    assert "along axis 3: 5 units, 0 silent" in out
    for value, message in (
        ("act", "--unit-axis 'act' is not the name of an activation and an axis, such as encoder.act=2"),
        ("art=1", "spectra:Spectrum: unit_axis names 'art', which is not watched; watched are 'act'"),
        (
            "act=4",
            "unit_axis gives axis 4 for 'act', but its input has shape (256, 4, 3, 5): give an axis from -4 to 3",
        ),
    ):
        assert message in refused(capsys, *arguments, "--unit-axis", value)


@pytest.mark.parametrize(
    ("target", "data", "message"),
    [
        ("mymodels", "x.npz", "'mymodels' names no factory; write MODULE:FACTORY, such as package.module:make_model,"),
        (":make", "x.npz", "':make' names no factory; write MODULE:FACTORY, such as package.module:make_model, or"),
        (
            "no_such.thing:make",
            "x.npz",
            "there is no module 'no_such' in {here} or on Python's path",
        ),
        (
            "broken_module:make",
            "x.npz",
            "importing broken_module failed: ModuleNotFoundError: No module named 'nowhere_",
        ),
        ("failing_module:make", "x.npz", "importing failing_module failed: ZeroDivisionError: division by zero"),
        ("mymodels:plantd", "x.npz", "module mymodels has no 'plantd'; it has planted, Zoo, broken, nothing, without"),
        ("mymodels:number", "x.npz", "mymodels:number is an int, neither a torch.nn.Module nor what returns one"),
        ("mymodels:broken", "x.npz", "mymodels:broken() failed: RuntimeError: no weights"),
        ("mymodels:nothing", "x.npz", "mymodels:nothing() returned a dict, not a torch.nn.Module"),
        ("mymodels:planted", "gone.npz", "gone.npz does not exist"),
        ("mymodels:planted", "words.npz", "words.npz: X has dtype <U1; it must hold real numbers"),
        (
            "mymodels:planted",
            "none.npz",
            "none.npz: X has shape (0, 4); it must hold at least one sample, samples first",
        ),
        (
            "mymodels:planted",
            "wide.npz",
            "the model could not be run on X of shape (6, 9) and dtype float32: RuntimeError: mat1 and mat2 shapes",
        ),
        (
            "mymodels:planted",
            "ints.npz",
            "the model could not be run on X of shape (6, 4) and dtype int64: RuntimeError:",
        ),
    ],
)
def test_diagnose_refuses(capsys, models, target, data, message):
    found = refused(capsys, "diagnose", target, "--data", data)
    assert found.startswith(message.format(here=os.getcwd()))
    if data == "ints.npz":
        assert found.endswith("; where the model wants real numbers, save X as float32")


def test_diagnose_says_that_there_is_nothing_to_see(capsys, models):
    message = refused(capsys, "diagnose", "mymodels:without", "--data", "x.npz")
    assert message.startswith("mymodels:without: no rectifier was called in Sequential")


def test_diagnose_refuses_outputs_and_sizes(capsys, models):
    arguments = ["diagnose", "mymodels:planted", "--data", "x.npz"]
    assert refused(capsys, *arguments, "--batch-size", "0") == "--batch-size must be at least 1, got 0"
    assert "there is no folder nope" in refused(capsys, *arguments, "--html", "nope/r.html")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_diagnose_reads_both_kinds_of_arrays(capsys, models, suffix):
    x = np.load("x.npz")["X"]
    np.save("x.npy", x)
    np.savez("only.npz", anything=x)
    assert main(["diagnose", "mymodels:planted", "--data", "x.npy" if suffix == "npy" else "only.npz"]) == 0
    assert "2 of 5 units silent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("limit", "status"),
    [("silent=10%", 1), ("silent=0.39", 1), ("silent=40%", 0), ("always-on=50%", 0), ("always-on=0", 1), ("nan=0%", 0)],
)
def test_fail_on_is_an_exit_status(capsys, models, limit, status):
    assert main(["diagnose", "mymodels:planted", "--data", "x.npz", "--fail-on", limit]) == status
    out, err = capsys.readouterr()
    assert "2 of 5 units silent" in out
    assert ("leakyrelu: failed: " in err) == bool(status)


def test_fail_on_may_be_repeated_and_is_read_before_anything_runs(capsys, models):
    arguments = ["diagnose", "mymodels:planted", "--data", "x.npz", "--fail-on", "nan=0", "--fail-on"]
    assert main([*arguments, "silent=10%"]) == 1
    assert "failed: 2 of 5 units silent (40%), more than 10%" in capsys.readouterr().err
    for wrong in ("silent", "quiet=3", "silent=-1", "silent=10%%"):
        message = refused(capsys, *arguments, wrong)
        assert message.startswith(f"--fail-on {wrong!r} is not one of silent, always-on, saturated, nan with a share")
    assert "is more than all units" in refused(capsys, *arguments, "silent=10")
