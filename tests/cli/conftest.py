"""Fixtures of the tests of the command."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _plain(monkeypatch, tmp_path):
    """Here, in one process, 80 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})


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
