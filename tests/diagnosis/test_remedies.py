"""The code of findings and plans: complete, no wider than a terminal, and it runs on a real model."""

from __future__ import annotations

import ast
import io
import os
import re
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from support.planted_layers import assumed, deviations, layer, means
from torch import nn

from leakyrelu.diagnosis import remedies
from leakyrelu.diagnosis.census import SOURCES
from leakyrelu.diagnosis.place import Place
from leakyrelu.diagnosis.render.terminal import print_report
from leakyrelu.diagnosis.report import Report

TEMPLATES = {name: text for name, text in vars(remedies).items() if isinstance(text, str) and "\n" in text.strip()}
TEMPLATES.pop("__doc__", None)
DEEP = "encoder.layers.11.feed_forward.activation.dropout.layer_norm.and.more"


def placed(one, after="fc"):
    return replace(one, place=Place("", after, "net.py:3"))


def reports(source="model", name="act", after="fc"):
    """Reports that draw every remedy in code, with the longest numbers that stand in one."""
    slope = -1.234567e-05
    ones, rare = np.ones(100), np.where(np.arange(100) < 15, 3, 500)
    at_ceiling = {"saturated": ones * 1000, "positive": ones * 1000}
    single = [
        layer(name, silent=20),
        layer(name, silent=20, slope=0.1, mean=means(-0.5), m2=deviations(0.1)),
        layer(name, silent=20, slope=0.1, mean=means(-0.2), m2=deviations(0.1)),
        layer(name, always=60, slope=slope),
        layer(name, slope=slope, ceiling=6.0, **at_ceiling),
        layer(name, positive=rare),
        layer(name, nan=ones),
        assumed(name, silent=0, along={3: 4}),
    ]
    several = [
        [layer(f"l{i}", silent=20) for i in range(20)],
        [layer(f"l{i}", m2=np.full(100, 1000 * 0.1**2)) for i in range(30)],
    ]
    return [
        Report([placed(one, after) for one in layers], source=source) for layers in [[one] for one in single] + several
    ]


def codes(report):
    return list(dict.fromkeys(item.code for item in (*report.findings, *report.plan) if item.code))


def as_pattern(template):
    return re.compile(re.sub(r"\\\{[^}]*\\\}", ".*", re.escape(template)), re.DOTALL)


def test_every_remedy_is_drawn_by_the_reports_of_these_tests():
    drawn = [code for source in SOURCES for report in reports(source) for code in codes(report)]
    assert len(TEMPLATES) == 10
    for name, template in TEMPLATES.items():
        assert any(as_pattern(template).search(code) for code in drawn), name


def network():
    torch.manual_seed(0)
    bare, bn = nn.Flatten(), nn.BatchNorm1d(100)  # one without weight and bias, one whose weight is no matrix
    return nn.Sequential(OrderedDict(fc=nn.Linear(8, 100), bare=bare, bn=bn, act=nn.ReLU(), head=nn.Linear(100, 2)))


@pytest.mark.parametrize("after", ["fc", "bn", "bare"])
def test_every_remedy_runs_on_a_model(after):
    for report in reports(after=after):
        for code in codes(report):
            model = network()
            data = torch.randn(50, 8)
            scope = {
                "model": model,
                "data": data,
                "report": report,
                "optimizer": torch.optim.Adam(model.parameters()),
            }
            if "unit_axis" in code:  # the planted layer has axes that the inputs of this one lack
                assert "'act': 1" in code
            model(data).sum().backward()
            try:
                exec(code, scope)
            finally:
                torch.autograd.set_detect_anomaly(False)


def test_remedies_do_what_they_say():
    model = network()
    far = placed(layer("act", silent=20, slope=0.1, mean=means(-0.5), m2=deviations(0.1)))
    report = Report([far])
    exec(report.findings[0].code, {"model": model, "report": report})
    assert (model.fc.bias[:20] == 0).all()
    assert (model.fc.bias[20:] != 0).all()
    weight = model.fc.weight.clone()
    exec(Report([placed(layer("act", always=60))]).findings[0].code, {"model": model})
    assert (model.fc.bias == 0).all()
    assert not torch.equal(model.fc.weight, weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    exec(remedies.SHORTER_STEPS, {"optimizer": optimizer})
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


@pytest.mark.parametrize("after", ["", "bn2 + stem", "layer2.0.relu()", "act, call 2"])
def test_what_is_no_module_is_not_looked_up(after):
    assert Report([placed(layer("act", always=60), after)]).findings[0].code == ""


@pytest.mark.parametrize("source", SOURCES[1:])
def test_a_frozen_program_is_told_nothing_that_it_cannot_follow(source):
    for report in reports(source):
        for finding in report.findings:
            assert not re.search("replace_relu|revive|optimizer|get_submodule|clip_grad", finding.code)
            if finding.rule == "axis":
                assert "unit_axis" in finding.code
            elif finding.severity != "healthy":
                assert finding.remedy.startswith(f"{remedies.FROZEN} ")
                assert finding.code == ""
        check = report.plan[-1]
        assert "diagnose(" in check.code
        exported = "Export the network again, from the code that trains it: the file itself cannot be trained."
        assert (exported in [step.text for step in report.plan]) == any(
            finding.rule not in ("axis", "alike", "rare") and finding.severity != "note" for finding in report.findings
        )


def frozen(source, tmp_path):
    """The names that the code for a kind of file uses."""
    model, data = network().eval(), torch.randn(50, 8)
    if source == "torchscript":
        torch.jit.save(torch.jit.trace(model, data), tmp_path / "net.pt")
        return {"path": tmp_path / "net.pt", "data": data}
    if source == "exported":
        torch.export.save(torch.export.export(model, (data,)), tmp_path / "net.pt2")
        return {"path": tmp_path / "net.pt2", "data": data}
    weight = numpy_helper.from_array(np.ones((8, 4), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"], name="act")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "net.onnx")
    return {"path": tmp_path / "net.onnx", "data": data.numpy()}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("source", SOURCES[1:])
def test_the_code_for_frozen_programs_runs(source, tmp_path):
    scope = frozen(source, tmp_path)
    exec(remedies.count_again(source), scope)
    assert len(scope["report"].layers) == 1
    (name,) = (one.name for one in scope["report"])
    exec(remedies.count_again(source, {name: 1}), scope)
    assert [one.name for one in scope["report"]] == [name]


@pytest.mark.parametrize("source", SOURCES[1:])
def test_the_code_for_frozen_programs_looks_at_the_file_first(source, tmp_path):
    torch.save(os.getcwd, tmp_path / "net")  # to load it, PyTorch would call a function that it names
    with pytest.raises(ValueError, match=r"net is (not a file of torch\.|no ONNX model)"):
        exec(remedies.count_again(source), {"path": tmp_path / "net", "data": torch.randn(50, 8)})


@pytest.mark.parametrize(
    "name", ["act", DEEP, "a" * 300, "with \"quotes\" and 'apostrophes' " * 3, "\x1b[31m\u202e\udc80" * 9]
)
@pytest.mark.parametrize("source", SOURCES)
def test_every_line_of_code_fits_a_terminal_of_80_columns(name, source):
    for report in reports(source, name, "a" * 120):
        for code in codes(report):
            ast.parse(code)
            assert all(len(line) <= 76 for line in code.splitlines()), code
            assert code.isascii() or name.isascii()
        console = Console(file=io.StringIO(), width=80, force_terminal=False)
        print_report(report, console)
        printed = [line.strip() for line in console.file.getvalue().splitlines()]
        for finding in report.findings[:5]:
            assert all(line.strip() in printed for line in finding.code.splitlines())


@pytest.mark.parametrize("name", ["act", DEEP, "a" * 300, "it's", 'say "x"', "\x1b\x00\x9b\u202e\udc80\n\\" * 40, ""])
def test_a_name_in_code_is_that_name(name):
    assert ast.literal_eval(remedies.literal(name)) == name
    assert all(line.isprintable() for line in remedies.literal(name).splitlines())
