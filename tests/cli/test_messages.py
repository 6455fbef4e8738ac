"""What the command prints: hostile names are shown, not sent; mistakes are answered with what to write instead."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
import torch
from support.command import python, refused
from torch import nn

from leakyrelu.cli import main

HOSTILE = "a\x1b[31m\x00\x07\x9b2J\u202e[red]:smile:\udcff\r"  # ends a line, colors it, turns it around
SHOWN = r"a\x1b[31m\x00\x07\x9b2J\u202e[red]:smile:\udcff\r"
FILE = HOSTILE.replace("\x00", "").replace("\x9b", "")  # what the name of a file can hold
NOT_PRINTED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

MODELS = f"""
import warnings
from torch import nn

NAME = {HOSTILE!a}

class Hostile(nn.Sequential):
    def forward(self, x):
        warnings.warn("odd " + NAME + " thing")
        return super().forward(x)

def named():
    return Hostile(__import__("collections").OrderedDict([("linear", nn.Linear(4, 5)), (NAME, nn.ReLU())]))

def fails():
    class Fails(nn.ReLU):
        def forward(self, x):
            raise ValueError(NAME)
    return Fails()

def broken():
    raise ValueError(NAME)

def ends():
    class Ends(nn.ReLU):
        def forward(self, x):
            raise SystemExit(0)
    return Ends()
"""


@pytest.fixture
def hostile(models):
    (models / "hostile.py").write_text(MODELS, "utf-8")
    yield
    sys.modules.pop("hostile", None)


def printed(capsys, status: int, *arguments: str) -> str:
    """Everything printed, which must be printable."""
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert not NOT_PRINTED.search(out + err), repr(out + err)
    return out + err


def test_names_in_a_model(capsys, hostile):
    outputs = ["--json", "r.json", "--html", "r.html", "--png", "r.png"]
    text = printed(capsys, 0, "diagnose", "hostile:named", "--data", "x.npz", *outputs)
    assert r"odd a\x1b[31m\x00\x07\x9b2J\u202e[red]:smile:\udcff thing" in text.replace("\\r", "")
    assert text.count("leakyrelu: odd ") == 1  # one warning, though there were two batches
    assert json.loads(Path("r.json").read_text("utf-8"))["layers"][0]["name"] == HOSTILE
    assert not re.search("[\x00\x1b\u202e\udcff]", Path("r.html").read_text("utf-8", "surrogatepass"))
    text = printed(capsys, 0, "memory", "hostile:named", "--input", "3x4")
    assert "[red]:smile:" in text


def test_names_in_errors(capsys, hostile):
    arguments = ["--data", "x.npz"]
    assert printed(capsys, 2, "diagnose", "hostile:fails", *arguments).endswith(f"ValueError: {SHOWN[:-2]}\n")
    assert f"hostile:broken() failed: ValueError: {SHOWN[:-2]}" in printed(
        capsys, 2, "diagnose", "hostile:broken", *arguments
    )
    for target in (
        HOSTILE,
        f"{HOSTILE}:make",
        f"hostile:{HOSTILE}",
        f"{HOSTILE}.onnx",
        f"{HOSTILE}.pt2",
        f"{HOSTILE}.pt",
    ):
        assert "\\x1b" in printed(capsys, 2, "diagnose", target, *arguments)
        assert "\\x1b" in printed(capsys, 2, "diagnose", target, *arguments, "--json", "r.json")
    assert "\\x1b" in printed(capsys, 2, "diagnose", "hostile:named", *arguments, "--fail-on", HOSTILE)
    printed(capsys, 2, "diagnose", "hostile:named", *arguments, "--batch-size", HOSTILE)
    for target in (":make", ".:make", "..a:make", "a..b:make", "hostile.:named"):
        printed(capsys, 2, "diagnose", target, *arguments, "--json", "r.json")
    for option in ("--json", "--html", "--data"):
        assert "\\x1b" in printed(capsys, 2, "diagnose", "hostile:named", *arguments, option, f"{FILE}/a")
    assert "\\x1b" in printed(capsys, 2, HOSTILE)
    assert "\\x1b" in printed(capsys, 2, "study", "--lr", HOSTILE)


def test_names_of_files(capsys, hostile):
    os.rename("x.npz", f"{FILE}.npz")
    text = printed(capsys, 0, "diagnose", "hostile:named", "--data", f"{FILE}.npz", "--json", f"{FILE}.json")
    shown = SHOWN.replace(r"\x00", "").replace(r"\x9b", "")
    assert f"Wrote {shown}.json\n" in text
    for path in (f"{FILE}.npy", f"{FILE}/x.npz"):
        assert "\\x1b" in printed(capsys, 2, "diagnose", "hostile:named", "--data", path)
        assert "\\x1b" in printed(capsys, 2, "study", "--data", path)
    same = ["--json", f"{FILE}.npz"]
    assert "is the file given to --data" in printed(
        capsys, 2, "diagnose", "hostile:named", "--data", f"{FILE}.npz", *same
    )
    np.savez(f"{FILE}.npz", X=np.ones((20, 3)), y=np.repeat([0, 1], 10))
    tiny = ["--depth", "1", "--width", "4", "--epochs", "1", "--seeds", "1", "--lr", "1e-3", "--json", "s.json"]
    printed(capsys, 0, "study", "--data", f"{FILE}.npz", *tiny)
    assert json.loads(Path("s.json").read_text("utf-8"))["data"]["name"] == f"{FILE}.npz"


def test_names_in_an_onnx_file(capsys, hostile):
    name = HOSTILE.replace("\udcff", "")
    text = '<ir_version: 8, opset_import: ["":13]> g (float[n,4] x) => (float[n,4] y) { y = Relu(x) }'
    model = onnx.parser.parse_model(text)
    model.graph.node[0].name = name
    onnx.save(model, "m.onnx")
    printed(capsys, 0, "diagnose", "m.onnx", "--data", "x.npz", "--html", "r.html", "--png", "r.png")
    model.graph.node[0].op_type = name
    onnx.save(model, "m.onnx")
    printed(capsys, 2, "diagnose", "m.onnx", "--data", "x.npz")


def test_a_terminal_of_few_characters_is_no_error(hostile):
    code = "import sys; sys.stdout.reconfigure(encoding='ascii'); from leakyrelu.cli import main; "
    run = python(code + "sys.exit(main(['diagnose', 'mymodels:planted', '--data', 'x.npz']))")
    assert run.returncode == 0, run.stderr
    assert run.stdout.isascii()


def test_a_model_that_ends_the_process_is_an_error(capsys, hostile):
    assert refused(capsys, "diagnose", "hostile:ends", "--data", "x.npz").endswith(": SystemExit: 0")
    assert refused(capsys, "memory", "hostile:ends", "--input", "3x4").endswith(": SystemExit: 0")


def test_the_traceback_is_printed_on_request(capsys, monkeypatch, hostile):
    monkeypatch.setenv("LEAKYRELU_TRACEBACK", "1")
    assert main(["diagnose", "hostile:fails", "--data", "x.npz"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert "in forward" in err
    assert err.splitlines()[-1].startswith("leakyrelu: the model could not be run on X")


def test_an_error_that_was_not_foreseen_is_one_line(capsys, monkeypatch, hostile):
    def fail(*_: object) -> None:
        raise LookupError("deep\ninside")

    monkeypatch.setattr("leakyrelu.cli.diagnose.check_outputs", fail)
    message = refused(capsys, "diagnose", "hostile:named", "--data", "x.npz")
    assert message == "unexpected error, LookupError: deep: LEAKYRELU_TRACEBACK=1 shows where"


def test_a_name_that_is_too_long_is_one_line(capsys, models):
    long = "x" * 300
    message = f"{long} cannot be used: File name too long"
    assert refused(capsys, "diagnose", "mymodels:planted", "--data", long) == message


def test_standard_output_that_is_full_is_one_line(models):
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "leakyrelu", "slope"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (run.returncode, run.stderr) == (2, "leakyrelu: output cannot be used: No space left on device\n")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "mynet.py:make_cnn",
            "'mynet.py:make_cnn' names a file of Python, and a module is wanted: write mynet:make_cnn",
        ),
        ("./mynet.py", "'./mynet.py' names a file of Python, and a module is wanted: write mynet:FACTORY"),
        (
            "nets/mynet.py:make",
            "'nets/mynet.py:make' names a file of Python, and a module is wanted: write nets.mynet:make",
        ),
        (
            "/nets/mynet.py:make",
            "'/nets/mynet.py:make' names a file of Python, and a module is wanted: write mynet:make, in the folder "
            "/nets",
        ),
        (
            "../mynet.py:make",
            "'../mynet.py:make' names a file of Python, and a module is wanted: write mynet:make, in the folder ..",
        ),
    ],
)
def test_a_path_in_place_of_a_module(capsys, models, target, message):
    assert refused(capsys, "diagnose", target, "--data", "x.npz") == message
    assert refused(capsys, "memory", target, "--input", "3x4") == message


def test_a_module_in_a_folder_can_be_written_as_the_message_says(capsys, models):
    os.mkdir("nets")
    os.rename("mymodels.py", "nets/mymodels.py")
    assert main(["diagnose", "nets.mymodels:planted", "--data", "x.npz"]) == 0
    sys.modules.pop("nets.mymodels"), sys.modules.pop("nets")


@pytest.mark.parametrize("name", ["cnn.onnx", "cnn.pt2", "weights.pth", "w.safetensors"])
def test_memory_of_a_file(capsys, models, name):
    Path(name).touch()
    assert refused(capsys, "memory", name, "--input", "1x4") == (
        f"'{name}' is a file, and what builds the model is wanted: write MODULE:FACTORY, such as "
        "package.module:make_model"
    )


def test_files_of_pytorch_that_hold_no_program(capsys, models):
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU())
    torch.save(network, "whole.pth")
    torch.save(network.state_dict(), "weights.pth")
    torch.save([1, 2], "list.pth")
    Path("junk.pth").write_bytes(b"junk")
    remedy = "name what builds the model, MODULE:FACTORY, and give"
    found = {name: refused(capsys, "diagnose", f"{name}.pth", "--data", "x.npz") for name in ("whole", "weights")}
    assert found["whole"] == (
        "whole.pth holds a whole model or another object (torch.nn.modules.container.Sequential), pickled, and to read "
        f"it could run code: {remedy} its weights to --checkpoint (torch.save(model.state_dict(), ...)), or export it "
        "with torch.onnx.export or torch.export.save"
    )
    assert found["weights"] == f"weights.pth holds weights without the model: {remedy} this file to --checkpoint"
    assert refused(capsys, "diagnose", "list.pth", "--data", "x.npz").startswith(
        "list.pth holds no state_dict, but a list"
    )
    assert refused(capsys, "diagnose", "junk.pth", "--data", "x.npz").startswith("junk.pth is not a file of torch.save")
    assert refused(capsys, "diagnose", "gone.pth", "--data", "x.npz") == "gone.pth does not exist"


def test_a_checkpoint_of_another_model_is_compared_in_short(capsys, models):
    arguments = ["diagnose", "mymodels:planted", "--data", "x.npz", "--checkpoint", "w.pt"]
    deep = nn.Sequential(*(nn.Linear(4, 4) for _ in range(40)))
    torch.save(deep.state_dict(), "w.pt")
    assert refused(capsys, *arguments) == (
        "w.pt does not fit the model: 76 tensors of 80 in the file are unknown to the model (1.weight (4, 4), "
        "1.bias (4,), 3.weight (4, 4) and 73 more); 4 tensors have another shape (0.weight (4, 4) for (5, 4), 0.bias "
        "(4,) for (5,), 2.weight (4, 4) for (2, 5) and 1 more)"
    )
    torch.save({"0.weight": torch.ones(5, 4)}, "w.pt")
    message = (
        "w.pt does not fit the model: 3 tensors of 4 are not in the file (0.bias (5,), 2.weight (2, 5), 2.bias (2,))"
    )
    assert refused(capsys, *arguments) == message
    from mymodels import planted

    torch.save({f"module.{name}": x for name, x in planted().state_dict().items()}, "w.pt")
    message = (
        "w.pt does not fit the model: every name in the file begins with 'module.', so it is that of a model around"
    )
    assert refused(capsys, *arguments).startswith(message)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("silent=1%", "failed: 2 of 5 units silent (40%), more than 1%"),
        ("silent=0.5%", "failed: 2 of 5 units silent (40%), more than 0.5%"),
        ("silent=0.01", "failed: 2 of 5 units silent (0.4), more than 0.01"),
        ("always-on=.1", "failed: 1 of 5 units always-on (0.2), more than 0.1"),
    ],
)
def test_fail_on_speaks_in_the_unit_it_was_given(capsys, models, limit, message):
    assert main(["diagnose", "mymodels:planted", "--data", "x.npz", "--fail-on", limit]) == 1
    assert capsys.readouterr().err == f"leakyrelu: {message}\n"


def test_the_report_holds_the_command_that_made_it(capsys, models):
    assert main(["diagnose", "mymodels:planted", "--data", "x.npz", "--json", "my report.json"]) == 0
    document = json.loads(Path("my report.json").read_text("utf-8"))
    assert document["command"] == [
        *("leakyrelu", "diagnose", "mymodels:planted", "--data", "x.npz", "--json", "my report.json")
    ]
    assert document["source"] == "model"


def test_other_warnings_are_lines_too(capsys, monkeypatch, models):
    (models / "warns.py").write_text(
        "import warnings\nwarnings.warn('first\\nline', RuntimeWarning)\nfrom mymodels import planted\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["diagnose", "warns:planted", "--data", "x.npz"]) == 0
    assert capsys.readouterr().err == "leakyrelu: first line\n"
    sys.modules.pop("warns")
