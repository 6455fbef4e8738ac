"""Packages that are missing: one line that names the package, its extra and the command that installs it."""

from __future__ import annotations

import onnx.parser
import pytest
from support.command import python

from leakyrelu._extras import require

USES = [
    ("torch", "import leakyrelu.torch", "leakyrelu.torch", "leakyrelu[torch]"),
    ("torch", "from leakyrelu.torch.activations import LeakyReLU", "leakyrelu.torch", "leakyrelu[torch]"),
    ("torch", "import leakyrelu.study", "leakyrelu.torch", "leakyrelu[torch]"),
    ("torch", "import leakyrelu.torch.lightning", "leakyrelu.torch", "leakyrelu[torch]"),
    ("onnx", "from leakyrelu.onnx import diagnose; diagnose('m.onnx', [])", "leakyrelu.onnx", "leakyrelu[onnx]"),
    ("onnxruntime", "from leakyrelu.onnx import diagnose; diagnose('m.onnx', [])", "leakyrelu.onnx", "leakyrelu[onnx]"),
    ("altair", "report.to_html('r.html')", "a chart", "leakyrelu[report]"),
    ("jinja2", "report.to_html('r.html')", "a chart", "leakyrelu[report]"),
    ("vl_convert", "report.to_html('r.html')", "a page", "leakyrelu[report]"),
    ("vl_convert", "report.to_png('r.png')", "a page", "leakyrelu[report]"),
    ("pandas", "report.to_frame()", "Report.to_frame", None),
    ("keras", "from leakyrelu.keras import watch; watch(None)", "leakyrelu.keras", None),
    ("mnist1d", "from leakyrelu.study import mnist1d; mnist1d()", "the data set MNIST-1D", "leakyrelu[study]"),
    (
        "joblib",
        "from leakyrelu.study import Part, Data, run_study; import numpy as np; p = Part(np.ones((2, 3), "
        "np.float32), np.arange(2)); run_study(Data('d', p, p, p, 2))",
        "leakyrelu.study",
        "leakyrelu[study]",
    ),
    (
        "distributed",
        "from leakyrelu.study import Part, Data, run_study; import numpy as np; p = Part(np.ones((2, 3), "
        "np.float32), np.arange(2)); run_study(Data('d', p, p, p, 2), scheduler='tcp://a:1')",
        "--scheduler",
        None,
    ),
    (
        "sklearn",
        "from leakyrelu.study import digits; digits()",
        "the set of handwritten digits",
        "leakyrelu[study]",
    ),
]

RELU = '<ir_version: 8, opset_import: ["":13]> g (float[n,2] x) => (float[n,2] y) { y = Relu(x) }'
REPORT = (
    "from leakyrelu.diagnosis import Counts, Layer, Report\n"
    "counts = Counts(100, 1, [0, 50], [0, 0], [0, 0], [100, 100], [0.0, 0.5], [0.0, 9.0], [0.0, 50.0])\n"
    "report = Report([Layer('act', 'ReLU', 0.0, counts)])\n"
)


@pytest.mark.parametrize(("missing", "statement", "by", "extra"), USES)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path, monkeypatch, missing, statement, by, extra
):
    onnx.save(onnx.parser.parse_model(RELU), tmp_path / "m.onnx")
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.modules[{missing!r}] = None\n{REPORT if 'report.' in statement else ''}{statement}"
    )
    monkeypatch.chdir(tmp_path)
    run = python(f"import runpy, sys; runpy.run_path({str(script)!r})")
    command = f'"{extra}"' if extra else missing
    line = f"ImportError: {by} needs the package {missing!r}, which is not installed: pip install {command}"
    assert run.stderr.splitlines()[-1].startswith(line), run.stderr


def test_the_first_of_several_packages_that_is_there_does():
    assert require("no_such_package", "math", by="this").sqrt(4) == 2
    with pytest.raises(ImportError) as caught:
        require("no_such.package", "nor_this", by="this", hint=", or do without")
    message = "this needs the package 'no_such', which is not installed: pip install no_such, or do without"
    assert (str(caught.value), caught.value.name) == (message, "no_such")


def test_a_package_that_cannot_be_imported_says_why(tmp_path, monkeypatch):
    (tmp_path / "jinja2.py").write_text("import what_it_needs\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "jinja2", raising=False)
    with pytest.raises(ImportError) as caught:
        require("jinja2", by="a page")
    message = "a page needs the package 'jinja2', which cannot be imported (No module named 'what_it_needs'): "
    assert str(caught.value) == message + 'pip install "leakyrelu[report]"'
