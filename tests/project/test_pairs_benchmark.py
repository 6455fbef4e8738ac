"""The benchmark of joined pairs: its oracle finds what can be joined, and a network that differs is seen to."""

from __future__ import annotations

import json
import subprocess
import sys

from support import ROOT

ORACLE = """
import json, torch
from torch import nn
from torch.nn import functional as F
from benchmarks.pairs.main import measure
from benchmarks.pairs.oracle import joinable
from benchmarks.zoo.network import Network
from leakyrelu.torch import replace_relu

class WithActivation(nn.BatchNorm2d):
    def __init__(self, features):
        super().__init__(features)
        self.act = nn.ReLU(inplace=True)
    def forward(self, x):
        return self.act(super().forward(x))

class FrozenBatchNorm2d(nn.Module):
    def forward(self, x):
        return x * 2 + 1

class Calls(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
    def forward(self, x):
        return F.relu(self.norm(x))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared, self.in_place, self.none = nn.ReLU(), nn.ReLU(inplace=True), nn.Dropout(0.0)
        self.noisy = nn.Dropout(0.5)
        for name in "module shared_1 view reshaped dropped sum two part both written output never".split():
            setattr(self, name, nn.BatchNorm2d(4))
        self.dropped_half, self.inside, self.frozen = nn.BatchNorm2d(4), WithActivation(4), FrozenBatchNorm2d()
        self.function = Calls()
        self.groups, self.instances = nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)
    def forward(self, x):
        x = self.in_place(self.module(x))
        x = self.shared(self.shared_1(x))
        x = self.function(x)
        x = self.shared(self.view(x).flatten(1)).view(x.shape)
        x = self.shared(self.reshaped(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.shared(self.none(self.dropped(x)))
        x = self.shared(self.noisy(self.dropped_half(x)))
        x = self.shared(self.sum(x) + x)
        y = self.two(x)
        x = self.shared(y) + y
        x = torch.cat([self.shared(self.part(x)[:, :2]), x[:, 2:]], 1)
        x = self.both(self.shared(self.both(x)))
        x = self.shared(self.written(x).mul_(2))
        x = self.inside(x)
        x = self.shared(self.frozen(x))
        x = self.in_place(self.instances(self.in_place(self.groups(x))))
        y = self.output(x)
        return self.shared(y), y

torch.manual_seed(0)
model, x = Net(), torch.randn(8, 4, 6, 6)
replace_relu(model, 0.1)
called, pairs = joinable(model, lambda: model(x))
row = measure(Network(Net, lambda size: torch.randn(size, 4, 6, 6)), 8)
print(json.dumps([sorted(called), sorted(pairs), row]))
"""

DIFFERENCE = """
import copy, json, torch
from torch import nn
from benchmarks.pairs.comparison import differences

torch.manual_seed(0)
model, x = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LeakyReLU()).double(), torch.randn(8, 3).double()
same, other, slope, momentum = (copy.deepcopy(model) for _ in range(4))
with torch.no_grad():
    other[1].bias[0] += 0.1
slope[2].negative_slope = 0.02
momentum[1].momentum = 0.2
print(json.dumps([differences(each, copy.deepcopy(model), x) for each in (same, other, slope, momentum)]))
"""

RENDER = """
import json
from benchmarks.pairs.main import figures, render
from benchmarks.storage import Timing

def row(joined, after, left, **more):
    return {"run": 0, "normalizations": 9, "joinable": 8, "joined": joined, "others_joined": 0, "swapped": 0,
            "left": left, "left_names": [], "bytes_before": 2**20, "bytes_after": after,
            "difference": {"outputs": 1e-14}, **more}

results = {"machine": {"packages": {"torch": "2.13"}}, "runs": [{"commit": "abc", "command": "c"}],
           "networks": {"timm/b": row(5, 2**20, {"why | not": 2, "it": 1}), "timm/a": row(8, 2**19, {}, batch=8),
                        "monai/c": row(8, 2**18, {}, ratio=Timing(0.9))},
           "failed": {"timm/d": "TypeError: no"}}
print(json.dumps([render(results), figures(results)]))
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_oracle_finds_the_normalizations_whose_output_goes_to_one_leaky_relu():
    called, pairs, row = run(ORACLE)
    joinable = ["module", "shared_1", "function.norm", "view", "reshaped", "dropped", "inside", "frozen", "groups"]
    joinable.append("instances")
    other = ["sum", "two", "part", "both", "written", "output", "dropped_half"]
    assert called == sorted(joinable + other)
    assert pairs == sorted(joinable)
    assert row["normalizations"] == len(called)
    assert row["joinable"] == len(pairs)
    # A subclass and a frozen normalization of no library are not known to save_memory.
    assert row["joined"] == len(pairs) - 2
    assert row["left_names"] == ["frozen", "inside"]
    assert sum(row["left"].values()) == 2
    assert row["bytes_after"] < row["bytes_before"]
    assert max(row["difference"].values()) < 1e-12


def test_a_network_that_differs_is_seen_to():
    same, other, slope, momentum = run(DIFFERENCE)
    assert set(same) == {"outputs", "gradients of inputs", "gradients of parameters", "running statistics"}
    assert max(same.values()) == 0
    assert other["outputs"] > 1e-3
    assert slope["outputs"] > 1e-3
    assert slope["gradients of inputs"] > 1e-3
    assert slope["gradients of parameters"] > 1e-3
    assert slope["running statistics"] == 0
    assert momentum["running statistics"] > 1e-3


def test_the_table_adds_up_libraries_and_names_what_was_not_joined():
    text, figures = run(RENDER)
    lines = text.splitlines()
    assert "| monai | 1 | 8 | 8 | 100.0% | 0.250 | 0.250 | 1e-14 |  |" in lines
    assert r"| timm | 2 | 16 | 13 | 81.2% | 0.750 | 1.000 | 1e-14 | 2: why \| not; 1: it |" in lines
    assert "| all | 3 | 24 | 21 | 87.5% | 0.500 | 1.000 | 1e-14 | 3 |" in lines
    assert "| monai/c | 9 | 8 | 8 | 1.0 | 0.250 | 0.90 | 1e-14 |  |" in lines
    assert "| timm/a, batch of 8 | 9 | 8 | 8 | 1.0 | 0.500 | | 1e-14 |  |" in lines
    assert "- timm/d: TypeError: no" in lines
    assert figures.pop("pairs, by library") in text
    assert figures == {
        "pairs, networks": "3",
        "pairs, libraries": "2",
        "pairs, joinable": "24",
        "pairs, joined": "87.5%",
        "pairs, bytes, median": "0.50",
        "pairs, bytes, most": "1.000",
        "pairs, difference": "1e-14",
    }
