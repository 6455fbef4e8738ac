"""The command: what it prints, what it writes, what it refuses and with which exit status."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import leakyrelu
from leakyrelu import slope
from leakyrelu.cli import main
from leakyrelu.torch import CenteredLeakyReLU, LeakyReLU

if TYPE_CHECKING:
    from collections.abc import Iterator

TINY = ["--depth", "2", "--width", "8", "--epochs", "1", "--seeds", "1", "--lr", "1e-3"]


@pytest.fixture(autouse=True)
def _plain(monkeypatch, tmp_path):
    """Here, in one process, 80 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})


@pytest.fixture
def blobs(tmp_path) -> str:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 20)
    np.savez(tmp_path / "blobs.npz", X=rng.normal(size=(60, 4)) + 3 * y[:, None], y=y)
    return "blobs.npz"


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


# --- slope


def test_slope_prints_both_formulas(capsys):
    assert main(["slope", "--depth", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = {line[:20].strip(): line[20:].split() for line in lines if line[:20].strip()}
    a, b = slope.tailored(20), slope.centered(20)
    assert [float(text) for text in table["slope"]] == pytest.approx([a, b], abs=1e-6)
    assert [float(text) for text in table["shift"]] == pytest.approx([0, slope.mean(b)], abs=1e-6)
    assert [float(text) for text in table["scale"]] == pytest.approx(
        [slope.gain(a), slope.variance(b) ** -0.5], abs=1e-6
    )
    assert [float(text) for text in table["gain"]] == pytest.approx([slope.gain(a), slope.gain(b)], abs=1e-6)
    assert [float(text) for text in table["similarity at the en"][-2:]] == [0.9, 0.0]
    assert max(map(len, lines)) <= 84


def test_the_lines_of_slope_can_be_pasted(capsys):
    assert main(["slope", "--depth", "30", "--eta", "0.8", "--zeta", "2"]) == 0
    out = capsys.readouterr().out
    pasted = out[out.index("from torch import nn") :]
    names: dict[str, object] = {"linear": nn.Linear(16, 16)}
    first, second = pasted.split("# centered")
    exec(first, names)
    assert isinstance(names["activation"], LeakyReLU)
    assert names["activation"].negative_slope == slope.tailored(30, 0.8)
    weight = names["linear"].weight.detach()
    torch.testing.assert_close(weight @ weight.T, slope.gain(slope.tailored(30, 0.8)) ** 2 * torch.eye(16))
    exec("# centered" + second, names)
    assert isinstance(names["activation"], CenteredLeakyReLU)
    assert names["activation"].negative_slope == slope.centered(30, 2.0)
    weight = names["linear"].weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(16))


def test_slope_says_when_one_formula_has_no_solution(capsys):
    assert main(["slope", "--depth", "5"]) == 0
    out = capsys.readouterr().out
    assert "tailored: no slope of at least 0 gives eta = 0.9 at depth 5" in out
    assert "CenteredLeakyReLU(0.456" in out
    assert "LeakyReLU(0.0" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", "0"], "--depth must be at least 1, got 0"),
        (["--depth", "-5"], "--depth must be at least 1, got -5"),
        (["--eta", "1"], "--eta must lie above 0 and below 1, got 1"),
        (["--eta", "nan"], "--eta must lie above 0 and below 1, got nan"),
        (["--zeta", "1"], "--zeta must be a finite number above 1, got 1"),
        (["--zeta", "inf"], "--zeta must be a finite number above 1, got inf"),
    ],
)
def test_slope_refuses(capsys, arguments, message):
    assert refused(capsys, "slope", *arguments) == message


def test_slope_refuses_a_depth_without_any_solution(capsys):
    message = refused(capsys, "slope", "--depth", "1")
    assert "tailored: no slope" in message
    assert "centered: no slope" in message
    assert "a depth of at least 13" in message


def test_slope_does_not_wait_for_pytorch():
    run = python("import sys; from leakyrelu.cli import main; main(['slope']); print('torch' in sys.modules)")
    assert run.stdout.splitlines()[-1] == "False", run.stderr


# --- study


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


def test_an_output_that_existed_is_untouched_by_a_refusal(capsys):
    Path("kept.html").write_text("mine")
    refused(capsys, "study", "--html", "kept.html", "--depth", "0")
    assert Path("kept.html").read_text() == "mine"
    refused(capsys, "study", "--html", "new.html", "--depth", "0")
    assert not Path("new.html").exists()


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
    assert run.stderr == f'leakyrelu: this needs {missing}, which is not installed: pip install "leakyrelu[{extra}]"\n'


# --- diagnose


MODELS = '''
import numpy, torch
from torch import nn

def planted():
    """Units 1 and 3 of five are silent, unit 0 is always on."""
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[2, 0] = model[0].weight[4, 1] = 1.0
        model[0].bias.copy_(torch.tensor([1.0, -1.0, 0.0, -2.0, 0.0]))
    return model

ready = planted()
number = 3

class Zoo:
    @staticmethod
    def make():
        return planted().double()

def broken():
    raise RuntimeError("no weights\\nand a second line")

def nothing():
    return {}

def without():
    return nn.Sequential(nn.Linear(4, 2), nn.Tanh())
'''


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mymodels.py").write_text(MODELS)
    (tmp_path / "broken_module.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "failing_module.py").write_text("1 / 0\n")
    x = np.random.default_rng(0).normal(size=(300, 4))
    np.savez(tmp_path / "x.npz", X=x)
    np.savez(tmp_path / "wide.npz", X=np.ones((6, 9), np.float32))
    np.savez(tmp_path / "ints.npz", X=np.ones((6, 4), np.int64))
    np.savez(tmp_path / "words.npz", X=np.array([["a"]]))
    np.savez(tmp_path / "none.npz", X=np.ones((0, 4)))
    yield tmp_path
    for name in ("mymodels", "broken_module", "failing_module"):
        sys.modules.pop(name, None)


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
    assert "failed: 2 of 5 units silent (40.00%), more than 0.1" in capsys.readouterr().err
    for wrong in ("silent", "quiet=3", "silent=-1", "silent=10%%"):
        message = refused(capsys, *arguments, wrong)
        assert message.startswith(f"--fail-on {wrong!r} is not one of silent, always-on, saturated, nan with a share")
    assert "is more than all units" in refused(capsys, *arguments, "silent=10")


# --- diagnose: checkpoints


@pytest.fixture
def weights(models):
    """A model whose weights live in files: unit 0 of the factory's own model is alive, that of the files is dead."""
    (models / "withweights.py").write_text(
        "from torch import nn\ndef make():\n    m = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))\n"
        "    nn.init.zeros_(m[0].bias)\n    return m\n"
    )
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    yield model
    sys.modules.pop("withweights", None)


@pytest.mark.parametrize("kind", ["safetensors", "state_dict", "nested"])
def test_checkpoints(capsys, weights, kind):
    if kind == "safetensors":
        save_file(weights.state_dict(), "w.safetensors")
    else:
        state = weights.state_dict()
        torch.save(state if kind == "state_dict" else {"epoch": 3, "state_dict": state}, "w.pt")
    name = "w.safetensors" if kind == "safetensors" else "w.pt"
    assert main(["diagnose", "withweights:make", "--data", "x.npz", "--checkpoint", name]) == 0
    assert "5 of 5 units silent" in capsys.readouterr().out
    assert main(["diagnose", "withweights:make", "--data", "x.npz"]) == 0
    assert "no unit silent" in capsys.readouterr().out


class Bomb:
    """A pickle that would make a file, were it ever loaded."""

    def __reduce__(self):
        return (os.system, ("touch exploded",))


def test_a_checkpoint_that_wants_to_run_code_is_refused(capsys, weights):
    arguments = ["diagnose", "withweights:make", "--data", "x.npz", "--checkpoint"]
    torch.save({"state_dict": Bomb()}, "bomb.pt")
    Path("bomb.pkl").write_bytes(pickle.dumps(Bomb()))
    torch.save(weights, "whole.pt")
    for name in ("bomb.pt", "bomb.pkl", "whole.pt"):
        message = refused(capsys, *arguments, name)
        assert message.startswith(f"{name} holds more than weights, and to read it could run code: save model.state_")
    np.save("bomb.npy", np.array([Bomb()]), allow_pickle=True)
    assert "can run code" in refused(capsys, *arguments[:3], "bomb.npy")
    assert not Path("exploded").exists()
    pickle.loads(Path("bomb.pkl").read_bytes())  # it is a bomb: this test could fail
    assert Path("exploded").exists()


def test_other_checkpoints_are_refused_in_one_line(capsys, weights):
    arguments = ["diagnose", "withweights:make", "--data", "x.npz", "--checkpoint"]
    Path("junk.pt").write_bytes(b"junk" * 10)
    Path("junk.safetensors").write_bytes(b"junk" * 10)
    torch.save(nn.Linear(3, 3).state_dict(), "other.pt")
    torch.save([1, 2], "list.pt")
    assert refused(capsys, *arguments, "none.pt") == "--checkpoint none.pt does not exist"
    assert "junk.pt" in refused(capsys, *arguments, "junk.pt")
    assert refused(capsys, *arguments, "junk.safetensors").startswith("junk.safetensors is not a safetensors file")
    assert refused(capsys, *arguments, "other.pt").startswith("other.pt does not fit the model: Missing key(s)")
    assert refused(capsys, *arguments, "list.pt").startswith("list.pt holds no state_dict, but a list")


# --- diagnose: other targets


def test_an_onnx_file(capsys, models):
    model_file(models / "m.onnx")
    np.savez("named.npz", x=np.load("x.npz")["X"].astype(np.float32))
    for data in ("x.npz", "named.npz"):
        assert main(["diagnose", "m.onnx", "--data", data, "--batch-size", "64"]) == 0
        assert "1 of 3 units silent" in capsys.readouterr().out
    assert refused(capsys, "diagnose", "gone.onnx", "--data", "x.npz") == "there is no file gone.onnx"
    Path("bad.onnx").write_bytes(b"nothing")
    assert refused(capsys, "diagnose", "bad.onnx", "--data", "x.npz").startswith("bad.onnx is no ONNX model")
    assert "takes float32, but the data is int64" in refused(capsys, "diagnose", "m.onnx", "--data", "ints.npz")


def model_file(path):
    weight = numpy_helper.from_array(np.array([[1, 0, 0]] * 4, np.float32), "w")
    bias = numpy_helper.from_array(np.array([0, -1, 1], np.float32), "b")
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"]), helper.make_node("Relu", ["h"], ["y"], name="act")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "m", inputs, outputs, [weight, bias])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def test_an_exported_program(capsys, models):
    program = torch.export.export(
        Rectifiers().eval(), (torch.randn(3, 4),), dynamic_shapes=({0: torch.export.Dim.AUTO},)
    )
    torch.export.save(program, "m.pt2")
    assert main(["diagnose", "m.pt2", "--data", "x.npz", "--json", "r.json"]) == 0
    capsys.readouterr()
    document = json.loads(Path("r.json").read_text("utf-8"))
    kinds = [(layer["kind"], layer["units"]) for layer in document["layers"]]
    assert kinds == [("ReLU", 5), ("LeakyReLU", 5), ("PReLU", 5), ("ReLU6", 5), ("ReLU", 5)]
    assert document["layers"][0]["silent_units"] == [2]
    assert document["layers"][1]["negative_slope"] == 0.2
    assert refused(capsys, "diagnose", "no.pt2", "--data", "x.npz") == "no.pt2 does not exist"
    Path("bad.pt2").write_bytes(b"nothing")
    assert "bad.pt2 is not a file of torch.export.save" in refused(capsys, "diagnose", "bad.pt2", "--data", "x.npz")


class Rectifiers(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.slopes = nn.Linear(4, 5), nn.PReLU(5)
        nn.init.zeros_(self.linear.bias)
        with torch.no_grad():
            self.linear.bias[2] = -100.0

    def forward(self, x):
        hidden = self.linear(x)
        one = torch.relu(hidden) + nn.functional.leaky_relu(hidden, 0.2)
        return torch.clamp(nn.functional.relu6(self.slopes(one)), min=0)


# --- diagnose: images


@pytest.fixture
def folder(models):
    (models / "imagenet.py").write_text(
        "from torch import nn\ndef make():\n    m = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())\n"
        "    nn.init.dirac_(m[0].weight)\n    nn.init.zeros_(m[0].bias)\n    return m\n"
    )
    images = models / "images" / "deep"
    images.mkdir(parents=True)
    for i in range(5):
        pixels = np.full((6, 8, 3), (10 * i, 128, 255), np.uint8)
        Image.fromarray(pixels).save(images / f"{i}.png")
    (images / "notes.txt").write_text("not an image")
    yield images
    sys.modules.pop("imagenet", None)


def means(capsys, *arguments):
    assert main(["diagnose", "imagenet:make", "--json", "r.json", *arguments]) == 0
    capsys.readouterr()
    (layer,) = json.loads(Path("r.json").read_text("utf-8"))["layers"]
    return layer["samples"], layer["output_mean"]


def test_a_folder_of_images(capsys, folder):
    arguments = ["--data", "images", "--batch-size", "2"]
    assert means(capsys, *arguments) == (5 * 48, pytest.approx([20, 128, 255]))  # as they are: 0 to 255
    assert means(capsys, *arguments, "--image-size", "3x4") == (5 * 12, pytest.approx([20, 128, 255]))
    normalized = means(capsys, *arguments, "--image-mean", "10,100,200", "--image-std", "2")[1]
    assert normalized == pytest.approx([(0 + 0 + 5 + 10 + 15) / 5, 14, 27.5])
    Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(folder / "wide.png")
    message = refused(capsys, "diagnose", "imagenet:make", "--data", "images")
    assert message.endswith(
        "wide.png has 9 x 6 pixels, not 8 x 6 as those before it: give --image-size HEIGHTxWIDTH to resize them all"
    )
    (folder / "bad.png").write_bytes(b"nothing")
    assert "bad.png cannot be read as an image" in refused(
        capsys, "diagnose", "imagenet:make", "--data", "images", "--image-size", "6x8"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "empty"], "empty holds no image"),
        (["--data", "images", "--image-size", "9"], "--image-size '9' is not HEIGHTxWIDTH, such as 224x224"),
        (["--data", "images", "--image-mean", "1,2"], "--image-mean '1,2' is not one number or three"),
        (["--data", "images", "--image-std", "0"], "--image-std '0' is not one number or three"),
        (["--data", "x.npz", "--image-size", "2x2"], "--image-size is for a folder of images, and x.npz is none"),
        (["--data", "nothing.npy"], "nothing.npy does not exist"),
        (["--data", "junk.npy"], "junk.npy is not a file written by np.save or np.savez"),
        (["--data", "two.npz"], "two.npz has no array 'X', only a, b; save with X=..."),
    ],
)
def test_data_that_cannot_be_used(capsys, folder, arguments, message):
    Path("empty").mkdir()
    Path("junk.npy").write_bytes(b"junk")
    np.savez("two.npz", a=np.ones(3), b=np.ones(3))
    assert refused(capsys, "diagnose", "imagenet:make", *arguments).startswith(message)
