"""Findings of planted numbers: severity, units, evidence, and code that runs."""

from __future__ import annotations

import ast
import inspect
import io
import re

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from leakyrelu import slope as formulas
from leakyrelu.diagnosis import findings
from leakyrelu.diagnosis.counts import Counts
from leakyrelu.diagnosis.finding import SEVERITIES
from leakyrelu.diagnosis.findings import ENOUGH, find, slope_for
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.render.terminal import print_report
from leakyrelu.diagnosis.report import Report
from leakyrelu.torch import diagnose, replace_relu


def layer(name="act", *, silent=0, always=0, units=100, samples=1000, slope=0.0, ceiling=np.inf, **changes) -> Layer:
    """The first units silent, the last always on, the others positive in half of the inputs."""
    positive = np.full(units, samples // 2)
    positive[:silent] = 0
    positive[units - always :] = samples
    zeros = np.zeros(units)
    values = {
        "positive": positive,
        "nan": zeros,
        "saturated": zeros,
        "outputs": zeros + samples,
        "mean": zeros + 0.4,
        "m2": zeros + 0.34 * samples,
        "relu_sum": positive * 0.8,
    }
    return Layer(name, "ReLU", slope, Counts(samples, 1, **({"entries": samples} | values | changes)), ceiling)


def titles(*layers, unused=()):
    return [(f.severity, f.title) for f in find(Report(layers, unused))]


def test_a_healthy_network_is_called_healthy():
    (finding,) = find(Report([layer("a"), layer("b", slope=0.1)]))
    assert (finding.severity, finding.title, finding.remedy, finding.code) == (
        "healthy",
        "Healthy",
        "Nothing to do.",
        "",
    )
    assert finding.evidence.startswith("2 layers, 200 units, at least 1000 inputs each: none silent")


def test_layers_without_units_are_neither_healthy_nor_short_of_data():
    empty = layer("none", units=0)
    (finding,) = find(Report([empty]))
    assert (finding.severity, finding.title) == ("note", "No units")
    assert finding.evidence == "1 layer, but nothing in them is a unit: there is nothing to say."
    (finding,) = find(Report([layer("none", units=0, samples=0), layer("a")]))
    assert finding.title == "Healthy"
    assert finding.evidence.startswith("1 layer, 100 units, at least 1000 inputs each")


def test_a_network_initialized_as_the_remedies_say_is_healthy():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.LeakyReLU(0.1))
    for linear in (model[0], model[2]):
        nn.init.kaiming_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
    report = diagnose(model, torch.randn(2000, 16))
    assert [finding.severity for finding in report.findings] == ["healthy"]


@pytest.mark.parametrize(
    ("silent", "slope", "severity"),
    [
        *((1, 0.0, "note"), (9, 0.0, "note"), (10, 0.0, "warning"), (50, 0.0, "critical"), (100, 0.0, "critical")),
        *((9, 0.01, "note"), (10, 0.01, "note"), (49, 0.01, "note"), (50, 0.01, "warning")),
    ],
)
def test_silent_units(silent, slope, severity):
    (finding,) = find(Report([layer(silent=silent, slope=slope)]))
    assert (finding.severity, finding.layer) == (severity, "act")
    assert finding.units == tuple(range(silent))
    assert f"{silent} of 100 units ({silent} %)".replace(" %", "%") in finding.evidence
    assert "never positive in 1000 inputs: p < 0.003 at 95 %" in finding.evidence
    assert ("no gradient reaches them" in finding.evidence) == (slope == 0)
    assert ("Nothing passes the layer" in finding.evidence) == (silent == 100)
    assert ("revive(model, report, optimizer)" in finding.code) == (slope == 0)
    assert finding.source


def test_too_few_inputs_are_said_first_and_nothing_else():
    (finding,) = find(Report([layer(silent=60, samples=ENOUGH - 1), layer("b")]))
    assert (finding.severity, finding.title) == ("note", "More data first")
    assert "1 layer of 2 saw fewer than 300 samples (the least: 299)" in finding.evidence
    assert "up to 1%" in finding.evidence
    (finding,) = find(Report([layer(silent=60, samples=ENOUGH - 1, entries=None)]))
    assert finding.evidence == "1 layer of 1 saw fewer than 300 inputs a unit (the least: 299)."
    (finding,) = find(Report([layer(silent=60, samples=100_000, entries=ENOUGH - 1)]))  # positions are not samples
    assert finding.title == "More data first"
    assert "saw fewer than 300 samples (the least: 299)" in finding.evidence
    assert titles(layer(silent=60, samples=ENOUGH)) == [("critical", "Layer act: 60 of 100 units silent")]


def test_what_is_said_of_silence_counts_samples():
    (finding,) = find(Report([layer(silent=60, samples=4000, entries=400)]))
    assert "never positive in 400 samples (4000 inputs): p < 0.0075 at 95 % (3/n)." in finding.evidence
    (finding,) = find(Report([layer(silent=60, entries=None)]))
    assert "in 1000 inputs: p has no known bound, since samples were not counted." in finding.evidence
    (finding,) = find(Report([layer(samples=200, entries=20), layer("b", samples=250, entries=25)]))
    assert "never positive in 20 samples, p may still be up to 15%" in finding.evidence
    (finding,) = find(Report([layer(samples=200, entries=20), layer("b", samples=250, entries=None)]))
    assert finding.evidence.endswith("(the least: 200).")


def means(silent):
    return np.r_[np.full(20, silent), np.full(80, 0.4)]


def deviations(silent):
    return 1000 * np.r_[np.full(20, silent), np.full(80, 0.6)] ** 2


def test_a_bias_that_drifted_is_seen_through_a_slope():
    far = layer(silent=20, slope=0.1, mean=means(-0.5), m2=deviations(0.1))
    (finding,) = find(Report([far]))
    assert "The inputs of 20 of them lie 5.0 standard deviations below zero: their bias has drifted" in finding.evidence
    assert "layer.bias.data" in finding.code
    near = layer(silent=20, slope=0.1, mean=means(-0.2), m2=deviations(0.1))
    (finding,) = find(Report([near]))
    assert "0.1 times as fast" in finding.remedy


@pytest.mark.parametrize(("always", "severity"), [(24, "healthy"), (25, "note"), (50, "warning")])
def test_always_on(always, severity):
    (finding,) = find(Report([layer(always=always)]))
    assert finding.severity == severity
    if severity != "healthy":
        assert finding.units == tuple(range(100 - always, 100))
        assert "positive in all of 1000 inputs" in finding.evidence
        assert "0.7 standard deviations above zero" in finding.evidence


def test_the_slope_comes_from_the_formula_where_there_is_one():
    layers = [layer(f"l{i}", silent=20 * (i == 4)) for i in range(20)]
    (finding,) = find(Report(layers))
    assert f"replace_relu(model, {round(formulas.tailored(20), 4)})" in finding.code
    assert "leakyrelu.slope.tailored(20)" in finding.remedy
    assert "Zhang, Botev, Martens" in finding.source
    assert slope_for(12)[0] == 0.01
    for depth in (1, 2, 12):  # what is said about shallow networks holds: even a ReLU keeps unrelated inputs below 0.9
        assert formulas.correlation(0.0, 0.0, depth) < 0.9
    assert formulas.correlation(0.0, 0.0, 13) > 0.9


def test_silent_units_in_most_layers_point_at_the_learning_rate():
    found = titles(*(layer(f"l{i}", silent=20) for i in range(4)), layer("last"))
    assert found[0] == ("warning", "Silent units throughout: 4 of 5 layers")
    assert not any("throughout" in title for _, title in titles(*(layer(f"l{i}", silent=20) for i in range(2))))


def test_the_worst_comes_first():
    found = titles(
        layer("a", silent=5), layer("b", silent=60), layer("c", silent=90), layer("d", always=20), unused=["x"]
    )
    assert [severity for severity, _ in found] == sorted((s for s, _ in found), key=SEVERITIES.index)
    assert found[:2] == [
        ("critical", "Layer c: 90 of 100 units silent"),
        ("critical", "Layer b: 60 of 100 units silent"),
    ]
    assert ("note", "1 activation never called") in found


def test_nan_is_critical_however_few_inputs():
    nan = np.zeros(100)
    nan[7] = 3
    found = find(Report([layer(samples=10, nan=nan)]))
    assert (found[0].severity, found[0].units) == ("critical", (7,))
    assert "3 inputs of 1 unit were NaN, of 10 each" in found[0].evidence


def test_the_ceiling():
    saturated = np.zeros(100)
    saturated[:30] = 1000
    positive = np.full(100, 500)
    positive[:30] = 1000
    (finding,) = find(Report([layer(ceiling=6.0, saturated=saturated, positive=positive)]))
    assert (finding.severity, finding.title) == ("warning", "Layer act: 30 of 100 units always at the ceiling")
    assert "at or above 6 in all of 1000 inputs" in finding.evidence


def test_rare_units():
    positive = np.full(100, 500)
    positive[:15] = 3
    (finding,) = find(Report([layer(positive=positive)]))
    assert (finding.title, finding.units) == ("Layer act: 15 of 100 units nearly silent", tuple(range(15)))
    assert titles(layer(positive=positive, slope=0.1))[0][0] == "healthy"  # these learn meanwhile


def test_outputs_that_are_alike():
    # Means 0.4 and deviations 0.1 a unit: norms 4 to 1, so the cosine of two samples is 16/17.
    (finding,) = find(Report([layer(m2=np.full(100, 1000 * 0.1**2))]))
    assert finding.title == "Layer act: its outputs are nearly alike"
    assert "4.0 times" in finding.evidence
    assert "0.941 alike" in finding.evidence
    generator = np.random.default_rng(0)
    samples = generator.normal(0.4, 0.1, size=(400, 100))
    unit = samples / np.linalg.norm(samples, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(400, 1)]
    assert abs(cosines.mean() - 16 / 17) < 0.01


def test_the_remedy_runs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    with torch.no_grad():
        model[0].bias[:20] = -100
    x = torch.randn(500, 8)
    report = diagnose(model, x)
    (finding,) = report.findings
    line = finding.code.splitlines()[1]
    exec(line, {"replace_relu": replace_relu, "model": model})
    again = diagnose(model, x)
    assert again.layers[0].negative_slope == 0.01
    assert again.findings[0].severity == "warning"  # as silent as before, but they learn


def test_findings_are_plain_values_and_text():
    (finding,) = find(Report([layer(silent=3)]))
    document = finding.to_dict()
    assert document["units"] == [0, 1, 2]
    assert set(document) == {"severity", "title", "layer", "units", "evidence", "remedy", "code", "source"}
    text = str(finding)
    assert text.startswith("note: Layer act: 3 of 100 units silent\n")
    assert "    replace_relu(model, 0.01)" in text
    assert Report([]).findings == ()


def wide_finding_reports():
    """Reports that draw every remedy in code, with the longest numbers that stand in one."""
    slope = -1.234567e-05
    ones, rare = np.ones(100), np.where(np.arange(100) < 15, 3, 500)
    at_ceiling = {"saturated": ones * 1000, "positive": ones * 1000}
    return [
        Report([layer(silent=20)]),
        Report([layer(f"l{i}", silent=20) for i in range(20)]),
        Report([layer(silent=20, slope=0.1, mean=means(-0.5), m2=deviations(0.1))]),
        Report([layer(silent=20, slope=0.1, mean=means(-0.2), m2=deviations(0.1))]),
        Report([layer(always=60, slope=slope)]),
        Report([layer(slope=slope, ceiling=6.0, **at_ceiling)]),
        Report([layer(positive=rare)]),
        Report([layer(f"l{i}", m2=np.full(100, 1000 * 0.1**2)) for i in range(30)]),
        Report([layer(nan=ones)]),
    ]


def remedies_in_code() -> int:
    """Count the remedies that the source writes in code: a new one must be drawn by the reports above."""
    nodes = list(ast.walk(ast.parse(inspect.getsource(findings))))
    calls = [n for n in nodes if isinstance(n, ast.Call) and getattr(n.func, "id", "") in ("Finding", "_units")]
    codes = [call.args[6] for call in calls if len(call.args) > 6]
    codes += [node.value.elts[0] for node in nodes if isinstance(node, ast.Assign) and is_code(node.targets[0])]
    return sum(not isinstance(code, ast.Name) and getattr(code, "value", None) != "" for code in codes)


def is_code(target: ast.expr) -> bool:
    return isinstance(target, ast.Tuple) and getattr(target.elts[0], "id", "") == "code"


def test_every_line_of_code_can_be_copied_from_a_terminal_of_80_columns():
    found = [finding for report in wide_finding_reports() for finding in report.findings if finding.code]
    assert len({re.sub(r"[\d.e-]+", "#", finding.code) for finding in found}) == remedies_in_code()
    for finding in found:
        for line in finding.code.splitlines():
            assert len(line) <= 80 - 4, line  # both the terminal and str() indent code by four
        ast.parse(finding.code)
    for report in wide_finding_reports():
        console = Console(file=io.StringIO(), width=80, force_terminal=False)
        print_report(report, console)
        printed = [line.strip() for line in console.file.getvalue().splitlines()]
        for finding in report.findings[:5]:
            assert all(line.strip() in printed for line in finding.code.splitlines())
