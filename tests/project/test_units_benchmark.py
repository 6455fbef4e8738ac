"""The benchmark of the unit axes: its oracle finds what feeds a rectifier, and a wrong axis is called wrong."""

from __future__ import annotations

import json
import subprocess
import sys

from support import ROOT

JUDGE = """
import dataclasses, json, torch
from torch import nn
from benchmarks.units.comparison import compare
from benchmarks.units.oracle import Oracle
from leakyrelu.torch import diagnose

class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16), nn.ReLU()
        self.query = nn.Linear(16, 8)
    def forward(self, x):
        x = self.act(self.norm(self.conv(x)))
        query = self.query(x.flatten(2).mT)
        return query.reshape(len(x), -1, 2, 4).transpose(1, 2).relu()

torch.manual_seed(0)
model, x = Heads().eval(), torch.randn(2, 3, 4, 4)
oracle = Oracle(model, lambda: model(x))
oracle.find_feeders()
oracle.plant()
verdicts = [compare(diagnose(model, x, unit_axis=axes), oracle.calls) for axes in (None, {"act": 2})]
print(json.dumps([[call.feeder for call in oracle.calls], *map(dataclasses.asdict, verdicts)]))
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_oracle_finds_layer_and_axes_and_a_wrong_axis_is_called_wrong():
    feeders, right, wrong = json.loads(run(JUDGE))
    assert feeders == [["norm", [1]], ["query", [1, 3]]]
    assert (right["calls"], right["rows"], right["right"], right["wrong"]) == (2, 2, 2, 0)
    assert right["planted"] == right["found"] >= 3  # two of the norm, one of the linear layer
    assert (wrong["right"], wrong["wrong"]) == (1, 1)
    assert wrong["found"] < wrong["planted"] == right["planted"]
    assert wrong["remarks"] == ["wrong, act: axes (2,) of (2, 16, 4, 4), behind norm it is (1,)"]


def test_list_of_networks_is_made_without_their_libraries_and_without_leakyrelu():
    code = """
import json, sys
from benchmarks.zoo.networks import NETWORKS, library
loaded = {name.partition(".")[0] for name in sys.modules}
print(json.dumps([sorted(NETWORKS), sorted({library(name) for name in NETWORKS}),
                  sorted(loaded & {"leakyrelu", "timm", "torchvision", "monai", "transformers"})]))
"""
    networks, libraries, loaded = json.loads(run(code))
    assert len(networks) >= 120
    assert len(libraries) >= 6
    assert loaded == []
