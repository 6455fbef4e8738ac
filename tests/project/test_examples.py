"""The scripts of examples/ run, and print what they are about."""

from __future__ import annotations

import re
import runpy
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import ROOT

EXAMPLES = ROOT / "examples"


@pytest.fixture
def printed(capsys, monkeypatch):
    """A function that runs an example and returns what it printed."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def numbers(pattern, text):
    """Every number that the group of a pattern finds."""
    return [float(found) for found in re.findall(pattern, text)]


def test_every_example_is_run_here():
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    source = (ROOT / "tests/project/test_examples.py").read_text()
    assert {name for name in scripts if f'printed("{name}"' in source} == scripts


def test_compute(printed):
    text = printed("compute.py")
    least = numbers(r"least (-[\d.]+)", text)
    x = np.random.default_rng(0).standard_normal((8, 3, 32, 32), dtype=np.float32)
    expected = [slope * x[:, channel].min() for channel, slope in enumerate((0.01, 0.1, 0.3))]
    np.testing.assert_allclose(least, expected, atol=6e-4)
    assert f"kept for the backward pass: {x.size // 8} bytes of {4 * x.size}" in text
    assert numbers("mean gradient: (.*)", text) == [pytest.approx(np.where(x > 0, 1, 0.01).mean(), abs=6e-4)]


def test_train(printed):
    text = printed("train.py")
    assert "3 pairs joined" in text
    plain, saving = numbers(r"(\d+) bytes kept", text)
    assert saving < plain / 2
    before, after = numbers(r"loss ([\d.]+)", text)
    assert after == pytest.approx(before, rel=1e-3)
    assert before < np.log(2)  # better than guessing


def test_diagnose(printed):
    text = printed("diagnose.py")
    silent = numbers(r"\d: (\d+) of 64 units silent", "\n".join(text.strip().splitlines()[-2:]))
    assert len(silent) == 2
    assert max(silent) > 32
    assert "watched layers: 1, 3" in text


def test_choose(printed):
    usual, tailored, centered = numbers(r"similarity (-?[\d.]+)", printed("choose.py"))
    assert usual > 0.95
    assert usual > tailored > 0.8
    assert abs(centered) < 0.3


def test_residual(printed):
    text = printed("residual.py")
    plain, chosen = numbers(r"accuracy ([\d.]+)", text)
    assert plain < 0.2  # ten digits: it guesses
    assert chosen > 0.8
    assert re.search(
        r"^0\.6\d\d: with it no part of the network makes unrelated inputs more alike than 0.9", text, re.M
    )


def test_diagnose_ocr(printed, tmp_path):
    """On a classifier made for the purpose: half of its two units never fires, and it answers "right way up" always."""
    models = tmp_path / "rapidocr_onnxruntime" / "models"
    models.mkdir(parents=True)
    weight = np.zeros((2, 3, 1, 1), np.float32)
    values = {"weight": weight, "bias": np.array([1, -1], np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "weight", "bias"], ["h"], name="conv"),
            helper.make_node("Relu", ["h"], ["a"], name="relu"),
            helper.make_node("GlobalAveragePool", ["a"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["y"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 48, 192])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, models / "made_cls_infer.onnx")
    picture = tmp_path / "ocr.png"
    text = printed("diagnose_ocr.py", str(tmp_path), str(picture))
    assert "50.0% of the lines classified right" in text
    assert "1 of 2 units silent" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "made_cls_infer.onnx on 600 lines of text" in (tmp_path / "ocr.html").read_text()
