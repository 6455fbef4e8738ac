"""The command slope: both formulas, and lines to paste."""

from __future__ import annotations

import pytest
import torch
from support.command import python, refused
from torch import nn

from leakyrelu import slope
from leakyrelu.cli import main
from leakyrelu.torch import CenteredLeakyReLU, LeakyReLU


def test_slope_prints_both_formulas(capsys):
    assert main(["slope", "--depth", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = {line[:20].strip(): line[20:].split() for line in lines if line[:20].strip()}
    a, b = slope.tailored(20), slope.centered(20)
    assert [float(text) for text in table["slope"]] == pytest.approx([a, b], abs=1e-6)
    assert [float(text) for text in table["shift"]] == pytest.approx([0, slope.mean(b)], abs=1e-6)
    assert [float(text) for text in table["scale"]] == pytest.approx(
        [slope.gain(a), slope.variance(b) ** -0.5], abs=1e-6
    )
    assert [float(text) for text in table["gain"]] == pytest.approx([slope.gain(a), slope.gain(b)], abs=1e-6)
    assert [float(text) for text in table["similarity at the en"][-2:]] == [0.9, 0.0]
    assert max(map(len, lines)) <= 84


def test_the_lines_of_slope_can_be_pasted(capsys):
    assert main(["slope", "--depth", "30", "--eta", "0.8", "--zeta", "2"]) == 0
    out = capsys.readouterr().out
    pasted = out[out.index("from torch import nn") :]
    names: dict[str, object] = {"linear": nn.Linear(16, 16)}
    first, second = pasted.split("# centered")
    exec(first, names)
    assert isinstance(names["activation"], LeakyReLU)
    assert names["activation"].negative_slope == slope.tailored(30, 0.8)
    weight = names["linear"].weight.detach()
    torch.testing.assert_close(weight @ weight.T, slope.gain(slope.tailored(30, 0.8)) ** 2 * torch.eye(16))
    exec("# centered" + second, names)
    assert isinstance(names["activation"], CenteredLeakyReLU)
    assert names["activation"].negative_slope == slope.centered(30, 2.0)
    weight = names["linear"].weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(16))


def test_slope_says_when_one_formula_has_no_solution(capsys):
    assert main(["slope", "--depth", "5"]) == 0
    out = capsys.readouterr().out
    assert "tailored: no slope of at least 0 gives eta = 0.9 at depth 5" in out
    assert "CenteredLeakyReLU(0.456" in out
    assert "LeakyReLU(0.0" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", "0"], "--depth must be at least 1 and at most 2**63 - 1, got 0"),
        (["--depth", "-5"], "--depth must be at least 1 and at most 2**63 - 1, got -5"),
        (["--depth", f"{2**63}"], f"--depth must be at least 1 and at most 2**63 - 1, got {2**63}"),
        (["--depth", "1" + 30 * "0"], f"--depth must be at least 1 and at most 2**63 - 1, got {10**30}"),
        (["--eta", "1"], "--eta must lie above 0 and below 1, got 1"),
        (["--eta", "nan"], "--eta must lie above 0 and below 1, got nan"),
        (["--zeta", "1"], "--zeta must be a finite number above 1, got 1"),
        (["--zeta", "inf"], "--zeta must be a finite number above 1, got inf"),
    ],
)
def test_slope_refuses(capsys, arguments, message):
    assert refused(capsys, "slope", *arguments) == message


def test_slope_refuses_a_depth_without_any_solution(capsys):
    message = refused(capsys, "slope", "--depth", "1")
    assert "tailored: no slope" in message
    assert "centered: no slope" in message
    assert "a depth of at least 13" in message


def test_slope_does_not_wait_for_pytorch():
    run = python("import sys; from leakyrelu.cli import main; main(['slope']); print('torch' in sys.modules)")
    assert run.stdout.splitlines()[-1] == "False", run.stderr


@pytest.mark.parametrize("depth", [10**6, 10**9, 2**63 - 1])
def test_slope_answers_at_any_depth(capsys, depth):
    """Layer after layer, the deepest would never end."""
    assert main(["slope", "--depth", str(depth)]) == 0
    out = capsys.readouterr().out
    assert f"depth {depth} " in out
    assert f"LeakyReLU({slope.tailored(depth)!r})" in out
