"""No output replaces an input or another output, and what could not be written leaves the old file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file
from support.command import refused
from torch import nn

from leakyrelu.cli import main

OUTPUTS = ("--html", "--json", "--png")


@pytest.fixture
def inputs(models):
    """One of every kind of input, and links to each."""
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"], name="act")]
    ends = [helper.make_tensor_value_info(*parts) for parts in (("x", 1, ["n", 4]), ("y", TensorProto.FLOAT, None))]
    model = helper.make_model(
        helper.make_graph(nodes, "m", ends[:1], ends[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.save(model, "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    torch.export.save(torch.export.export(network, (torch.ones(2, 4),)), "m.pt2")
    torch.save(network.state_dict(), "w.pt")
    save_file(network.state_dict(), "w.safetensors")
    np.save("x.npy", np.ones((6, 4)))
    os.makedirs("images/deep")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save("images/deep/0.png")
    os.makedirs("package/inner")
    Path("package/__init__.py").touch()
    Path("package/inner/__init__.py").touch()
    Path("package/inner/code.py").write_text("1 / 0\n")
    return models


TARGETS = [
    ("m.onnx", ["--data", "x.npz"], "m.onnx", "the model itself"),
    ("m.onnx", ["--data", "x.npz"], "m.data", "external data of m.onnx"),
    ("m.pt2", ["--data", "x.npz"], "m.pt2", "the model itself"),
    ("w.pt", ["--data", "x.npz"], "w.pt", "the model itself"),
    ("mymodels:planted", ["--data", "x.npz"], "mymodels.py", "the code of mymodels"),
    ("package.inner.code:make", ["--data", "x.npz"], "package/inner/code.py", "the code of package.inner.code"),
    ("package.inner.code:make", ["--data", "x.npz"], "package/__init__.py", "the code of package.inner.code"),
    ("mymodels:planted", ["--data", "x.npz"], "x.npz", "the file given to --data"),
    ("mymodels:planted", ["--data", "x.npy"], "x.npy", "the file given to --data"),
    ("mymodels:planted", ["--data", "x.npz", "--checkpoint", "w.pt"], "w.pt", "the file given to --checkpoint"),
    (
        "mymodels:planted",
        ["--data", "x.npz", "--checkpoint", "w.safetensors"],
        "w.safetensors",
        "the file given to --checkpoint",
    ),
    ("mymodels:planted", ["--data", "images"], "images/deep/0.png", "an image of the folder given to --data"),
]


@pytest.mark.parametrize(("target", "options", "file", "what"), TARGETS)
@pytest.mark.parametrize("link", [None, os.link, os.symlink])
def test_no_output_may_be_an_input(capsys, monkeypatch, inputs, target, options, file, what, link):
    monkeypatch.setattr("leakyrelu.cli.diagnose.report_on", lambda *_: pytest.fail("it ran"))
    before = Path(file).read_bytes()
    if link is not None:
        link(os.path.abspath(file), "linked.png")
    for option in OUTPUTS:
        name = "linked.png" if link else f"./{file}"
        message = refused(capsys, "diagnose", target, *options, option, name)
        assert message == f"{option} {Path(name)} is {what}; give another name"
    assert Path(file).read_bytes() == before


def test_an_output_would_be_no_image_of_the_next_run(capsys, inputs):
    arguments = ["diagnose", "mymodels:planted", "--data", "images"]
    message = "--png images/units.png would be an image of the folder given to --data; give another folder"
    assert refused(capsys, *arguments, "--png", "images/units.png") == message
    os.symlink("images", "same")
    assert "would be an image" in refused(capsys, *arguments, "--png", "same/deep/units.png")
    assert os.listdir("images") == ["deep"]


@pytest.mark.parametrize("command", [["diagnose", "mymodels:planted", "--data", "x.npz"], ["study", "--quick"]])
@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_two_outputs_may_not_be_one_file(capsys, models, command, link):
    Path("one").write_text("mine")
    link("one", "two")
    message = refused(capsys, *command, "--html", "one", "--json", "two")
    assert message == "--json two is the file given to --html; give another name"
    assert Path("one").read_text() == "mine"


def test_an_output_of_the_study_may_not_be_its_data(capsys, models):
    os.link("x.npz", "hard.json")
    message = refused(capsys, "study", "--data", "x.npz", "--json", "hard.json")
    assert message == "--json hard.json is the file given to --data; give another name"


def test_a_file_beside_the_inputs_is_written(capsys, models):
    Path("mymodels.json").write_text("old")
    assert main(["diagnose", "mymodels:planted", "--data", "x.npz", "--json", "mymodels.json"]) == 0
    assert capsys.readouterr().out.endswith("\nWrote mymodels.json\n")
    assert Path("mymodels.json").read_text("utf-8").startswith("{")


def test_outputs_go_to_devices(capfd, models):
    outputs = ["--json", "/dev/stdout", "--html", os.devnull]
    assert main(["diagnose", "mymodels:planted", "--data", "x.npz", *outputs]) == 0
    out = capfd.readouterr().out
    assert out.index("2 of 5 units silent") < out.index('{"schema"') < out.index("Wrote /dev/stdout")


@pytest.mark.parametrize("command", ["diagnose", "study"])
def test_a_full_disk_is_one_line_and_leaves_the_old_file(capsys, monkeypatch, models, command):
    Path("kept.json").write_text("mine")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    np.savez("blobs.npz", X=rng.normal(size=(40, 4)) + 3 * y[:, None], y=y)
    arguments = {
        "diagnose": ["mymodels:planted", "--data", "x.npz"],
        "study": ["--data", "blobs.npz", "--depth", "1", "--width", "4", "--epochs", "1", "--seeds", "1", "--lr", "1"],
    }[command]
    assert main([command, *arguments, "--json", "kept.json"]) == 2
    assert capsys.readouterr().err == "leakyrelu: kept.json could not be written: No space left on device\n"
    assert Path("kept.json").read_text() == "mine"
    assert not [name for name in os.listdir() if name.endswith(".tmp")]


def test_a_renderer_that_fails_is_one_line_and_leaves_the_old_file(capsys, monkeypatch, models):
    import vl_convert

    def fail(*_: object, **__: object) -> None:
        raise ValueError("renderer\nfailed")

    monkeypatch.setattr(vl_convert, "javascript_bundle", fail)
    Path("kept.html").write_text("mine")
    assert main(["diagnose", "mymodels:planted", "--data", "x.npz", "--html", "kept.html"]) == 2
    assert capsys.readouterr().err == "leakyrelu: kept.html could not be written: ValueError: renderer\n"
    assert Path("kept.html").read_text() == "mine"
