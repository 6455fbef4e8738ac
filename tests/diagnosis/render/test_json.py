"""Reports from JSON that somebody else wrote: each document is read exactly or refused by field, value and cause."""

from __future__ import annotations

import copy
import json
import warnings

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakyrelu._json import KEYWORDS, check, parse
from leakyrelu.diagnosis.counts import Counts
from leakyrelu.diagnosis.input_check import InputCheck
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.place import Place
from leakyrelu.diagnosis.render.serialize import schema
from leakyrelu.diagnosis.report import Report
from leakyrelu.diagnosis.unit_axis import UnitAxis

SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
MOST = 2**63 - 1


def counts(positive: list[int], samples: int = 1000, **fields) -> Counts:
    units = len(positive)
    zeros, ones = np.zeros(units, int), np.ones(units)
    arrays = {
        "nan": zeros,
        "saturated": zeros,
        "outputs": zeros + samples,
        "mean": ones / 3,
        "m2": ones,
        "relu_sum": ones,
    }
    return Counts(**{"samples": samples, "calls": 2, "positive": positive, "entries": 50} | arrays | fields)


def sample() -> Report:
    axis = UnitAxis((1,), (8, 3, 5, 5), known=False, alternatives={2: counts([0, 1, 2, 3, 4]), 3: counts([0] * 5)})
    place = Place("body", "body.conv + stem", "net.py:12")
    return Report(
        [
            Layer("body.act", "ReLU", 0.0, counts([0, 500, 1000]), place=place, axis=axis),
            Layer("body.act, call 2", "ReLU", 0.0, counts([0, 500, 1000]), axis=UnitAxis((1, 2), (8, 1, 3))),
            Layer("head", "PReLU", [0.25, np.nan], counts([0, 1], nan=[1000, 0], gradients=9, reached=[0, 9])),
            Layer("top", "ReLU6", 0.0, counts([1000], saturated=[1000], entries=None), 6.0),
        ],
        unused=["spare"],
        source="torchscript",
        command=["leakyrelu", "diagnose", "net.pt", "--data", "x.npz"],
        data=[InputCheck("x", 400, 3, 4, 5, 17, (2, 0, 9)), InputCheck("mask", 400)],
    )


DOCUMENT = json.loads(sample().to_json())


def changed(path: list, value) -> dict:
    document = copy.deepcopy(DOCUMENT)
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return document


def test_every_field_comes_back():
    report, again = sample(), Report.from_json(json.dumps(DOCUMENT))
    assert again.to_json() == report.to_json()
    assert (again.data, again.source, again.command, again.unused) == (
        report.data, report.source, report.command, report.unused
    )  # fmt: skip
    for one, other in zip(report, again, strict=True):
        assert one.place == other.place
    assert (again.layers[0].axis.axes, again.layers[0].axis.shape, again.layers[0].axis.known) == (
        (1,),
        (8, 3, 5, 5),
        False,
    )
    assert again.layers[0].axis.alternatives[3].silent_units.tolist() == [0, 1, 2, 3, 4]
    assert again.layers[1].axis.axes == (1, 2)
    assert again.layers[2].axis is None
    np.testing.assert_array_equal(again.layers[2].negative_slope, [0.25, np.nan])
    total = again + report
    assert total.layers[0].axis.alternatives[2].samples == 2000
    assert total.data[0] == InputCheck("x", 800, 6, 8, 10, 17, (2, 0, 9))


def test_the_json_says_where_how_and_how_dormant():
    layer = DOCUMENT["layers"][0]
    assert layer["place"] == {"inside": "body", "after": "body.conv + stem", "source": "net.py:12"}
    assert {name: layer["axis"][name] for name in ("axes", "shape", "known")} == {
        "axes": [1], "shape": [8, 3, 5, 5], "known": False
    }  # fmt: skip
    assert [(one["axis"], one["units"], one["silent_units"]) for one in layer["axis"]["alternatives"]] == [
        (2, 5, [0]), (3, 5, [0, 1, 2, 3, 4])
    ]  # fmt: skip
    assert DOCUMENT["layers"][2]["axis"] is None
    assert DOCUMENT["data"][0]["first_place"] == [2, 0, 9]
    report = Report([Layer("a", "ReLU", 0.0, counts([0, 3, 4, 5, 6], relu_sum=[0.0, 0.1, 0.4, 2.5, 2.0]))])
    document = json.loads(report.to_json())
    assert document["dormant_ratio"] == document["layers"][0]["dormant_ratio"] == {"0": 0.2, "0.025": 0.2, "0.1": 0.4}


def test_the_frame_says_where_how_and_how_dormant():
    frame = sample().to_frame()
    first = frame[frame["layer"] == "body.act"]
    assert (set(first["inside"]), set(first["after"]), set(first["source"])) == (
        {"body"}, {"body.conv + stem"}, {"net.py:12"}
    )  # fmt: skip
    assert (set(first["axis"]), set(first["axis_known"])) == ({"1"}, {False})
    second, third = (frame[frame["layer"] == name].iloc[0] for name in ("body.act, call 2", "head"))
    assert (second["axis"], second["axis_known"], third["axis"], third["axis_known"]) == ("1, 2", True, "", None)
    for tau, ratio in frame.attrs["dormant_ratio"].items():
        assert ratio == sample().dormant_ratio(tau)
        known = frame[frame["dormancy"].notna()]
        assert known[f"dormant_{tau:g}"].mean() == ratio


def test_values_beyond_float64_are_null_and_come_back_as_nan():
    report = Report([Layer("a", "ReLU", 0.0, counts([1], mean=[np.inf], m2=[np.nan], relu_sum=[np.inf]))])
    document = json.loads(report.to_json())
    VALIDATOR.validate(document)
    assert document["layers"][0]["counts"]["mean"] == [None]
    assert np.isnan(Report.from_json(report.to_json())["a"].counts.m2[0])


def test_reports_of_older_versions_are_read():
    for version, added in ((2, ()), (1, ("entries",))):
        document = copy.deepcopy(DOCUMENT)
        document["version"] = version
        for name in ("data", "dormant_ratio", "source", "command"):
            del document[name]
        for layer in document["layers"]:
            for name in ("place", "axis", "dormant_ratio", *added):
                del layer[name]
            for name in added:
                del layer["counts"][name]
        report = Report.from_json(json.dumps(document))
        assert report.layers[0].place == Place()
        assert (report.layers[0].axis, report.data, report.source) == (None, (), "model")
        assert report.layers[0].entries == (None if version == 1 else 50)
        assert report.silent == sample().silent
        total = report + Report.from_json(json.dumps(DOCUMENT | {"source": "model"}))
        assert total.layers[0].place == sample().layers[0].place


LAYER, COUNTS = ["layers", 0], ["layers", 0, "counts"]
BROKEN = [
    ([*LAYER, "name"], 5, r"layers\[0\]\.name is 5, not a string"),
    ([*LAYER, "name"], None, r"layers\[0\]\.name is None, not a string"),
    ([*LAYER, "name"], ["a"], r"layers\[0\]\.name is an array, not a string"),
    ([*LAYER, "name"], "head", "two layers have the name 'head'"),
    ([*LAYER, "kind"], {}, r"layers\[0\]\.kind is an object, not a string"),
    ([*LAYER, "ceiling"], "6", r"layers\[0\]\.ceiling is '6', not a number or null"),
    ([*LAYER, "ceiling"], 10**400, r"layers\[0\]\.ceiling is 1000.*\.\.\., which is beyond float64"),
    ([*LAYER, "negative_slope"], "steep", r"negative_slope is 'steep', not a number or null or an array"),
    ([*LAYER, "negative_slope"], True, "negative_slope is True, not a number or null or an array"),
    ([*LAYER, "negative_slope"], [0.1, "x", 0.3], r"negative_slope\[1\] is 'x', not a number or null"),
    ([*LAYER, "negative_slope"], [0.1], r"layers\[0\]: layer 'body\.act' has 3 units but slopes of shape \(1,\)"),
    ([*LAYER, "place"], "body", r"layers\[0\]\.place is 'body', not an object"),
    ([*LAYER, "place", "after"], 5, r"layers\[0\]\.place\.after is 5, not a string"),
    ([*LAYER, "axis"], 1, r"layers\[0\]\.axis is 1, not an object or null"),
    ([*LAYER, "axis", "known"], 1, r"axis\.known is 1, not a boolean"),
    ([*LAYER, "axis", "axes"], 1, r"axis\.axes is 1, not an array"),
    ([*LAYER, "axis", "axes"], [], r"layers\[0\]\.axis: axes is empty, but units lie on at least one axis"),
    ([*LAYER, "axis", "axes"], [1.5], r"axis\.axes\[0\] is 1\.5, not an integer"),
    ([*LAYER, "axis", "shape"], [8, -3], r"axis\.shape\[1\] is -3, which is less than 0"),
    ([*LAYER, "axis", "alternatives"], {"2": {}}, r"axis\.alternatives is an object, not an array"),
    ([*LAYER, "axis", "alternatives", 1, "axis"], 2, r"alternatives\[1\]\.axis is 2, as in another alternative"),
    ([*LAYER, "axis", "alternatives", 1, "counts", "samples"], 1, r"alternatives\[1\]\.counts: impossible counts"),
    ([*LAYER, "units"], 10**30, r"layers\[0\]\.units is 10{30}, which is more than 9223372036854775807"),
    ([*LAYER, "units"], MOST, rf"layers\[0\]\.units is {MOST}, but its counts have 3"),
    ([*LAYER, "samples"], 5, r"layers\[0\]\.samples is 5, but its counts have 1000"),
    ([*LAYER, "counts"], None, r"layers\[0\]\.counts is None, not an object"),
    ([*COUNTS, "samples"], 10**400, r"layers\[0\]\.counts\.samples is 1000.*\.\.\., which is more than 92233"),
    ([*COUNTS, "samples"], -1, r"layers\[0\]\.counts\.samples is -1, which is less than 0"),
    ([*COUNTS, "samples"], True, r"layers\[0\]\.counts\.samples is True, not an integer"),
    ([*COUNTS, "samples"], 1000.0, r"layers\[0\]\.counts\.samples is 1000\.0, not an integer"),
    ([*COUNTS, "samples"], "1000", r"layers\[0\]\.counts\.samples is '1000', not an integer"),
    ([*COUNTS, "samples"], 999, r"layers\[0\]\.counts: impossible counts: each unit saw 999 inputs, .* unit 2 is 1000"),
    ([*COUNTS, "positive"], [0, 500, 10**30], r"counts\.positive\[2\] is 10{30}, which is more than 92233720"),
    ([*COUNTS, "positive"], [0, 500, 1001], "each unit saw 1000 inputs, .* positive of unit 2 is 1001"),
    ([*COUNTS, "positive"], [0, -500, 1], r"counts\.positive\[1\] is -500, which is less than 0"),
    ([*COUNTS, "positive"], [0, True, 1], r"counts\.positive\[1\] is True, not an integer"),
    ([*COUNTS, "positive"], [0, None, 1], r"counts\.positive\[1\] is None, not an integer"),
    ([*COUNTS, "positive"], [0, 1.5, 1], r"counts\.positive\[1\] is 1\.5, not an integer"),
    ([*COUNTS, "positive"], [[0], [1], [2]], r"counts\.positive\[0\] is an array, not an integer"),
    ([*COUNTS, "positive"], "012", r"counts\.positive is '012', not an array"),
    ([*COUNTS, "positive"], [0, 500], r"layers\[0\]\.counts: every count needs one number a unit, shape \(units,\)"),
    ([*COUNTS, "positive"], [], r"layers\[0\]\.counts: every count needs one number a unit, shape \(units,\)"),
    ([*COUNTS, "mean"], [0, "1", 2], r"counts\.mean\[1\] is '1', not a number or null"),
    ([*COUNTS, "mean"], [0, 10**400, 2], r"counts\.mean\[1\] is 1000.*, which is beyond float64"),
    ([*COUNTS, "m2"], [0, -1, 2], r"counts\.m2\[1\] is -1, which is less than 0"),
    ([*COUNTS, "reached"], [0, 0, 0, 0], "every count needs one number a unit"),
    ([*COUNTS, "reached"], [0, 0, 1], "each unit saw 0 gradients, .* reached of unit 2 is 1"),
    ([*COUNTS, "entries"], 1001, r"layers\[0\]\.counts: impossible counts: 1000 inputs a unit cannot come from 1001"),
    (["layers"], {}, "layers is an object, not an array"),
    (["layers"], None, "layers is None, not an array"),
    (["layers", 1], "x" * 500, r"layers\[1\] is 'xxx.*\.\.\., not an object"),
    (["unused"], "spare", "unused is 'spare', not an array"),
    (["unused"], [1], r"unused\[0\] is 1, not a string"),
    (["findings"], 0, "findings is 0, not an array"),
    (["findings", 0, "severity"], "grave", r"findings\[0\]\.severity is 'grave', which is none of 'critical', "),
    (["findings", 0, "units"], [-1], r"findings\[0\]\.units\[0\] is -1, which is less than 0"),
    (["data"], [3], r"data\[0\] is 3, not an object"),
    (["data", 0, "first_sample"], 400, r"data\[0\]: an impossible check of data, whose numbers contradict each other"),
    (["data", 0, "first_place"], None, r"data\[0\]: an impossible check of data"),
    (["data", 0, "flawed"], 8, r"data\[0\]: an impossible check of data"),
    (["data", 1, "nan"], 1, r"data\[1\]: an impossible check of data"),
    (["source"], "caffe", "source is 'caffe', which is none of 'model', 'onnx', 'torchscript', 'exported'"),
    (["command"], "ls", "command is 'ls', not an array"),
    (["dormant_ratio", "0.1"], 1.5, r"dormant_ratio\.0\.1 is 1\.5, which is more than 1"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "cause"), BROKEN)
def test_what_cannot_be_is_refused_by_field_value_and_cause(path, value, cause):
    remedy = r"\): give the text that Report\.to_json returned$"
    with pytest.raises(ValueError, match=rf"^the JSON is not a complete report \(.*{cause}.*{remedy}") as caught:
        Report.from_json(json.dumps(changed(path, value)))
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("[" * 100_000, r"not JSON \(it is nested too deeply\): give the text that Report\.to_json returned"),
        ('{"a":' * 100_000, r"not JSON \(it is nested too deeply\)"),
        (json.dumps(DOCUMENT).replace("[0.0, 0.5, 1.0]", "[NaN, 0.5, 1.0]", 1), r"not JSON \(NaN is no JSON\)"),
        (json.dumps(DOCUMENT).replace(": 1000,", ": Infinity,", 1), r"not JSON \(Infinity is no JSON\)"),
        (json.dumps(DOCUMENT).replace('"samples": 1000', '"samples": 1e999', 1), r"samples is inf, not an integer"),
        (json.dumps(DOCUMENT).replace("0.3333333333333333", "1e999", 1), r"mean\[0\] is inf, which is beyond float64"),
        (json.dumps(DOCUMENT).replace(": 1000,", f": {'9' * 5000},", 1), r"not JSON \(Exceeds the limit"),
        ("", r"not JSON \(Expecting value: line 1 column 1 \(char 0\)\)"),
        (b"\xff\xfe{", r"not JSON \("),
        ('{"schema": ' + "[" * 900 + "]" * 900 + "}", "the JSON has schema an array, not 'leakyrelu.report'"),
        (json.dumps(changed(["version"], [3])), "the report has version an array, and this leakyrelu reads versions 1"),
        (json.dumps(changed(["version"], True)), "the report has version True, "),
        (json.dumps(changed(["version"], 3.0)), r"the report has version 3\.0, "),
        (json.dumps(changed(["version"], 10**400)), "the report has version 1000"),
    ],
)  # fmt: skip
def test_text_that_is_no_report_is_refused(text, cause):
    with pytest.raises(ValueError, match=cause):
        Report.from_json(text)


def test_deep_nesting_anywhere_is_refused():
    deep = []
    for _ in range(900):
        deep = [deep]
    for path in ([*LAYER, "name"], [*COUNTS, "positive"], ["unused"], ["findings", 0], ["version"], ["layers"]):
        with pytest.raises(ValueError, match="an array"):
            Report.from_json(json.dumps(changed(path, deep)))
    assert Report.from_json(json.dumps(DOCUMENT | {"comment": deep})).units == sample().units  # nobody looks at it


@pytest.mark.parametrize("name", ["\ud800", "a\x1b[31m", "\x00", "\u202eabc", "層", "", "a\nb"])
def test_every_name_comes_back(name, tmp_path):
    document = changed([*LAYER, "name"], name)
    report = Report.from_json(json.dumps(document))
    assert report.layers[0].name == name
    path = tmp_path / "r.json"
    report.to_json(path)
    assert Report.from_json(path.read_text("utf-8")).layers[0].name == name
    assert Report.from_json(json.dumps(document, ensure_ascii=False)).layers[0].name == name


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.sampled_from(["\ud800", "head", 10**30, 10**400])
    | st.integers(-2, 2**64) | st.integers(0, 1500),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def paths(node, path=()) -> list:
    found = [path] if path else []
    steps = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return found + [inner for step, child in steps for inner in paths(child, (*path, step))]


@st.composite
def mutated(draw) -> dict:
    document = DOCUMENT
    for _ in range(draw(st.integers(1, 2))):
        document = copy.deepcopy(document)
        path = draw(st.sampled_from(paths(document)))
        inner = document
        for step in path[:-1]:
            inner = inner[step]
        if draw(st.booleans()):
            inner[path[-1]] = draw(JSON)
        elif draw(st.booleans()):
            del inner[path[-1]]
        else:  # another value of the document, where it does not belong
            other = DOCUMENT
            for step in draw(st.sampled_from(paths(DOCUMENT))):
                other = other[step]
            inner[path[-1]] = copy.deepcopy(other)
    return document


@given(mutated())
def test_a_mutated_report_is_refused_or_read(document):
    text = json.dumps(document)
    try:
        report = Report.from_json(text)
    except ValueError as error:
        assert str(error).startswith(("not JSON", "the JSON ", "the report has version"))  # noqa: PT017
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = report.to_json()
        assert repr(report)
        assert report._repr_html_()
        assert len(report.to_frame()) == report.units
    assert Report.from_json(again).to_json() == again
    assert len(report.layers) == len(document["layers"])


@given(mutated())
def test_the_check_agrees_with_the_validator_of_jsonschema(document):
    """On types and ranges: both refuse the same documents, but for missing and unknown fields, which `check` leaves."""
    text = json.dumps(document)
    try:
        document = parse(text)
    except ValueError:
        return
    ours = True
    try:
        check(document, SCHEMA)
    except ValueError:
        ours = False
    errors = [error for error in VALIDATOR.iter_errors(document) if error.validator not in _LEFT]
    theirs = not errors
    assert ours == theirs or (theirs and not ours and _stricter(document))


_LEFT = ("required", "additionalProperties")


def _stricter(node) -> bool:
    """Whether a document holds what `check` alone refuses: whole numbers as floats, integers beyond float64."""
    if isinstance(node, dict | list):
        return any(map(_stricter, node.values() if isinstance(node, dict) else node))
    return (isinstance(node, float) and node.is_integer()) or (isinstance(node, int) and abs(node) > 10**300)


def test_every_keyword_of_the_schema_is_checked():
    def keywords(node, inside="schema") -> set:
        if inside == "names":
            return {key for child in node.values() for key in keywords(child)}
        found = set(node)
        for name, child in node.items():
            if name in ("properties", "$defs"):
                found |= keywords(child, "names")
            elif name == "items":
                found |= keywords(child)
        return found

    assert keywords(SCHEMA) - {"$schema", "title", "description", *_LEFT} <= KEYWORDS
