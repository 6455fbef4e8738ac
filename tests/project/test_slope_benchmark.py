"""The benchmark of similarities: what it measures is what a simulation in NumPy gives, and its table holds it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from oracle.similarity import last_activation, ratio_of_means, through_layers
from support import ROOT

MEASURED = """
import json, torch
from functools import partial
from benchmarks.slope import networks
from benchmarks.slope.measured import measured
small = networks.NETWORKS["small"] = networks.InitializedNetwork(partial(networks._mlp, 4, 32), (32,), 5, None)
drawn = []
for number in range(3):
    torch.manual_seed(number)
    model = small.make(0.3)
    drawn.append([[model[k].weight.tolist() for k in range(0, 8, 2)], small.inputs().tolist()])
print(json.dumps([measured("small", 0.3, 3), drawn, measured("CNN, 20 layers of 16", 0.3, 2)]))
"""

TABLE = """
import json
from benchmarks.slope.main import figures, render
row = {
    "run": 0, "inits": 16, "bound": 0.02, "activations": ["0", "2", "4"],
    "slopes": {
        "0.01": {"measured": [0.3, 0.5, 0.6], "standard_error": [0.0, 0.0, 0.01], "predicted": [0.31, 0.45, 0.601]},
        "0.3": {"measured": [0.2, 0.3, 0.4], "standard_error": [0.0, 0.0, 0.002], "predicted": [0.2, 0.3, 0.402]},
    },
}
results = {
    "machine": {"packages": {"torch": "2"}}, "runs": [{"commit": "abc"}], "failed": {"VGG-16": "no memory"},
    "networks": {"U-Net, instance norm": row},
}
print(json.dumps([render(results), figures(results)]))
"""


def run(*arguments):
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_measured_is_a_ratio_of_means_over_pairs_and_initializations():
    small, drawn, cnn = json.loads(run("-c", MEASURED))
    assert [name for name, _, _ in small] == ["1", "3", "5", "7"]
    for layers, (_, mean, error) in enumerate(small, 1):
        expected = ratio_of_means([last_activation(weights[:layers], inputs, 0.3) for weights, inputs in drawn])
        assert (mean, error) == pytest.approx(expected, abs=1e-5)
    assert len(cnn) == 20
    # The first layer of a network is of any width: behind it, on each place, the closed form holds.
    assert cnn[0][1] == pytest.approx(through_layers(0.3, 1), abs=0.05)


def test_the_table_holds_what_was_measured_and_the_worst_difference():
    table, figures = json.loads(run("-c", TABLE))
    assert [line for line in table.splitlines() if line.startswith("| U-Net")] == [
        "| U-Net, instance norm | 16 | 3 | 0.01 | 0.600 ± 0.010 | 0.601 | 0.050 | 2 | 0.02 |",
        "| U-Net, instance norm | 16 | 3 | 0.3 | 0.400 ± 0.002 | 0.402 | 0.002 | 4 | 0.02 |",
    ]
    assert "- VGG-16: no memory" in table
    assert figures.pop("slope, table").splitlines()[2] == "| U-Net, instance norm | 0.402 / 0.400 | 0.050 |"
    assert figures == {
        "slope, measured, U-Net, instance norm, 0.01": "0.600",
        "slope, predicted, U-Net, instance norm, 0.01": "0.601",
        "slope, measured, U-Net, instance norm, 0.3": "0.400",
        "slope, predicted, U-Net, instance norm, 0.3": "0.402",
        "slope, apart, U-Net, instance norm": "0.050",
    }


def test_a_run_stores_each_activation(tmp_path):
    run("-m", "benchmarks", "slope", "CNN, 20 layers of 16", "--inits", "2", "--save", str(tmp_path))
    results = json.loads((tmp_path / "slope.json").read_text())
    (row,) = results["networks"].values()
    assert len(row["activations"]) == 20
    assert {slope: len(under["measured"]) for slope, under in row["slopes"].items()} == {"0.01": 20, "0.3": 20}
    # A plain network: as the closed form has it.
    expected = [through_layers(0.3, layers) for layers in range(1, 21)]
    assert row["slopes"]["0.3"]["predicted"] == pytest.approx(expected, abs=2e-5)
    assert "| CNN, 20 layers of 16 | 2 | 20 | 0.3 |" in (tmp_path / "slope.md").read_text()


CHOICES = """
import json
from benchmarks.slope.choices import figures, render
row = {"run": 0, "rectifiers": 3, "worst": 0.9, "assumed": 1, "unknown": 0, "named": [], "seconds": 0.1, "reason": "r"}
results = {
    "machine": {"packages": {"torch": "2"}}, "runs": [{"commit": "abc"}], "failed": {},
    "networks": {
        "timm/a": {**row, "slope": 0.25}, "timm/b": {**row, "slope": None, "unknown": 2, "named": ["rfft", "rfft"]},
        "timm/c": {"run": 0, "rectifiers": 0, "reason": "no ReLU"}, "monai/d": {**row, "slope": None},
    },
}
print(json.dumps([render(results), figures(results)]))
"""


def test_answers_are_counted_by_library_and_what_was_not_read_is_named():
    table, figures = json.loads(run("-c", CHOICES))
    lines = table.splitlines()
    assert "| timm | 2 | 1 | 1 | 1 |" in lines
    assert "| all | 3 | 1 | 2 | 2 |" in lines
    assert "| timm/a | 3 | 0.250 | 0.900 | 1 | 0 |  |" in lines
    assert "| timm/b | 3 | none | 0.900 | 1 | 2 | rfft |" in lines
    assert "timm/c" not in table
    assert figures == {
        "choices, timm": "2",
        "choices, timm read": "1",
        "choices, networks": "3",
        "choices, read": "2",
        "choices, slopes": "1",
        "choices, none": "2",
    }
