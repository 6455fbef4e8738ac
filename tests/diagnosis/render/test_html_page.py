"""The page as a browser sees it: drawn, readable, quiet, and alone on the machine."""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from support.browser import DESKTOP, PHONE, open_page

from leakyrelu._page.page import Chart, Table, write_page, write_png
from leakyrelu.diagnosis.counts import Counts
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.render.charts import BINS
from leakyrelu.diagnosis.report import Report

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
def test_every_chart_is_drawn_in_peace(chromium, page, viewport, color_scheme):
    with open_page(chromium, page, viewport=viewport, color_scheme=color_scheme) as opened:
        assert opened.wait_drawn() == len(SPECS)
        assert opened.overflow() == 0
        for i in range(len(SPECS)):
            plot, svg = opened.page.locator(".plot").nth(i), opened.page.locator(".plot svg.marks").nth(i)
            outer, inner = plot.bounding_box(), svg.bounding_box()
            assert 0.8 * outer["width"] <= inner["width"] <= outer["width"] + 1
        opened.assert_clean()


def test_words_are_words(chromium, page):
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
            r"row 1 of the table 'T' has 1 cells for 2 columns: give every",
        ),
    ],
)
def test_what_would_not_work_is_refused(tmp_path, charts, tables, text):
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


@pytest.mark.parametrize("missing", ["jinja2", "vl_convert", "altair"])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)  # Python's way to say that a module is not to be found
    with pytest.raises(
        ImportError, match=rf"package '{missing}', which is not installed: pip install \"leakyrelu\[report\]\""
    ):
        diagnosis(2, 5).to_html(tmp_path / "page.html")


def diagnosis(layers: int, units: int) -> Report:
    generator = np.random.default_rng(0)
    made = []
    for i in range(layers):
        positive = generator.integers(1, 999, units)
        positive[: i + 1], positive[-1] = 0, 1000
        zeros, ones = np.zeros(units), np.ones(units)
        nan = zeros.copy()
        if i == 1:
            nan[0] = 1000
        made.append(
            Layer(f"block.{i}", "ReLU", 0.0, Counts(1000, 1, positive, nan, zeros, zeros + 1000, ones, ones, ones))
        )
    return Report(made, unused=["spare"])


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_diagnosis_page(chromium, tmp_path, viewport, color_scheme):
    path = tmp_path / "diagnosis.html"
    report = diagnosis(3, 20)
    report.to_html(path, title="My network")
    with open_page(chromium, path, viewport=viewport, color_scheme=color_scheme) as opened:
        assert opened.wait_drawn() == 3
        assert opened.overflow() == 0
        seen = opened.page
        assert seen.locator("h1").inner_text() == "My network"
        assert "5 of 60 units silent" in seen.locator("header").inner_text()
        assert "never called: spare." in seen.locator("footer").inner_text()
        figure = seen.locator("#units")
        assert figure.get_attribute("data-marks") == "60"  # one a unit
        assert figure.locator(".legend li").all_inner_texts() == [*BINS, "only NaN"]
        canvas, plot = figure.locator("canvas").bounding_box(), figure.locator(".plot").bounding_box()
        assert 0.95 * plot["width"] <= canvas["width"] <= plot["width"] + 1
        found = seen.locator("#findings details")
        assert found.count() == len(report.findings)
        assert found.first.inner_text().split()[0] == "critical"  # NaN
        assert any("revive(model, report, optimizer)" in text for text in found.all_text_contents())
        assert seen.locator("#table-2 tbody tr").first.inner_text().split() == ["block.0", "silent", "0"]
        opened.assert_clean()


def color_at(page, x: float, y: float) -> tuple[int, ...]:
    """Color of the canvas at a point of it."""
    return tuple(
        page.evaluate(
            """([x, y]) => {
                const canvas = document.querySelector("#units canvas"), sharp = window.devicePixelRatio;
                const pen = new OffscreenCanvas(1, 1).getContext("2d");
                pen.drawImage(canvas, Math.floor(x * sharp), Math.floor(y * sharp), 1, 1, 0, 0, 1, 1);
                return [...pen.getImageData(0, 0, 1, 1).data];
            }""",
            [x, y],
        )
    )


def swatch(page, name: str) -> tuple[int, ...]:
    text = page.locator("#units .legend li", has_text=name).locator("span").evaluate("e => e.style.background")
    return (*map(int, re.findall(r"\d+", text)), 255)


def test_the_diagnosis_page_by_hover_and_keyboard(chromium, tmp_path):
    path = tmp_path / "diagnosis.html"
    report = diagnosis(3, 10)
    report.to_html(path)
    with open_page(chromium, path, reduced_motion="reduce") as opened:
        opened.wait_drawn()
        seen = opened.page
        plot, readout = seen.locator("#units .plot"), seen.locator("#units .readout")
        plot.focus()
        seen.keyboard.press("ArrowRight")
        assert readout.inner_text() == "block.0, unit 0: positive 0 %, output mean 1, std 0.0316 (1 of 10)"
        walked = [readout.inner_text()]
        for _ in range(9):
            seen.keyboard.press("ArrowRight")
            walked.append(readout.inner_text())
        shares = [float(re.search(r"positive ([\d.]+) %", text)[1]) for text in walked]
        expected = np.sort(100 * report.layers[0].positive_share)
        np.testing.assert_allclose(shares, expected, atol=0.1)  # sorted, one step a unit
        seen.keyboard.press("ArrowRight")
        assert readout.inner_text().startswith("block.1, unit 1: positive 0 %")  # on to the next strip
        seen.keyboard.press("ArrowDown")
        assert readout.inner_text().startswith("block.2, unit 0: positive 0 %")
        seen.keyboard.press("End")
        assert "block.2, unit 9: positive 100 %" in readout.inner_text()
        seen.keyboard.press("ArrowUp")
        assert "block.1, unit 0: positive -" in readout.inner_text()  # saw only NaN
        assert seen.locator("#units .cursor").is_visible()
        seen.keyboard.press("Escape")
        assert readout.inner_text() == ""
        assert not seen.locator("#units .cursor").is_visible()

        seen.locator("#units canvas").scroll_into_view_if_needed()
        box = seen.locator("#units canvas").bounding_box()
        cursor = seen.locator("#units .cursor")
        seen.keyboard.press("ArrowRight")
        first = cursor.bounding_box()
        x, y = first["x"] + first["width"] / 2, first["y"] + first["height"] / 2
        seen.mouse.move(x, y)
        tip = seen.locator("#units .tip")
        assert tip.inner_text() == "block.0, unit 0: positive 0 %, output mean 1, std 0.0316"
        assert color_at(seen, x - box["x"], y - box["y"]) == swatch(seen, "silent")
        seen.mouse.move(box["x"] + box["width"] - 5, y)
        assert tip.inner_text().startswith("block.0, unit 9: positive 100 %")
        assert color_at(seen, box["width"] - 5, y - box["y"]) == swatch(seen, "always on")
        seen.mouse.move(box["x"] + box["width"] / 2, box["y"] - 100)
        assert not tip.is_visible()
        opened.assert_clean()


def test_many_units_stay_a_small_page(chromium, tmp_path):
    path = tmp_path / "diagnosis.html"
    diagnosis(20, 500).to_html(path)
    assert path.stat().st_size < 3_000_000
    with open_page(chromium, path, reduced_motion="reduce") as opened:
        opened.wait_drawn()
        seen = opened.page
        assert seen.locator("#units").get_attribute("data-marks") == "10000"
        seen.locator("#units .plot").focus()
        seen.keyboard.press("ArrowDown")
        seen.keyboard.press("End")
        assert "(500 of 500)" in seen.locator("#units .readout").inner_text()
        seen.locator("#units canvas").scroll_into_view_if_needed()
        box = seen.locator("#units canvas").bounding_box()
        seen.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 10)
        assert seen.locator("#units .tip").inner_text().startswith("block.19, unit ")
        opened.assert_clean()


def test_a_healthy_network_is_called_so_on_the_page(chromium, tmp_path):
    zeros, ones = np.zeros(4), np.ones(4)
    counts = Counts(1000, 1, [500] * 4, zeros, zeros, ones * 1000, ones * 0.4, ones * 340, ones * 400)
    Report([Layer("act", "ReLU", 0.0, counts)]).to_html(tmp_path / "page.html")
    with open_page(chromium, tmp_path / "page.html") as opened:
        opened.wait_drawn()
        assert opened.page.locator("#findings summary").all_inner_texts() == ["healthy Healthy"]
        opened.assert_clean()


def test_a_training_is_drawn_where_there_is_one(chromium, tmp_path):
    class Training:
        steps = (0, 50, 100)
        reports = (diagnosis(2, 40), diagnosis(10, 40), diagnosis(10, 20))

    diagnosis(10, 20).to_html(tmp_path / "page.html", history=Training)
    with open_page(chromium, tmp_path / "page.html") as opened:
        assert opened.wait_drawn() == 4
        figure = opened.page.locator("#training")
        # Planted are 1, 2, ... silent units a layer, one of which saw only NaN: 2 of 80, then 54 of 200.
        assert "2.5 % of all at step 0, 27.0 % at step 100" in figure.locator("figcaption").inner_text()
        assert figure.locator('[aria-roledescription="line mark"]').count() == 8  # the worst of the ten
        figure.locator(".plot").focus()
        opened.page.keyboard.press("End")
        assert "block.9" in figure.locator(".readout").inner_text()
        opened.assert_clean()


def test_the_picture(tmp_path):
    report = diagnosis(3, 20)
    report.to_png(tmp_path / "one.png", title="My network", scale=1.0)
    data = (tmp_path / "one.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert 640 <= width < 1000
    assert height > 100
    with pytest.raises(ValueError, match="the report has no layers, so there is nothing to draw"):
        Report([]).to_png(tmp_path / "two.png")


@pytest.mark.parametrize("name", ["x.svg", "x.PDF", "x.png.html"])
def test_a_picture_under_the_name_of_another_kind_is_refused(tmp_path, name):
    match = rf"the path .*{re.escape(name)}' ends in '\{Path(name).suffix}', but .* PNG.*: end it in '\.png'"
    with pytest.raises(ValueError, match=match):
        diagnosis(3, 20).to_png(tmp_path / name)
    assert not (tmp_path / name).exists()
    for fitting in ("x", "x.PNG"):
        diagnosis(3, 20).to_png(str(tmp_path / fitting))
        assert (tmp_path / fitting).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("wrong", [3, "training", [], diagnosis])
def test_what_is_no_history_is_refused(tmp_path, wrong):
    with pytest.raises(TypeError, match=r"history is .*, which has no steps and reports: give .*\.history") as refusal:
        diagnosis(3, 20).to_html(tmp_path / "page.html", history=wrong)
    assert repr(wrong) in str(refusal.value)


def test_a_history_without_a_report_for_each_step_is_refused(tmp_path):
    class Training:
        steps = (0, 50)
        reports = (diagnosis(2, 4),)

    with pytest.raises(ValueError, match=r"history has 2 steps but 1 report"):
        diagnosis(3, 20).to_html(tmp_path / "page.html", history=Training)


def test_an_empty_report_has_no_page(tmp_path):
    with pytest.raises(ValueError, match="the report has no layers, so there is nothing to draw"):
        Report([]).to_html(tmp_path / "page.html")
