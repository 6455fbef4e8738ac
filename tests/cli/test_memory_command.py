"""``leakyrelu memory``: two columns of a network without ReLU, three of one with ReLUs, at 80 columns."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from leakyrelu.cli import main
from leakyrelu.torch import activation_memory, save_memory

MODELS = """
from torch import nn
from torch.nn import functional as F

def block(a, b, act, **options):
    return nn.Sequential(nn.Conv2d(a, b, 3), nn.BatchNorm2d(b), act(**options))

def relu():
    return nn.Sequential(block(1, 4, nn.ReLU, inplace=True), block(4, 4, nn.ReLU), nn.Conv2d(4, 1, 1), nn.ReLU6())

def long_names():
    model = nn.Sequential()
    model.add_module("the_encoder_with_a_name_that_is_long_and_longer", relu())
    model.add_module("head", KindOfLayerWhoseNameIsQuiteLongToo())
    return model

def leaky():
    return nn.Sequential(block(1, 4, nn.LeakyReLU, inplace=True), nn.Conv2d(4, 1, 1), nn.Sigmoid())

def in_place():
    return nn.Sequential(nn.Conv2d(1, 4, 1), nn.LeakyReLU(inplace=True), nn.Conv2d(4, 1, 1), nn.Tanh())

def itself():
    return nn.ReLU()

class KindOfLayerWhoseNameIsQuiteLongToo(nn.Module):
    def forward(self, x):
        return F.relu(x) * x.sigmoid()

"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "memorynets.py").write_text(MODELS)
    yield
    sys.modules.pop("memorynets", None)


def printed(capsys, factory: str, shape: str = "2x1x16x16") -> list[str]:
    assert main(["memory", f"memorynets:{factory}", "--input", shape]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def totals(lines: list[str]) -> list[int]:
    (line,) = [line for line in lines if line.startswith("total")]
    return [int(each.replace(",", "")) for each in line.split()[1:]]


def test_a_network_with_relus_has_a_third_column(capsys, models):
    lines = printed(capsys, "relu")
    x = torch.randn(2, 1, 16, 16)
    now, saved, replaced = (sys.modules["memorynets"].relu() for _ in range(3))
    save_memory(saved, x)
    report = save_memory(replaced, x, replace_relu=0.01)
    counts = [activation_memory(model, x) for model in (now, saved, replaced)]
    assert len(report.joined) == 2
    assert totals(lines) == [count.bytes for count in counts]
    for module in counts[0].modules:
        kept = [next((each.bytes for each in count.modules if each.name == module.name), 0) for count in counts]
        assert [module.name, module.kind, *(f"{each:,}" for each in kept)] in [line.split() for line in lines]
    text = " ".join(" ".join(lines).split())
    share = counts[2].bytes / counts[0].bytes
    assert 0.3 < share < 0.8
    assert text.endswith(
        "save_memory keeps 1.000 of it. With Leaky ReLU: save_memory(model, x, replace_relu=0.01) changes the function "
        f"that the model computes, and keeps {share:.3f} of it. It replaces 2 modules and 0 calls, and leaves 1."
    )


def test_titles_of_three_columns_take_two_lines_and_long_names_are_cut_in_front(capsys, models):
    lines = printed(capsys, "long_names", "16x1x300x300")
    titles = [re.split("  +", line.strip()) for line in lines[:2]]
    assert titles == [["bytes", "after", "with"], ["module", "kind", "now", "save_memory", "Leaky ReLU"]]
    assert re.search(r"(?m)^\u2026\w*longer\.0\.1 +BatchNorm2d +[\d,]{10,} +[\d,]{10,} +[\d,]{10,}$", "\n".join(lines))
    assert any(line.startswith("head ") and " KindO\u2026QuiteLongToo " in line for line in lines)
    assert " ".join(lines[-2:]).endswith("It replaces 2 modules and 1 call, and leaves 1.")


def test_a_network_without_relu_has_two(capsys, models):
    lines = printed(capsys, "leaky")
    assert re.split("  +", lines[0]) == ["module", "kind", "bytes now", "after save_memory"]
    now, saved = totals(lines)
    assert saved < 0.8 * now
    assert lines[-1] == f"save_memory keeps {saved / now:.3f} of it."


def test_what_brings_nothing_is_not_counted_against_the_network(capsys, models):
    now, saved = totals(printed(capsys, "in_place", "1x1x256x256"))
    assert now == saved == 5 * 256 * 256 * 4  # the output of the first layer and that of the last


def test_a_relu_by_itself_has_no_parent_that_could_hold_another(capsys, models):
    assert totals(printed(capsys, "itself")) == [0, 0]
