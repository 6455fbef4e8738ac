"""Names that come from files: what a terminal or a page would act on is shown and not sent, by every renderer."""

from __future__ import annotations

import io
import json
import re
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from support.browser import open_page

from leakyrelu._text import display_width, printable
from leakyrelu.diagnosis.counts import Counts
from leakyrelu.diagnosis.input_check import InputCheck
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.place import Place
from leakyrelu.diagnosis.render.terminal import print_report
from leakyrelu.diagnosis.report import Report
from leakyrelu.diagnosis.unit_axis import UnitAxis

WORST = "\x1b]0;title\x07\x1b[2J\x00\x9b31m\u202e\u2066\udc80\ud83d"
WORST += "[bold red]x[/]<script>alert(1)</script>&amp;\r\n\t\\x1b'\""
PIECES = [
    *("\x1b[31m", "\x00", "\x9b", "\u202e", "\u2028", "\udc80", "\ud83d", "\n", "\r", "\t", "[bold]", "[/]", "\\"),
    *(
        "<b>",
        "</script>",
        "<!--",
        "&lt;",
        "{{ 1 }}",
        "'",
        '"',
        "\u4e2d\u6587",
        "e\u0301",
        "\u00e9",
        ".",
        " ",
        "relu",
        "()",
        ", call 2",
    ),
]
NAMES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=30).map("".join) | st.text(max_size=40)


def hostile(name: str) -> Report:
    """A report in which every text that may come from a file is this name, or ends with it."""
    zeros, ones = np.zeros(4), np.ones(4)

    def counts(**changes) -> Counts:
        values = {"positive": [0, 0, 1000, 500], "nan": zeros, "saturated": zeros, "outputs": ones * 1000}
        return Counts(1000, 1, **values | {"mean": ones, "m2": ones, "relu_sum": ones, "entries": 1000} | changes)

    place = Place(name, f"{name}.bn + {name}", name)
    axis = UnitAxis((1,), (8, 4, 7, 7), False, {3: counts()})
    layers = [
        Layer(f"0{name}", name, 0.0, counts(), place=place, axis=axis),
        Layer(f"1{name}", f"ReLU{name}", 0.1, counts(), place=Place("", name, "")),
        Layer(f"2{name}", "ReLU", 0.0, counts(nan=ones, positive=zeros)),
        Layer(f"3{name}", "ReLU6", 0.0, counts(saturated=ones * 1000, positive=ones * 1000), 6.0, place=place),
    ]
    data = [InputCheck(name or "x", 10, 1, 1, 1, 0, (0,))]
    return Report(layers, [name], command=["leakyrelu", "diagnose", f"{name}.onnx"], data=data)


def assert_safe(text: str) -> None:
    """Nothing in a text is acted on: no control, no mark of the writing direction, no surrogate."""
    text.encode("utf-8")
    for line in text.split("\n"):
        assert line == printable(line)
        assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in line)


def on_terminal(report: Report, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    print_report(report, console)
    return console.file.getvalue()


@settings(max_examples=25)
@given(NAMES, st.sampled_from([60, 80, 120, 200]))
@example(WORST, 80)
@example("", 80)
def test_text_terminal_notebook_findings_and_plan(name, width):
    report = hostile(name)
    for text in (repr(report), on_terminal(report, width), report._repr_html_()):
        assert_safe(text)
    for item in (*report.findings, *report.plan):
        assert_safe(str(item))
    report = replace(report, command=())  # a command is never cut: it is there to be pasted
    assert max(map(display_width, repr(report).split("\n"))) <= 80
    assert max(map(cell_len, on_terminal(report, width).split("\n"))) <= width


@settings(max_examples=15)
@given(NAMES)
@example(WORST)
def test_the_terminal_is_sent_the_styles_of_the_report_alone(name):
    console = Console(file=io.StringIO(), width=80, highlight=False, force_terminal=True, color_system="standard")
    print_report(hostile(name), console)
    assert_safe(re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue()))


@settings(max_examples=50)
@given(NAMES)
@example(WORST)
def test_json_and_frame_keep_the_true_names(name):
    report = hostile(name)
    text = report.to_json()
    text.encode("utf-8")
    document = json.loads(text)
    # JSON writes characters as UTF-16 does: two surrogates in a row are a pair to it, which is one character.
    joined = name.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert [layer["name"] for layer in document["layers"]] == [f"{i}{joined}" for i in range(4)]
    assert document["unused"] == [joined]
    again = Report.from_json(text)
    assert [layer.name for layer in again] == [f"{i}{joined}" for i in range(4)]
    if joined == name:
        assert again.to_json() == text
    assert report.to_frame()["layer"].drop_duplicates().tolist() == [f"{i}{name}" for i in range(4)]
    assert [finding.layer for finding in report.findings if finding.rule == "nan"] == [f"2{name}"]


class Elements(HTMLParser):
    """The names of the elements of a page, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.found.append(tag)


def elements(html: str) -> list[str]:
    parser = Elements()
    parser.feed(html)
    return parser.found


@settings(max_examples=6, deadline=None)
@given(NAMES)
@example(WORST)
@example("\U00012a3e\U0002433c" * 20)  # characters of two words, which Vega cuts in the middle
def test_the_page_and_the_picture(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("page")
    report, plain = hostile(f"n{name}"), hostile("plain")
    report.to_html(folder / "page.html", title=f"What {name} does")
    plain.to_html(folder / "plain.html", title="What plain does")
    html = (folder / "page.html").read_bytes().decode("utf-8")
    own = html.partition("<script>")[0]  # before the chart library, which is ours
    assert_safe(own)
    expected = elements((folder / "plain.html").read_text("utf-8").partition("<script>")[0])
    assert without_code(elements(own)) == without_code(expected)
    report.to_png(folder / "page.png", title=name, scale=0.5)
    assert (folder / "page.png").read_bytes()[:4] == b"\x89PNG"


def without_code(names: list[str]) -> list[str]:
    """Leave out blocks of code and lists, which a name may be too strange for."""
    return [name for name in names if name not in ("pre", "code")]


def test_a_browser_shows_the_names(chromium, tmp_path):
    path = tmp_path / "page.html"
    hostile(WORST).to_html(path, title=f"What {WORST} does")
    with open_page(chromium, path) as opened:
        opened.wait_drawn()
        shown = printable(WORST)
        assert opened.page.locator("h1").inner_text() == f"What {shown} does"
        cells = opened.page.locator("#table-1 tbody th").all_inner_texts()
        assert cells == [f"{number}{shown}" for number in (2, 3, 0, 1)]
        assert opened.page.evaluate("document.title") == f"What {shown} does"
        opened.assert_clean()


def test_these_tests_can_fail():
    for character in "\x1b\x00\x9b\u202e\u2028\r\t":
        with pytest.raises(AssertionError):
            assert_safe(f"relu{character}")
    with pytest.raises(UnicodeEncodeError):
        assert_safe("\udc80")
