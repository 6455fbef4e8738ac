"""What diagnose reads: checkpoints, files of models, folders of images."""

from __future__ import annotations

import json
import os
import pickle
import sys
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
    assert refused(capsys, *arguments, "other.pt").startswith(
        "other.pt does not fit the model: 4 tensors of 4 are not in the f"
    )
    assert refused(capsys, *arguments, "list.pt").startswith("list.pt holds no state_dict, but a list")


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
    rows = [(layer["name"], layer["kind"], layer["units"]) for layer in document["layers"]]
    assert rows == [  # those of the model itself
        *(("relu()", "relu", 5), ("leaky_relu()", "leaky_relu", 5), ("slopes", "PReLU", 5)),
        *(("relu6()", "relu6", 5), ("clamp()", "clamp", 5)),
    ]
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
