"""The plan: what to do first, what then, and what checks it."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
from support.planted_layers import assumed, layer

from leakyrelu.diagnosis.input_check import InputCheck
from leakyrelu.diagnosis.report import Report

COMMAND = ["leakyrelu", "diagnose", "net:make", "--data", "x.npy"]


def texts(*layers, **keywords):
    return [step.text for step in Report(layers, **keywords).plan]


def test_a_healthy_network_needs_nothing():
    assert texts(layer()) == ["Nothing to do."]
    assert Report([]).plan == ()


def test_the_steps_come_in_the_order_in_which_they_make_sense():
    nan, ones = np.zeros(100), np.ones(100)
    nan[7] = 3
    layers = [
        layer("dead", silent=60),
        layer("slow", silent=60, slope=0.1),
        layer("on", always=60),
        layer("high", ceiling=6.0, saturated=ones * 1000, positive=ones * 1000),
        layer("few", samples=30),
        layer("nan", nan=nan),
        assumed("axis", silent=0, along={3: 1}),
    ]
    assert texts(*layers, data=[InputCheck("", 100, 1, 0, 1, 5, ())]) == [
        "Repair the data: 1 value NaN, in 1 of 100 samples (finding 1).",
        "Find the step that made NaN, first seen in nan (finding 4).",
        "Take at least 300 samples: some layers saw fewer (finding 8).",
        "Name the axis of the units where it is an assumption that decides what is found (finding 7).",
        "Reinitialize 60 silent units of dead, and give the network a slope (finding 3).",
        "Bring back 60 silent units of slow (finding 5).",
        "Make the inputs of high smaller (finding 2).",
        "Center the inputs of on, where units are always on (finding 6).",
        "Check it, after some epochs of training:",
    ]


def test_the_numbers_in_a_plan_are_those_of_the_findings():
    report = Report([layer(f"l{i}", silent=20 + i) for i in range(5)])
    assert [step.text for step in report.plan[:2]] == [
        "Train with a lower learning rate, or warm it up: most layers have silent units (finding 1).",
        "Reinitialize 110 silent units of l4, l3, l2 and 2 more, and give the network a slope "
        "(findings 2, 3, 4, 5, 6).",
    ]
    assert [finding.layer for finding in report.findings] == [None, "l4", "l3", "l2", "l1", "l0"]


def test_notes_alone_are_not_urgent():
    assert texts(layer(silent=5)) == ["Nothing is urgent: 1 note.", "Check it, after some epochs of training:"]


def test_what_training_does_not_change_is_checked_at_once():
    assert texts(layer(samples=30))[-1] == "Check it:"
    assert texts(layer(silent=60))[-1] == "Check it, after some epochs of training:"


@pytest.mark.parametrize(
    ("layers", "limits"),
    [
        ([layer(silent=60)], "--fail-on silent=0%"),
        ([layer(silent=60), layer("nan", nan=np.ones(100))], "--fail-on nan=0% --fail-on silent=0%"),
        ([layer(always=60)], "--fail-on silent=0%"),
    ],
)
def test_a_report_of_the_command_is_checked_by_the_command(layers, limits):
    check = Report(layers, command=COMMAND).plan[-1].code
    assert shlex.split(check.replace("\\\n", " ")) == [*COMMAND, *limits.split()]
    assert all(len(line) <= 76 for line in check.splitlines())


def test_a_command_with_spaces_can_be_pasted():
    command = [*COMMAND[:-1], "my data/x --y.npy", "--checkpoint", "a" * 60]
    check = Report([layer(silent=60)], command=command).plan[-1].code
    assert shlex.split(check.replace("\\\n", " ")) == [*command, "--fail-on", "silent=0%"]
    assert check.count("\n") == 3


def test_a_step_is_text():
    step = Report([layer(silent=60)], command=COMMAND).plan[-1]
    assert str(step) == (
        "Check it, after some epochs of training:\n  leakyrelu diagnose net:make --data x.npy --fail-on silent=0%"
    )
