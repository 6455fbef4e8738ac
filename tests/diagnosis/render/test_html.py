"""The page and the picture of a report, in a browser and as files."""

from __future__ import annotations

import re
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.browser import DESKTOP, PHONE, open_page

from leakyrelu.diagnosis.counts import Counts
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.render.charts import BINS
from leakyrelu.diagnosis.report import Report


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
        assert found.first.inner_text().split()[:2] == ["1.", "critical"]  # NaN
        assert any("revive(model, report, optimizer)" in text for text in found.all_text_contents())
        assert seen.locator("#table-2 tbody tr").first.inner_text().split() == ["block.1", "silent", "1"]
        assert [text.split()[0] for text in seen.locator("#table-1 tbody tr").all_inner_texts()] == [
            *("block.1", "block.2", "block.0")
        ]
        assert "Layers, worst first: NaN, then" in seen.locator("#table-1").inner_text()
        steps = seen.locator("#steps li").all_inner_texts()
        assert len(steps) == len(report.plan)
        assert steps[0].startswith("Find the step that made NaN, first seen in block.1")
        assert "report = diagnose(model, data)" in steps[-1]
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
        assert readout.inner_text() == "block.1, unit 1: positive 0 %, output mean 1, std 0.0316 (1 of 10)"
        seen.keyboard.press("End")
        assert "block.1, unit 0: positive -" in readout.inner_text()  # saw only NaN
        seen.keyboard.press("ArrowRight")
        walked = [readout.inner_text()]
        for _ in range(9):
            seen.keyboard.press("ArrowRight")
            walked.append(readout.inner_text())
        assert walked[0].startswith("block.2, unit 0: positive 0 %")  # on to the next strip
        shares = [float(re.search(r"positive ([\d.]+) %", text)[1]) for text in walked]
        expected = np.sort(100 * report["block.2"].positive_share)
        np.testing.assert_allclose(shares, expected, atol=0.1)  # sorted, one step a unit
        seen.keyboard.press("ArrowRight")
        assert readout.inner_text().startswith("block.0, unit 0: positive 0 %")
        seen.keyboard.press("End")
        assert "block.0, unit 9: positive 100 %" in readout.inner_text()
        seen.keyboard.press("ArrowUp")
        assert "block.2, unit 9: positive 100 %" in readout.inner_text()
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
        assert tip.inner_text() == "block.1, unit 1: positive 0 %, output mean 1, std 0.0316"
        assert color_at(seen, x - box["x"], y - box["y"]) == swatch(seen, "silent")
        seen.mouse.move(box["x"] + box["width"] - 5, y)
        assert tip.inner_text().startswith("block.1, unit 0: positive -")
        assert color_at(seen, box["width"] - 5, y - box["y"]) == swatch(seen, "only NaN")
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
        assert seen.locator("#units .tip").inner_text().startswith("block.0, unit ")
        opened.assert_clean()


def test_a_healthy_network_is_called_so_on_the_page(chromium, tmp_path):
    zeros, ones = np.zeros(4), np.ones(4)
    counts = Counts(1000, 1, [500] * 4, zeros, zeros, ones * 1000, ones * 0.4, ones * 340, ones * 400)
    Report([Layer("act", "ReLU", 0.0, counts)]).to_html(tmp_path / "page.html")
    with open_page(chromium, tmp_path / "page.html") as opened:
        opened.wait_drawn()
        assert opened.page.locator("#findings summary").all_inner_texts() == ["1. healthy Healthy"]
        assert opened.page.locator("#steps").inner_text().split("\n")[-1] == "Nothing to do."
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


def test_labels_lose_their_middle_and_nothing_else(chromium, tmp_path):
    long = "encoder.layers.11.\U00012a3e.feed_forward.activation"
    layers = [replace(layer, name=name) for layer, name in zip(diagnosis(2, 20), (long, "constructor"), strict=True)]
    Report(layers).to_html(tmp_path / "page.html")
    with open_page(chromium, tmp_path / "page.html") as opened:
        opened.wait_drawn()
        for chart in ("distribution", "centering"):
            texts = opened.page.locator(f"#{chart} .mark-text.role-axis-label text").all_text_contents()
            names = [text.strip() for text in texts if text[0].isalpha()]
            assert names == ["constructor", "encoder…ard.activation"]
        opened.assert_clean()


def test_an_empty_report_has_no_page(tmp_path):
    with pytest.raises(ValueError, match="the report has no layers, so there is nothing to draw"):
        Report([]).to_html(tmp_path / "page.html")
