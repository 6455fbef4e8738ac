"""The table of a report as text, at a terminal and in a notebook; its JSON and data frame."""

from __future__ import annotations

import copy
import io
import json
import re
import sys
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support import ROOT

from leakyrelu.diagnosis.counts import Counts
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.render.serialize import schema
from leakyrelu.diagnosis.render.summary import (
    BASIC_COLUMNS,
    INPUTS,
    POSITIVE,
    SILENT,
    columns_of,
    histogram,
    percent,
    worst_first,
)
from leakyrelu.diagnosis.render.terminal import print_report
from leakyrelu.diagnosis.report import Report


def layer(name: str, positive: list[int], samples: int = 1000, slope=0.0, kind: str = "ReLU", **counts) -> Layer:
    units = len(positive)
    zeros, ones = np.zeros(units, int), np.ones(units)
    fields = {"nan": zeros, "saturated": zeros, "outputs": zeros + samples, "mean": ones, "m2": ones * samples * 4}
    values = fields | {"relu_sum": ones, "entries": samples} | counts
    return Layer(name, kind, slope, Counts(samples, 2, positive, **values), 6.0 if kind == "ReLU6" else np.inf)


def test_the_whole_table():
    report = Report(
        [
            layer("features.0", [500, 400, 1000, 450]),
            layer("features.3", [0, 0, 1000, 480], slope=0.01, kind="LeakyReLU"),
            layer("head.act", [100, 1], samples=50_000, slope=[0.1, 0.3], kind="PReLU"),
        ],
        unused=["aux.relu"],
    )
    assert repr(report) == "\n".join(
        [
            "3 layers, 10 units: 2 of 10 units silent (20.0 %), 2 always on",
            "Worst: layer features.3, 2 of 4 units silent",
            "",
            "Layers, worst first: NaN, then silent or saturated units, then always on.",
            "",
            "                                                   units  median share    output",
            "                       negative          silent   always   of positive      mean",
            "layer       kind          slope  units    units       on        inputs  over std",
            "features.3  LeakyReLU      0.01      4  2 (50%)  1 (25%)        24.0 %      0.50",
            "features.0  ReLU              0      4        0  1 (25%)        47.5 %      0.50",
            "head.act    PReLU      0.1..0.3      2        0        0         0.1 %      0.50",
            "",
            "silent: never positive in 1000 samples; we can be 95 % sure that each fires on",
            "  fewer than 0.3 % of the samples",
            "never called: aux.relu",
            "",
            "What to do:",
            "1. Bring back 2 silent units of features.3 (finding 1).",
            "2. Check it, after some epochs of training:",
            "     from leakyrelu.torch import diagnose",
            "",
            "     # model, data: those of this report",
            "     report = diagnose(model, data)",
        ]
    )


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ((1000, 1000), "in 1000 samples; we can be 95 % sure that each fires on fewer than 0.3 % of the samples"),
        ((1797, 1797), "in 1797 samples; we can be 95 % sure that each fires on fewer than 0.17 % of the samples"),
        ((1797,), "in 1797 samples; we can be 95 % sure that it fires on fewer than 0.17 % of the samples"),
        (
            (10, 10),
            "in 10 samples (2000 inputs); we can be 95 % sure that each fires on fewer than 30 % of the samples",
        ),
        (
            (10, 30),
            "in 10 to 30 samples (2000 inputs); we can be 95 % sure that each fires on fewer than 30 % of the samples",
        ),
        ((3, 3), "in 3 samples (2000 inputs); these are too few samples to say how seldom each fires"),
        ((10, None), "in 2000 inputs; how often each may still fire is not known, since samples were not counted"),
    ],
)
def test_the_bound_under_the_table(entries, said):
    samples = entries[0] if entries[0] >= 1000 else 2000
    text = repr(Report([layer(f"l{i}", [0, 9], samples, entries=n) for i, n in enumerate(entries)]))
    assert f"silent: never positive {said} What to do:" in " ".join(text.split())


def test_the_printed_columns_add_up():
    report = Report([layer(f"l{i}", [0] * i + [5] * 8 + [1000] * (i // 2)) for i in range(12)])
    lines = repr(report).split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("layer ")) + 1
    rows = [line.split() for line in lines[start : start + 12]]
    assert sum(int(row[3]) for row in rows) == report.units
    assert sum(int(row[4]) for row in rows) == report.silent == sum(range(12))
    assert lines[1] == "Worst: layer l11, 11 of 24 units silent"


@given(
    st.lists(
        st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=90),
        min_size=1,
        max_size=4,
        unique=True,
    ),
    st.text("abcXY", min_size=1, max_size=60),
    st.integers(1, 4),
    st.integers(1, 10**12),
)
def test_no_line_is_wider_than_80_columns(names, kind, silent, samples):
    layers = [layer(name, [0] * silent + [samples], samples, kind=kind, nan=[0] * silent + [0]) for name in names]
    layers.append(layer("x" * 91, [1] * 99999, 10, slope=np.linspace(-1234.5, 987654, 99999), kind=kind))
    text = repr(Report(layers, unused=names))
    assert max(map(len, text.split("\n"))) <= 80


def test_a_long_name_loses_its_middle_and_nothing_else_is_cut():
    long = layer("encoder.layers." + "deep." * 20 + "feed_forward.act", [0, 1], kind="AVeryLongSubclassOfReLU")
    (row,) = (line for line in repr(Report([long])).split("\n") if line.startswith("encoder"))
    assert row == "encoder.la…eep.feed_forward.act  AVeryLongSubclassOfReLU      2  1 (50%)       0"


def test_a_kind_that_is_longer_than_its_column_goes_on_in_the_next_line():
    kind = "ReLU" + "abcdefghij" * 6
    lines = repr(Report([layer("act", [0, 1], kind=kind)])).split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("act "))
    assert "".join(line[7:31].strip() for line in lines[start : start + 3]) == kind


def test_columns_that_do_not_fit_are_named():
    report = Report([layer("a" * 40, [0, 1], kind="AVeryLongSubclassOfReLU")])
    said = "Not shown at this width: negative slope, median share of positive inputs and output mean over std."
    assert said in " ".join(repr(report).split())
    assert "Not shown" not in repr(Report([layer("a", [0, 1])]))


def test_deep_networks_show_the_worst_first_and_count_the_others():
    layers = [layer(f"layer.{i}", [0, 5] if i in (20, 21, 40) else [5, 5]) for i in range(60)]
    lines = repr(Report(layers)).split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("layer ")) + 1
    names = [line.split()[0] for line in lines[start : start + 41]]
    others = [f"layer.{i}" for i in range(60) if i not in (20, 21, 40)]
    assert names == ["layer.20", "layer.21", "layer.40", *others[:37], "..."]
    assert lines[start + 40] == "... and 20 more layers, none worse than these"


def test_worst_first_is_nan_then_silent_or_saturated_then_always_on_then_as_they_ran():
    layers = [
        layer("healthy", [5, 5]),
        layer("on", [1000, 5]),
        layer("silent", [0, 5]),
        layer("also healthy", [5, 5]),
        layer("ceiling", [1000, 1000], kind="ReLU6", saturated=[1000, 1000]),
        layer("nan", [5, 5], nan=[1, 0]),
    ]
    report = Report(layers)
    order = ["nan", "ceiling", "silent", "on", "healthy", "also healthy"]
    assert [one.name for one in worst_first(report)] == order
    document, frame = json.loads(report.to_json()), report.to_frame()
    for names in (report, document["layers"], frame["layer"].drop_duplicates()):  # these keep the order of the calls
        plain = [
            name if isinstance(name, str) else name["name"] if isinstance(name, dict) else name.name for name in names
        ]
        assert plain == [one.name for one in layers]
    assert repr(report).split("\n")[1] == "Worst: layer nan, 1 of 2 units saw NaN"
    assert "Worst: layer ceiling, 2 of 2 units saturated" in repr(Report(layers[:5]))


def test_notes_for_nan_and_ceilings():
    text = repr(Report([layer("a", [3, 0], nan=[7, 0]), layer("b", [1000, 9], kind="ReLU6", saturated=[1000, 3])]))
    assert "NaN: 7 inputs in 1 unit of a, left out of all shares" in text
    assert "saturated: 1 unit of b always at the ceiling 6" in text


def test_the_note_on_dormant_units():
    x = layer("a", [1000] * 5, relu_sum=[0.0, 2.0, 8.0, 150.0, 90.0])  # scores 0, 0.04, 0.16, 3, 1.8
    note = "dormant: 20.0 % of the units at tau = 0, 20.0 % at 0.025, 40.0 % at 0.1 (Sokar et al., ICML 2023)"
    assert note in " ".join(repr(Report([x])).split())
    assert "dormant" not in repr(Report([layer("a", [500] * 3)]))
    assert "dormant" not in repr(Report([layer("a", [0] * 3, nan=[1000] * 3)]))


def test_nothing_counted():
    assert repr(Report([])) == "No layers: nothing was counted."
    assert "no unit silent, 0 always on" in repr(Report([layer("a", [5])]))


def test_the_headline_claims_no_health_of_what_was_not_seen():
    nan = layer("a", [0, 0], nan=[1000, 1000], outputs=[0, 0])
    unseen = layer("b", [0, 0, 0], samples=0)
    for report, first in (
        (Report([nan]), "1 layer, 2 units: all inputs NaN"),
        (Report([unseen]), "1 layer, 3 units: nothing was seen"),
        (Report([layer("none", [])]), "1 layer, 0 units: nothing was seen"),
        (Report([nan, unseen]), "2 layers, 5 units: all inputs NaN"),
        (Report([nan, layer("c", [5])]), "2 layers, 3 units: no unit silent, 0 always on, 2 saw no number"),
        (
            Report([unseen, nan, layer("c", [0, 5])]),
            "3 layers, 7 units: 1 of 7 units silent (14.3 %), 0 always on, 5 saw no number",
        ),
    ):
        assert repr(report).split("\n")[0] == first
        assert f"<p>{first}</p>" in report._repr_html_()
        console = Console(file=io.StringIO(), width=100)
        print_report(report, console)
        assert console.file.getvalue().split("\n")[0] == first


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (1.0, "100 %"), (1e-9, "0.1 %"), (1 - 1e-9, "99.9 %"), (0.5, "50.0 %"), (np.nan, "-")],
)
def test_only_none_and_all_are_written_as_such(share, text):
    assert percent(share) == text


def sample() -> Report:
    return Report(
        [
            layer("a", [0, 500, 1000], mean=[0.1, 1 / 3, -1e-300], entries=50),
            layer("b", [0, 1], slope=[0.25, 0.1], kind="PReLU", nan=[1000, 0], outputs=[0, 1000]),
            layer("c", [1000], kind="ReLU6", saturated=[1000]),
        ],
        unused=["d"],
    )


def test_json_has_every_number():
    document = json.loads(sample().to_json())
    assert (document["schema"], document["version"], document["unused"]) == ("leakyrelu.report", 3, ["d"])
    a, b, c = document["layers"]
    assert (a["name"], a["kind"], a["units"], a["calls"]) == ("a", "ReLU", 3, 2)
    assert (a["samples"], a["entries"], a["counts"]["entries"]) == (1000, 50, 50)
    assert (a["positive_share"], a["silent_units"], a["always_on_units"]) == ([0.0, 0.5, 1.0], [0], [2])
    assert a["silent_bound"] == [0.06]
    assert a["output_mean"] == [0.1, 1 / 3, -1e-300]
    assert a["output_std"] == [2.0] * 3
    assert a["effective_slope"] == [0.0, 0.5, 1.0]
    assert a["ceiling"] is None
    assert b["negative_slope"] == [0.25, 0.1]
    assert b["positive_share"] == [None, 0.001]  # JSON has no NaN
    assert b["nan_units"] == [0]
    assert (c["ceiling"], c["saturated_units"], c["mean_over_std"]) == (6.0, [0], 0.5)


def test_json_is_what_its_schema_says():
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    for report in (sample(), Report([]), Report([layer("a", [0, 500])]), Report([layer("a", [0, 500], entries=None)])):
        validator.validate(json.loads(report.to_json()))
    broken = json.loads(sample().to_json())
    for path in (["layers", 0, "units"], ["layers", 0, "counts", "mean"], ["findings", 0, "severity"], ["version"]):
        document = copy.deepcopy(broken)
        inner = document
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]
        assert not validator.is_valid(document)
        inner[path[-1]] = "nonsense"
        assert not validator.is_valid(document)


def test_findings_are_in_the_json():
    report = sample()
    document = json.loads(report.to_json())
    assert [found["title"] for found in document["findings"]] == [found.title for found in report.findings]
    assert Report.from_json(report.to_json()).findings == report.findings


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_for_a_terminal(width):
    layers = [layer(f"block.{i}.a_rather_long_name_of_an_activation", [0] * i + [500] * (40 - i)) for i in range(8)]
    report = Report([*layers, layer("wide", [1000] * 3, samples=123456789, kind="SomeSubclassOfReLU")], ["spare"])
    console = Console(width=width, file=io.StringIO(), highlight=False)
    print_report(report, console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    start = next(i for i, line in enumerate(lines) if line.startswith("layer ")) + 2
    rows = [re.split(r" {2,}", line.strip()) for line in lines[start : start + 9]]
    column = 3 if width == 80 else 5
    found = [int(row[column].split()[0]) for row in rows]
    assert found == sorted(found, reverse=True)  # the worst first
    assert sum(found) == report.silent == 28
    assert "Layers, worst first: NaN, then silent or saturated units, then always on." in lines
    assert lines[0].startswith("9 layers, 323 units: 28 of 323 units silent")
    text = " ".join(" ".join(lines).split())
    assert "…" not in "".join("".join(row[1:]) for row in rows[:8])  # names are cut, numbers never
    for finding in report.findings[:5]:
        assert " ".join(finding.evidence.split()) in text
    assert text.count("The same remedy as above.") == 3
    assert all("ReLU" in row[1] and "…" not in row[1] for row in rows)


def test_the_histogram_has_silent_and_always_on_at_its_ends():
    assert histogram(layer("a", [0] * 8 + [50] * 4 + [1000] * 2)) == "█▄        " + "  ▂"[1:]
    assert histogram(layer("a", [500] * 3)) == "      █     "


def test_frame():
    report = sample()
    frame = report.to_frame()
    assert len(frame) == report.units == 6
    first = frame[frame["layer"] == "a"]
    assert first["unit"].tolist() == [0, 1, 2]
    assert first["silent"].tolist() == [True, False, False]
    assert first["positive_share"].tolist() == [0.0, 0.5, 1.0]
    assert frame[frame["layer"] == "b"]["negative_slope"].tolist() == [0.25, 0.1]
    assert frame.groupby("layer")["silent"].sum().to_dict() == {"a": 1, "b": 0, "c": 0}
    assert frame.dtypes["samples"] == np.int64
    assert Report([]).to_frame().empty


def test_a_missing_pandas_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"needs the package 'pandas', which is not installed: pip install pandas"):
        sample().to_frame()


def test_in_a_notebook():
    report = Report([layer("<b>", [0, 500])])
    html = report._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html.replace("<b>What to do:</b>", "")
    assert "critical" in html
    root = ElementTree.fromstring(html)
    rows = [[cell.text for cell in row] for row in root.iter("tr")]
    assert rows[1] == ["<b>", "ReLU", "0", "2", "1000", "1 (50%)", "0", "25.0 %", "0.50"]
    assert "Layers, worst first" in html
    assert "<script" not in html


def test_every_renderer_shows_the_same_cells(tmp_path):
    report = sample()
    console = Console(width=120, file=io.StringIO(), highlight=False)
    print_report(report, console)
    report.to_html(tmp_path / "page.html")
    page = re.findall(r"<tr>(.*?)</tr>", (tmp_path / "page.html").read_text("utf-8"))
    notebook = [[cell.text for cell in row] for row in ElementTree.fromstring(report._repr_html_()).iter("tr")]
    lines = repr(report).split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("layer "))
    rows = [line for line in lines[start + 1 :] if not line.startswith("  ")]
    for number, layer in enumerate(worst_first(report), start=1):
        basic = [column.cell(layer) for column in BASIC_COLUMNS]
        assert re.split(r" {2,}", rows[number - 1].strip()) == basic
        assert notebook[number] == [column.cell(layer) for column in columns_of(report)]
        full = [column.cell(layer) for column in columns_of(report, every=True)]
        assert re.findall(r">([^<>]+)</t[hd]>", page[number]) == full
        (line,) = (line for line in console.file.getvalue().splitlines() if line.startswith(f"{layer.name} "))
        wide = [*basic[:4], INPUTS.cell(layer), *basic[4:]]
        assert re.split(r" {2,}", line)[: len(wide)] == wide
    assert (SILENT.cell(report["a"]), POSITIVE.cell(report["b"])) == ("1 (33%)", "0.1 %")


def test_json_comes_back_exactly(tmp_path):
    report = sample()
    path = tmp_path / "report.json"
    text = report.to_json(path)
    assert path.read_text(encoding="utf-8") == text + "\n"
    again = Report.from_json(path.read_text(encoding="utf-8"))
    assert again.to_json() == text
    assert repr(again) == repr(report)
    for one, other in zip(report.layers, again.layers, strict=True):
        np.testing.assert_array_equal(one.counts.mean, other.counts.mean)
    assert ((again + report)["a"].samples, (again + report)["a"].entries) == (2000, 100)


def test_json_of_before_samples_were_counted_is_read():
    document = json.loads(sample().to_json())
    document["version"] = 1
    for one in document["layers"]:
        del one["entries"], one["counts"]["entries"]
    old = Report.from_json(json.dumps(document))
    assert (old["a"].entries, old["a"].samples, old["a"].silent_units.tolist()) == (None, 1000, [0])
    assert "how often it may still fire is not known, since samples were not counted" in " ".join(repr(old).split())
    assert (old + sample())["a"].entries is None
    again = json.loads(old.to_json())
    assert (again["version"], again["layers"][0]["entries"], again["layers"][0]["silent_bound"]) == (3, None, [None])
    assert old._repr_html_()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"not JSON \(.*\): give the text that Report\.to_json returned"),
        ("[]", r"the JSON has schema None, not 'leakyrelu\.report': it was not written by Report\.to_json"),
        ('{"schema": "other"}', r"has schema 'other'"),
        (
            '{"schema": "leakyrelu.report", "version": 9}',
            r"the report has version 9, and this leakyrelu reads versions 1 to 3",
        ),
        ('{"schema": "leakyrelu.report"}', r"the report has version None"),
        (
            '{"schema": "leakyrelu.report", "version": 1, "unused": [], "layers": [{}]}',
            r"the JSON is not a complete report \(layers\[0\]\.ceiling is missing\): give the text that Report",
        ),
        (
            '{"schema": "leakyrelu.report", "version": 1, "unused": [], "layers": [{"name": "a", "kind": "ReLU", '
            '"negative_slope": 0.0, "ceiling": null, "counts": {"samples": 1}}]}',
            r"the JSON is not a complete report \(layers\[0\]\.counts\.calls is missing",
        ),
    ],
)
def test_other_json_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Report.from_json(text)


def test_the_example_in_the_docs_runs(capsys):
    text = (ROOT / "docs" / "diagnosis.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    shown, *others = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        exec("\n".join(blocks), {})
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    # Training rounds otherwise on another machine: the numbers may differ, what they say and where they stand may not.
    shape = r"[ \d().%]+"
    assert re.search(r"^(\d+) of \d+ reinitialized$", printed, re.MULTILINE)
    assert "the network computes what it computed: True\n" in printed
    assert re.search(r"^\d+ silent units$", printed, re.MULTILINE)
    assert re.sub(shape, " ", printed).startswith(re.sub(shape, " ", shown))
    assert others
    assert all(other in printed for other in others)
    assert int(re.search(r"(\d+) of 384 units silent", printed)[1]) > 40
