"""Every import path that README, docs, docstrings or the changelog of version 0.1 name still works."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys

import pytest
import torch
from support import ROOT
from support.saved_network import INPUT, network

from leakyrelu._moved import MOVED
from leakyrelu.diagnosis import Counts, Layer, Report

NAMES = {
    "leakyrelu": "leaky_relu leaky_relu_backward leaky_relu_inverse leaky_relu_with_signs "
    "leaky_relu_backward_from_signs get_num_threads set_num_threads show_config __version__",
    "leakyrelu.slope": "gain mean variance correlation tailored centered",
    "leakyrelu.census": "Counts Layer Report merge_moments",
    "leakyrelu.findings": "Finding",
    "leakyrelu.history": "History",
    "leakyrelu.report.serial": "schema",
    "leakyrelu.onnx": "diagnose",
    "leakyrelu.keras": "watch watch_callback",
    "leakyrelu.cli": "main",
    "leakyrelu.study": "run_study",
    "leakyrelu.torch": "leaky_relu LeakyReLU PReLU prelu CenteredLeakyReLU NormLeakyReLU replace_relu Replacement "
    "save_memory Saving restore activation_memory ActivationMemory parameter_groups watch diagnose NoRectifierError "
    "revive Revival",
    "leakyrelu.torch.lightning": "watch_callback",
    "leakyrelu.torch.exported": "rectifiers_as_modules",
    "leakyrelu.torch.scripted": "rectifiers_as_modules",
    "leakyrelu.torch.redirect": "LeakyFunction",
    "leakyrelu.diagnosis": "Report Layer Counts Finding History",
}


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in NAMES.items() for name in names.split()]
)
def test_import_path(module, name):
    assert getattr(importlib.import_module(module), name) is not None


@pytest.mark.parametrize("module", MOVED)
def test_old_module_holds_every_name_of_its_successors(module):
    old = importlib.import_module(module)
    for new in MOVED[module]:
        successor = importlib.import_module(new)
        own = [name for name, value in vars(successor).items() if getattr(value, "__module__", None) == new]
        assert own or module == "leakyrelu.report"
        for name in own:
            assert getattr(old, name) is getattr(successor, name)


def test_old_paths_are_the_same_objects():
    from leakyrelu.census import Report as OldReport
    from leakyrelu.torch.norm import NormLeakyReLU as OldLayer

    from leakyrelu.torch import NormLeakyReLU

    assert OldReport is Report
    assert OldLayer is NormLeakyReLU


def test_old_names_cost_nothing_until_they_are_imported():
    code = f"import sys, leakyrelu, leakyrelu.torch; print(*(set({list(MOVED)!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_whole_model_saved_by_version_0_1():
    saved = torch.load(ROOT / "tests" / "torch" / "data" / "network-0.1.pt", weights_only=False)
    with torch.no_grad():
        torch.testing.assert_close(saved["model"](INPUT), saved["output"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(network()(INPUT), saved["output"], rtol=1e-5, atol=1e-6)


def test_pickled_report_of_version_0_1():
    """A pickle names the classes by their old modules."""
    report = Report([Layer("act", "ReLU", 0.0, Counts(3, 1, [0], [0], [0], [3], [0.0], [0.0], [0.0]))])
    new = pickle.dumps(report, protocol=0)
    old = new
    for module in MOVED["leakyrelu.census"]:
        old = old.replace(module.encode(), b"leakyrelu.census")
    assert old != new
    assert pickle.loads(old).layers[0].silent_units.tolist() == [0]
