"""The command slope on a model: table, sentence, files, measurement, and what it refuses."""

from __future__ import annotations

import json
import re

import pytest
import torch
from support.command import refused
from torch import nn

from leakyrelu.cli import main
from leakyrelu.slope import correlation, tailored
from leakyrelu.torch import choose_slope

NETWORKS = """
import torch
from torch import nn

def plain():
    return nn.Sequential(*[layer for _ in range(20) for layer in (nn.Linear(64, 64), nn.ReLU())])

def wide():
    return nn.Sequential(*[layer for _ in range(2) for layer in (nn.Linear(128, 128), nn.ReLU())])

def shallow():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU())

def without():
    return nn.Sequential(nn.Linear(64, 64), nn.GELU())

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x):
        return torch.relu(self.layer(x.cumsum(1)))

odd = Odd
"""


@pytest.fixture(autouse=True)
def networks(tmp_path, monkeypatch):
    (tmp_path / "slope_networks.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def test_the_table_the_sentence_and_lines_to_paste(capsys):
    assert main(["slope", "slope_networks:plain", "--input", "4x64"]) == 0
    out = capsys.readouterr().out
    slope = tailored(20)
    assert re.search(rf"similarity behind +slope {slope:.3f} +slope 0.01 +slope 0\n", out)
    usual, relu = (f"{correlation(each, 0.0, 20):.3f}" for each in (0.01, 0.0))
    assert re.search(rf"\n39 +0\.900 +{usual} +{relu} *\n", out)
    sentence = " ".join(out.split())
    assert f"then {slope:.3f}: with it no part of the network makes unrelated inputs more alike than 0.9" in sentence
    assert "worst part: from input to 39, 0.900 (20 activations in all)" in sentence
    pasted = out[out.index("from leakyrelu.torch import") :]
    names = {"model": nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), "x": torch.randn(2, 8)}
    exec(pasted, names)
    assert names["model"][1].negative_slope == pytest.approx(slope, abs=1e-9)
    assert names["model"][2].weight.detach().norm() ** 2 == pytest.approx(8 * 2 / (1 + slope**2), rel=1e-5)


def test_files_hold_the_same_answer(tmp_path, capsys):
    assert main(["slope", "slope_networks:plain", "--input", "4x64", "--json", "a.json", "--html", "a.html"]) == 0
    assert capsys.readouterr().out.endswith("Wrote a.json\nWrote a.html\n")
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["slope"] == pytest.approx(tailored(20), abs=1e-9)
    assert len(found["layers"]) == 20
    page = (tmp_path / "a.html").read_text()
    assert "Slope of slope_networks:plain" in page
    assert "Similarity by depth" in page


def test_an_answer_without_a_slope_has_no_lines_to_paste(capsys):
    assert main(["slope", "slope_networks:shallow", "--input", "4x64"]) == 0
    out = capsys.readouterr().out
    assert "keep 0.01: even under ReLU similarity stays at 0.32" in out
    assert "import" not in out


def test_what_cannot_be_read_is_named(capsys):
    assert main(["slope", "slope_networks:odd", "--input", "4x64"]) == 0
    assert re.search(r"not read +cumsum in slope_networks.py:\d+", " ".join(capsys.readouterr().out.split()))


def test_the_slope_is_measured_beside_it(capsys):
    assert main(["slope", "slope_networks:wide", "--input", "8x128", "--eta", "0.4", "--measure"]) == 0
    out = capsys.readouterr().out
    measured = out[out.index("measured, with weights drawn by initialize:") :]
    found = re.search(r"(0\.\d+), with a standard error of (0\.\d+)", measured)
    assert found is not None, measured
    assert abs(float(found[1]) - tailored(2, 0.4)) < 4 * float(found[2])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["slope_networks:plain"], "slope_networks:plain needs --input, the shape of one batch of inputs, such as"),
        (["slope_networks:plain", "--input", "4x0"], "--input '4x0' is no shape"),
        (
            ["slope_networks:plain", "--input", "4x64", "--depth", "3"],
            "--depth is for a network of that depth; leave it",
        ),
        (["slope_networks:plain", "--input", "4x64", "--zeta", "3"], "--zeta is for a network of that depth; leave it"),
        (["slope_networks:plain", "--input", "4x64", "--eta", "1"], "--eta must lie above 0 and below 1, got 1"),
        (
            ["slope_networks:plain", "--input", "4x63"],
            "no slope could be chosen for slope_networks:plain on an input of",
        ),
        (["slope_networks:without", "--input", "4x64"], "called no ReLU or Leaky ReLU on these inputs"),
        (["slope_networks:plain", "--input", "4x64", "--json", "slope_networks.py"], "is the code of slope_networks"),
        (["--input", "4x64"], "--input is for a model; give MODULE:FACTORY, too"),
        (["--measure"], "--measure is for a model; give MODULE:FACTORY, too"),
        (["--json", "a.json"], "--json is for a model; give MODULE:FACTORY, too"),
    ],
)
def test_what_is_refused(arguments, text, capsys):
    assert text in refused(capsys, "slope", *arguments)


def test_the_answer_is_that_of_choose_slope():
    torch.manual_seed(0)
    layers = [layer for _ in range(20) for layer in (nn.Linear(64, 64), nn.ReLU())]
    assert choose_slope(nn.Sequential(*layers), torch.randn(4, 64)).slope == pytest.approx(tailored(20), abs=1e-9)
