"""The command study: what it prints, what it writes, what it refuses, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.command import refused

from leakyrelu.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator


TINY = ["--depth", "2", "--width", "8", "--epochs", "1", "--seeds", "1", "--lr", "1e-3"]


@pytest.fixture
def blobs(tmp_path) -> str:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 20)
    np.savez(tmp_path / "blobs.npz", X=rng.normal(size=(60, 4)) + 3 * y[:, None], y=y)
    return "blobs.npz"


def test_study_prints_table_and_sentence_and_writes_what_is_asked_for(capsys, blobs, tmp_path):
    outputs = ["--json", "s.json", "--html", "s.html", "--png", "s.png"]
    assert main(["study", *TINY, "--data", blobs, *outputs]) == 0
    out = capsys.readouterr().out
    document = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert document["reading"] in " ".join(out.split())
    assert document["settings"] == {
        "depth": 2,
        "width": 8,
        "epochs": 1,
        "seeds": 1,
        "learning_rates": [0.001],
        "batch_size": 64,
        "network": "mlp",
        "patience": 0,
        "extensions": 0,
    }
    for row in document["rows"]:
        assert f"{100 * row['test_accuracy']:.1f}" in next(
            line for line in out.splitlines() if line.startswith(row["name"])
        )
    assert document["left_out"][0] in " ".join(out.split())
    assert document["data"]["name"] == "blobs.npz"
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (tmp_path / "s.html").read_text("utf-8")
    assert [line for line in out.splitlines() if line.startswith("Wrote")] == [
        "Wrote s.json",
        "Wrote s.html",
        "Wrote s.png",
    ]
    assert max(map(len, out.splitlines())) <= 80


def test_study_writes_nothing_unasked(capsys, blobs, tmp_path):
    assert main(["study", *TINY, "--data", blobs]) == 0
    assert [path.name for path in tmp_path.iterdir()] == [blobs]


def test_quick_is_shorter_and_explicit_options_win(capsys, blobs):
    arguments = ["--quick", "--depth", "2", "--width", "8", "--seeds", "1", "--lr", "1e-3,3e-3", "--lr", "1e-2"]
    assert main(["study", *arguments, "--data", blobs, "--json", "s.json"]) == 0
    settings = json.loads(Path("s.json").read_text("utf-8"))["settings"]
    assert settings == {
        "depth": 2,
        "width": 8,
        "epochs": 5,
        "seeds": 1,
        "learning_rates": [0.001, 0.003, 0.01],
        "batch_size": 64,
        "network": "mlp",
        "patience": 0,
        "extensions": 0,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", "-1"], "depth must be at least 1, got -1"),
        (["--depth", "0"], "depth must be at least 1, got 0"),
        (["--width", "0"], "width must be at least 1, got 0"),
        (["--epochs", "0"], "epochs must be at least 1, got 0"),
        (["--seeds", "-2"], "seeds must be at least 1, got -2"),
        (["--lr", "0"], "a learning rate must be a finite number above 0, got 0"),
        (["--lr", "-1e-3"], "a learning rate must be a finite number above 0, got -0.001"),
        (["--lr", "fast"], "a learning rate must be a number, got 'fast'"),
        (["--lr", "1e-3,"], "a learning rate must be a number, got ''"),
        (["--network", "vgg"], "there is no network 'vgg'; there are mlp, cnn, resnet, resnet-bn"),
        (
            ["--network", "resnet", "--depth", "4"],
            "a residual network has one layer and two in each block: depth must be odd and at least 3, got 4; "
            "3 would do",
        ),
        (["--patience", "-1"], "patience must be at least 0, got -1"),
        (["--extend", "-1"], "extensions must be at least 0, got -1"),
        (["--jobs", "0"], "--jobs must be at least 1, got 0"),
        (
            ["--jobs", "2", "--scheduler", "tcp://127.0.0.1:9"],
            "--jobs is for processes of this machine and --scheduler for a cluster: give one of them",
        ),
        (["--data", "none.npz"], "none.npz does not exist"),
        (["--html", "no/such/page.html"], "--html no/such/page.html cannot be written: there is no folder no/such"),
        (["--json", "."], "--json . cannot be written: Is a directory"),
        (["--png", "/proc/study.png"], "--png /proc/study.png cannot be written: there is no folder /proc"),
        (
            ["--png", "study.svg"],
            "--png: the path 'study.svg' ends in '.svg', but pictures are written as PNG: end it in '.png'",
        ),
        (["--html", "a", "--json", "./a"], "--json a is the file given to --html; give another name"),
        (["--data", "d.npz", "--json", "d.npz"], "--json d.npz is the file given to --data; give another name"),
    ],
)
def test_study_refuses_before_any_training(capsys, monkeypatch, arguments, message):
    monkeypatch.setattr("leakyrelu.study.run_study", lambda *a, **k: pytest.fail("it trained"))
    found = refused(capsys, "study", *arguments)
    if "/proc" in message:  # which error a file system without files gives is its own affair
        found, message = found.split(":")[0], message.split(":")[0]
    assert found == message


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.r_[[np.nan], np.zeros(29), np.ones(30)], "bad.npz: y has 1 NaN label; leave these samples out"),
        (np.zeros(60), "bad.npz: every label is 0.0; there must be at least two classes"),
        (np.ones(59), "bad.npz: X has 60 samples and y has 59 labels; the numbers must agree"),
    ],
)
def test_study_refuses_data_in_one_line(capsys, monkeypatch, y, message):
    monkeypatch.setattr("leakyrelu.study.run_study", lambda *a, **k: pytest.fail("it trained"))
    np.savez("bad.npz", X=np.ones((60, 2)), y=y)
    assert refused(capsys, "study", "--data", "bad.npz") == message


def test_study_refuses_a_scheduler_and_samples_that_cannot_be_used_in_one_line(capsys, blobs):
    message = (
        "the scheduler nonsense cannot be reached (missing port number in address 'nonsense'): start one with "
        "'dask scheduler', whose output names its address"
    )
    assert refused(capsys, "study", *TINY, "--data", blobs, "--scheduler", "nonsense") == message
    np.savez("odd.npz", X=np.ones((60, 1, 2, 2, 2)), y=np.repeat([0, 1, 2], 20))
    message = (
        "odd.npz: a sample has shape (1, 2, 2, 2), and the network 'cnn' takes series (n,), images (height, width) and "
        "images (channels, height, width); give samples of such a shape, or the network 'mlp'"
    )
    assert refused(capsys, "study", *TINY, "--data", "odd.npz", "--network", "cnn") == message


def test_study_takes_data_sets_by_name(capsys):
    arguments = ["--network", "resnet", "--depth", "3", "--width", "2", "--epochs", "1", "--seeds", "1", "--lr", "1e-3"]
    for name, called in (("digits", "handwritten digits"), ("mnist1d", "MNIST-1D")):
        command = [*arguments, "--extend", "0", "--jobs", "1", "--data", name, "--json", "s.json"]
        assert main(["study", *command]) == 0
        document = json.loads(Path("s.json").read_text("utf-8"))
        assert document["data"]["name"] == called
        assert (document["network"], document["workers"]) == ("residual 3-layer network without normalization", 1)
        out = " ".join(capsys.readouterr().out.split())
        for line in (document["reading"], document["by_formula"], *document["search"], *document["left_out"]):
            assert line in out


def test_an_output_that_existed_is_untouched_by_a_refusal(capsys):
    Path("kept.html").write_text("mine")
    refused(capsys, "study", "--html", "kept.html", "--depth", "0")
    assert Path("kept.html").read_text() == "mine"
    refused(capsys, "study", "--html", "new.html", "--depth", "0")
    assert not Path("new.html").exists()


@contextlib.contextmanager
def long_study() -> Iterator[subprocess.Popen[str]]:
    """A study that would take hours, in a process group of its own, its workers started."""
    # A process that a script starts in the background, as CI may start the tests, inherits an ignored SIGINT.
    command = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command += "from leakyrelu.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", command, "study", "--epochs", "100000"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        try:
            while run.poll() is None and len(members(run.pid)) < 3:  # the command, its resource tracker, a worker
                time.sleep(0.1)
            time.sleep(1.0)
            yield run
        finally:
            if members(run.pid):
                os.killpg(run.pid, signal.SIGKILL)


def test_interrupted_study_ends_at_once_and_leaves_no_process():
    """Ctrl-C reaches every process of the group, whatever it is doing; a worker that stays makes this test hang."""
    with long_study() as run:
        os.killpg(run.pid, signal.SIGINT)
        out, err = run.communicate()
        assert run.returncode == 130, err
        assert err.strip().splitlines()[-1] == "leakyrelu: interrupted"
        assert "Traceback" not in err
        assert out == ""
        while members(run.pid):
            time.sleep(0.1)


def test_workers_end_with_a_study_that_was_killed():
    with long_study() as run:
        run.kill()
        run.wait()
        while members(run.pid):
            time.sleep(0.1)


def members(group: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found
