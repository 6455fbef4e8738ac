"""Findings of planted numbers: severity, units, evidence, and code that runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.planted_layers import assumed, deviations, layer, means
from torch import nn

from leakyrelu import slope as formulas
from leakyrelu.diagnosis.finding import SEVERITIES
from leakyrelu.diagnosis.findings import find, slope_for
from leakyrelu.diagnosis.input_check import InputCheck
from leakyrelu.diagnosis.place import Place
from leakyrelu.diagnosis.render.summary import AXIS
from leakyrelu.diagnosis.report import Report
from leakyrelu.diagnosis.thresholds import ENOUGH
from leakyrelu.diagnosis.unit_axis import UnitAxis
from leakyrelu.torch import diagnose


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
    sure = f"we can be 95 % sure that {'it' if silent == 1 else 'each'} fires on fewer than 0.3 % of the samples."
    assert f"never positive in 1000 samples: {sure}" in finding.evidence
    assert ("no gradient reaches them" in finding.evidence) == (slope == 0)
    assert ("Nothing passes the layer" in finding.evidence) == (silent == 100)
    assert ("revive(model, report, optimizer)" in finding.code) == (slope == 0)
    assert finding.source


def test_too_few_inputs_are_said_first_and_nothing_else():
    (finding,) = find(Report([layer(silent=60, samples=ENOUGH - 1), layer("b")]))
    assert (finding.severity, finding.title) == ("note", "More data first")
    assert "1 layer of 2 saw fewer than 300 samples (the least: 299)" in finding.evidence
    assert "up to 1% of all samples" in finding.evidence
    (finding,) = find(Report([layer(silent=60, samples=ENOUGH - 1, entries=None)]))
    assert finding.evidence == "1 layer of 1 saw fewer than 300 inputs a unit (the least: 299)."
    (finding,) = find(Report([layer(silent=60, samples=100_000, entries=ENOUGH - 1)]))  # positions are not samples
    assert finding.title == "More data first"
    assert "saw fewer than 300 samples (the least: 299)" in finding.evidence
    assert titles(layer(silent=60, samples=ENOUGH)) == [("critical", "Layer act: 60 of 100 units silent")]


def test_what_is_said_of_silence_counts_samples():
    (finding,) = find(Report([layer(silent=60, samples=4000, entries=400)]))
    sure = "we can be 95 % sure that each fires on fewer than 0.75 % of the samples."
    assert f"never positive in 400 samples (4000 inputs): {sure}" in finding.evidence
    (finding,) = find(Report([layer(silent=60, entries=None)]))
    assert "in 1000 inputs: how often each may still fire is not known, since samples were not" in finding.evidence
    (finding,) = find(Report([layer(samples=200, entries=20), layer("b", samples=250, entries=25)]))
    said = "A unit that was never positive in 20 samples may still fire on up to 15% of all samples (at 95 %)."
    assert said in finding.evidence
    (finding,) = find(Report([layer(samples=200, entries=20), layer("b", samples=250, entries=None)]))
    assert finding.evidence.endswith("(the least: 200).")


def test_a_bias_that_drifted_is_seen_through_a_slope():
    far = replace(layer(silent=20, slope=0.1, mean=means(-0.5), m2=deviations(0.1)), place=Place("", "fc", ""))
    (finding,) = find(Report([far]))
    assert "The inputs of 20 of them lie 5.0 standard deviations below zero: their bias has drifted" in finding.evidence
    assert "layer = model.get_submodule('fc')" in finding.code
    assert "layer.bias[units] = 0.0" in finding.code
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
    assert "from leakyrelu.slope import tailored\n" in finding.code
    assert finding.code.endswith("\nreplace_relu(model, tailored(20))")
    assert f"Slope {round(formulas.tailored(20), 4)}: " in finding.remedy
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
    exec(finding.code, {"model": model, "report": report, "optimizer": torch.optim.Adam(model.parameters())})
    again = diagnose(model, x)
    assert again.layers[0].negative_slope == 0.01
    assert again.silent == 0


def test_findings_are_plain_values_and_text():
    (finding,) = find(Report([layer(silent=3)]))
    document = finding.to_dict()
    assert document["units"] == [0, 1, 2]
    assert set(document) == {
        "severity",
        "title",
        "layer",
        "units",
        "evidence",
        "remedy",
        "code",
        "source",
        "rule",
        "place",
    }
    text = str(finding)
    assert text.startswith("note: Layer act: 3 of 100 units silent\n")
    assert "    replace_relu(model, 0.01)" in text
    assert Report([]).findings == ()


def test_a_finding_says_where_its_layer_stands():
    placed = replace(layer("layer2.0.relu()", silent=60), place=Place("layer2.0", "layer2.0.bn2", "resnet.py:92"))
    (finding,) = find(Report([placed]))
    assert (finding.title, finding.place) == (
        "Layer layer2.0.relu(): 60 of 100 units silent",
        "in layer2.0, after bn2, resnet.py:92",
    )
    assert str(finding).splitlines()[1] == "  Where: in layer2.0, after bn2, resnet.py:92"


def test_an_assumed_axis_is_a_finding_even_where_nothing_is_silent():
    (finding,) = find(Report([assumed("act", silent=0, along={3: 0})]))
    assert (finding.severity, finding.title, finding.layer) == (
        "note",
        "Layer act: the axis of the units is an assumption",
        "act",
    )
    assert finding.evidence == (
        "Units read along axis 1 of (8, 16, 7, 7), which is an assumption: 16 units, 0 silent; along axis 3: 7 units, "
        "0 silent."
    )
    assert "report = diagnose(model, data, unit_axis={'act': 1})" in finding.code
    known = replace(layer(), axis=UnitAxis((1,), (8, 100)))
    assert titles(known)[0][0] == "healthy"


def test_an_assumed_axis_that_decides_what_is_silent_is_a_warning():
    found = find(Report([assumed("act", silent=0, along={2: 0, 3: 4})]))
    assert [finding.severity for finding in found] == ["warning"]
    assert found[0].evidence.endswith("along axis 2: 7 units, 0 silent; along axis 3: 7 units, 4 silent.")


def test_several_axes_are_said():
    one = assumed("act", silent=0, along={3: 0})
    report = Report([replace(one, axis=replace(one.axis, axes=(1, 2)))])
    assert report.findings[0].evidence.startswith("Units read along axes 1 and 2 of (8, 16, 7, 7), which is an")
    assert AXIS.cell(report["act"]) == "1 and 2, assumed"


def test_assumptions_that_decide_nothing_are_one_finding():
    (finding,) = find(Report([assumed(name, silent=0, along={3: 0}) for name in ("a", "b")]))
    assert (finding.severity, finding.layer) == ("note", None)
    assert finding.title == "2 layers: the axis of the units is an assumption"
    assert finding.evidence.startswith("Units of a read along axis 1 of (8, 16, 7, 7), which is an assumption: 16")
    assert "unit_axis={'a': 1, 'b': 1}" in finding.code


def test_data_that_are_not_finite_are_critical():
    check = InputCheck("", 100, 3, 1, 2, 17, (0, 3, 4))
    (finding,) = find(Report([layer()], data=[check]))
    assert (finding.severity, finding.title) == ("critical", "The data hold NaN and infinity")
    assert finding.evidence == (
        "3 values NaN and 1 value infinite, in 2 of 100 samples. The first: sample 17, counted from 0, at index "
        "(0, 3, 4) within it."
    )
    (finding,) = find(Report([layer()], data=[InputCheck("", 100, 1, 0, 1, 5, ())]))
    assert finding.evidence == "1 value NaN, in 1 of 100 samples. The first: sample 5, counted from 0."
    (finding,) = find(Report([layer()], data=[InputCheck("mask", 100, 0, 9, 9, 0, (1,)), InputCheck("x", 100)]))
    assert (finding.severity, finding.title) == ("warning", "Input mask holds infinity")
    assert finding.evidence.endswith("Minus infinity may be meant, in a mask of attention.")
    assert titles(layer())[0][0] == "healthy"


@pytest.mark.parametrize(
    ("data", "begin"),
    [
        ([], "Look for NaN in the data first, then for the step at which the weights became NaN:"),
        ([InputCheck("", 9)], "All values of the data are finite: look for the step at which the weights became NaN:"),
        ([InputCheck("", 9, 1, 0, 1, 0, ())], "Repair the data first, which are not finite. If NaN remain, look for"),
    ],
)
def test_what_is_said_of_nan_in_layers_knows_the_data(data, begin):
    nan = np.zeros(100)
    nan[7] = 3
    report = Report([layer("a"), layer("b", nan=nan), layer("c", nan=nan)], data=data)
    (finding,) = (finding for finding in report.findings if finding.rule == "nan")
    assert finding.remedy.startswith(begin)
    assert (finding.layer, finding.units) == ("b", (7,))
    assert finding.evidence.endswith("No layer called before it saw any. So did 1 layer called later: c.")
