"""The page toolkit in a browser: charts are drawn, text is readable, and nothing is requested from a network."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest
from support.browser import DESKTOP, PHONE, open_page

from leakyrelu._page.page import Chart, Table, write_page, write_png

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.4.1.json"


def bars(**changes) -> dict:
    rows = [{"row": name, "value": i + 0.5} for i, name in enumerate(["ReLU", "Leaky ReLU 0.01", "a <b> & c"])]
    spec = {
        "$schema": SCHEMA,
        "title": "a second title",
        "data": {
            "values": [*rows, {"row": "ReLU", "value": float("nan")}, {"row": np.str_("n"), "value": np.float64(1)}]
        },
        "mark": "bar",
        "encoding": {
            "x": {"field": "value", "type": "quantitative"},
            "y": {"field": "row", "type": "nominal"},
            "color": {"field": "row", "type": "nominal"},
        },
    }
    return spec | changes


def layered() -> dict:
    spec = bars()
    encoding = spec.pop("encoding") | {"color": {"value": "red"}}
    del spec["mark"]
    return spec | {"layer": [{"mark": "bar", "encoding": encoding}, {"mark": "point", "encoding": encoding}]}


def stacked() -> dict:
    spec = bars()
    view = {"mark": spec.pop("mark"), "encoding": spec.pop("encoding")}
    return spec | {"vconcat": [view, view]}


def rows() -> dict:
    spec = bars()
    spec["encoding"] = spec["encoding"] | {"row": {"field": "row", "type": "nominal"}}
    return spec


SPECS = {"bars": bars, "layers": layered, "stacked": stacked, "rows": rows}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(
        path,
        title="Title & <script>alert(1)</script>",
        summary="First </script> sentence.\n\nSecond.",
        charts=[Chart(name, f"Chart <{name}>", f'What "{name}" shows', make()) for name, make in SPECS.items()],
        tables=[
            Table(
                "Numbers",
                ["row", "share", "text", "list"],
                [["ReLU", "1.5 %", "1 a", "1, 2"], ["<i>x</i>", "-", "b", "3"]],
                "A note.",
            ),
        ],
        footnote="The end.",
    )
    return path


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_chart_is_drawn_without_errors_or_requests(chromium, page, viewport, color_scheme):
    with open_page(chromium, page, viewport=viewport, color_scheme=color_scheme) as opened:
        assert opened.wait_drawn() == len(SPECS)
        assert opened.overflow() == 0
        for i in range(len(SPECS)):
            plot, svg = opened.page.locator(".plot").nth(i), opened.page.locator(".plot svg.marks").nth(i)
            outer, inner = plot.bounding_box(), svg.bounding_box()
            assert 0.8 * outer["width"] <= inner["width"] <= outer["width"] + 1
        opened.assert_clean()


def test_text_is_escaped(chromium, page):
    with open_page(chromium, page) as opened:
        opened.wait_drawn()
        seen = opened.page
        assert seen.title() == "Title & <script>alert(1)</script>"
        assert seen.locator("h1").inner_text() == "Title & <script>alert(1)</script>"
        assert seen.locator(".summary").all_inner_texts() == ["First </script> sentence.", "Second."]
        assert seen.locator("figure h2").first.inner_text() == "Chart <bars>"
        assert seen.locator("figure figcaption").first.inner_text() == 'What "bars" shows'
        assert seen.locator("figure .plot").first.get_attribute("aria-label") == 'What "bars" shows'
        assert "a <b> & c" in seen.locator("figure svg").first.text_content()
        assert "a second title" not in seen.locator("figure").first.inner_text()
        assert seen.locator("tbody th").all_inner_texts() == ["ReLU", "<i>x</i>"]
        classes = [cell.get_attribute("class") for cell in seen.locator("tbody tr").first.locator("td").all()]
        assert classes == ["number", None, None]
        assert seen.locator("footer").inner_text() == "The end."
        opened.assert_clean()


def test_it_follows_the_window_and_the_color_scheme(chromium, page):
    with open_page(chromium, page) as opened:
        opened.wait_drawn()
        seen, svg = opened.page, opened.page.locator(".plot svg.marks").first
        wide, light = svg.bounding_box()["width"], svg.locator("text").first.get_attribute("fill")
        seen.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        seen.wait_for_function(f"document.querySelector('.plot svg.marks').clientWidth < {PHONE[0]}")
        opened.wait_drawn()
        assert wide > 1.2 * svg.bounding_box()["width"]
        assert opened.overflow() == 0
        seen.emulate_media(color_scheme="dark")
        seen.wait_for_function(f"document.querySelector('.plot svg text').getAttribute('fill') !== '{light}'")
        opened.wait_drawn()
        ground, ink = seen.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        assert sum(map(int, re.findall(r"\d+", ground))) < sum(map(int, re.findall(r"\d+", ink)))
        opened.assert_clean()


def test_the_keyboard_reaches_everything(chromium, page):
    with open_page(chromium, page) as opened:
        opened.wait_drawn()
        seen = opened.page
        reached = []
        for _ in range(30):
            seen.keyboard.press("Tab")
            reached.append(seen.evaluate("document.activeElement.className || document.activeElement.tagName"))
            if reached[-1] == "scroll":
                break
        assert reached.count("A") == len(SPECS) + 1
        assert reached.count("plot") == len(SPECS)
        assert reached[-1] == "scroll"

        seen.locator(".plot").first.focus()
        readout = seen.locator(".readout").first
        assert readout.inner_text() == ""
        seen.keyboard.press("ArrowRight")
        assert readout.inner_text() == "value: 0.5; row: ReLU (1 of 4)"
        seen.keyboard.press("ArrowRight")
        assert readout.inner_text() == "value: 1.5; row: Leaky ReLU 0.01 (2 of 4)"
        assert seen.locator(".plot .chosen").count() == 1
        seen.keyboard.press("ArrowLeft")
        seen.keyboard.press("ArrowLeft")
        assert "(1 of 4)" in readout.inner_text()
        seen.keyboard.press("End")
        assert "(4 of 4)" in readout.inner_text()
        seen.keyboard.press("Escape")
        assert readout.inner_text() == ""
        assert seen.locator(".plot .chosen").count() == 0
        opened.assert_clean()


def test_the_browser_helper_sees_what_it_should(chromium, tmp_path):
    # The tests above prove nothing if a request, an error or a failed chart went unseen.
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('one'); throw Error('two')</script>")
    with open_page(chromium, bad) as opened:
        opened.page.wait_for_load_state("load")
        assert opened.network == ["http://127.0.0.1:9/x.png"]
        assert "one" in opened.console
        assert opened.errors == ["two"]
        with pytest.raises(AssertionError):
            opened.assert_clean()

    write_page(tmp_path / "broken.html", title="t", summary="s", charts=[Chart("c", "t", "d", {"mark": "nonsense"})])
    with open_page(chromium, tmp_path / "broken.html") as opened, pytest.raises(AssertionError):
        opened.wait_drawn()


def test_the_policy_of_the_page_forbids_requests(chromium, page):
    with open_page(chromium, page) as opened:
        opened.wait_drawn()
        assert opened.page.evaluate(
            "fetch('http://127.0.0.1:9/').then(() => 'let through', error => String(error))"
        ) == ("TypeError: Failed to fetch")
        assert any("Content Security Policy" in line for line in opened.console)


def test_a_page_without_charts_is_small(chromium, tmp_path):
    path = tmp_path / "table.html"
    write_page(path, title="t", summary="s", charts=[], tables=[Table("T", ["a"], [["1"]])])
    assert path.stat().st_size < 10_000
    with open_page(chromium, path) as opened:
        assert opened.page.locator("table").count() == 1
        opened.assert_clean()


def test_the_same_input_gives_the_same_file(tmp_path, page):
    for name in "ab":
        write_page(tmp_path / name, title="t", summary="s", charts=[Chart("c", "t", "d", bars())])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("charts", "tables", "text"),
    [
        ([Chart("c", "t", "d", bars())] * 2, [], r"two charts have the id 'c': give each chart its own"),
        ([Chart("1 c", "t", "d", bars())], [], r"the chart id '1 c' cannot stand in an address: use a letter"),
        (
            [Chart("c", "t", "d", bars(data={"url": "https://example.org/x.csv"}))],
            [],
            r"the chart 'c' would fetch its data from 'https://example\.org/x\.csv': put the values into",
        ),
        (
            [Chart("c", "t", "d", {"layer": [bars(data={"url": "x.csv"})]})],
            [],
            r"the chart 'c' would fetch its data from 'x\.csv'",
        ),
        (
            [],
            [Table("T", ["a", "b"], [["1", "2"], ["1"]])],
            r"row 1 of the table 'T' has 1 cell for 2 columns: give every",
        ),
    ],
)
def test_invalid_charts_and_tables_are_refused(tmp_path, charts, tables, text):
    with pytest.raises(ValueError, match=text):
        write_page(tmp_path / "page.html", title="t", summary="s", charts=charts, tables=tables)
    assert not (tmp_path / "page.html").exists()


def test_data_may_have_a_column_named_data(tmp_path):
    spec = bars(data={"values": [{"data": {"url": "a value, not an address"}, "value": 1, "row": "x"}]})
    write_page(tmp_path / "page.html", title="t", summary="s", charts=[Chart("c", "t", "d", spec)])


def test_png(tmp_path):
    path = tmp_path / "chart.png"
    write_png(bars(width="container"), path, scale=1.0)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert 720 <= width < 1100
    write_png(bars(width="container"), path, scale=2.0)
    assert struct.unpack(">II", path.read_bytes()[16:24]) == (2 * width, 2 * height)
    with pytest.raises(ValueError, match=r"the chart would fetch its data from 'x\.csv'"):
        write_png(bars(data={"url": "x.csv"}), path)
    for scale in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=rf"scale must be a finite number above 0, got {scale!r}"):
            write_png(bars(), path, scale=scale)
