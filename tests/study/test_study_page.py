"""The study's page in a real browser, its charts as drawn, and its picture."""

from __future__ import annotations

import dataclasses
import itertools
import math
import struct

import pytest
from support.browser import DESKTOP, PHONE, open_page

from leakyrelu.study import Settings, StudyResult, digits, run_study
from leakyrelu.study.charts import _HEIGHT, _LABEL, _spread, label, picture
from leakyrelu.study.conclusion import concluding_sentence, formula_sentence, search_lines
from leakyrelu.study.output import write_html, write_picture
from leakyrelu.study.table import cells

SMALL = Settings(depth=14, width=16, epochs=3, seeds=2, learning_rates=(3e-3,), batch_size=128)


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return run_study(digits(), SMALL, workers=1)


@pytest.fixture(scope="module")
def page(result, tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "study.html"
    write_html(result, path)
    return path


def texts(opened, chart: str) -> list[str]:
    return opened.page.locator(f"#{chart} svg text, figure[data-chart={chart}] svg text").all_text_contents()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_chart_is_drawn_without_complaint_or_network(chromium, page, viewport, scheme):
    with open_page(chromium, page, viewport=viewport, color_scheme=scheme) as opened:
        assert opened.wait_drawn() == 4
        opened.assert_clean()
        assert opened.overflow() == 0


def test_the_charts_name_every_row_and_the_axes_their_units(chromium, page, result):
    with open_page(chromium, page) as opened:
        opened.wait_drawn()
        for chart, titles in {
            "accuracy": ["test accuracy (%)"],
            "silent": ["layer", "silent units after training (%)"],
            "gradient": ["layer", "gradient norm (log scale)"],
            "curves": ["epoch", "validation accuracy (%)"],
        }.items():
            drawn = texts(opened, chart)
            for row in result.rows:
                assert (label(row) if chart == "accuracy" else row.row.name) in drawn, chart
            for title in titles:
                assert title in drawn, chart


def test_the_lines_stand_where_the_numbers_are(chromium, page, result):
    """One mark a row and layer, whose accessible text carries the number."""
    with open_page(chromium, page) as opened:
        opened.wait_drawn()
        figure = opened.page.locator("figure[data-chart=silent] svg")
        marks = figure.locator("path[aria-roledescription='circle']").evaluate_all(
            "all => all.map(mark => mark.getAttribute('aria-label'))"
        )
        assert len(marks) == len(result.rows) * SMALL.depth
        for row in result.rows:
            shares = [100 * n / SMALL.width for n in row.by_layer(lambda e: e.after.silent_units, trained=True)]
            expected = f"{row.row.name}, layer 14: silent units after training (%) {shares[-1]:.3g}"
            assert expected in marks


def test_the_page_says_what_the_terminal_says(chromium, page, result):
    with open_page(chromium, page) as opened:
        opened.wait_drawn()
        text = opened.page.inner_text("body")
        assert concluding_sentence(result) in text
        assert formula_sentence(result) in text
        assert "14 layers of 16 units" in text
        assert "1087 training, 355 validation and 355 test samples" in text
        rows = opened.page.locator("table").first.locator("tbody tr")
        shown = [rows.nth(number).locator("th, td").all_inner_texts() for number in range(rows.count())]
        assert shown == [cells(row) for row in result.rows]
        for row in result.rows:
            assert row.row.source in text


def test_rows_left_out_and_diverged_runs_leave_a_page_that_draws(chromium, tmp_path):
    settings = Settings(depth=3, width=8, epochs=1, seeds=1, learning_rates=(1e30,))
    result = run_study(digits(), settings, workers=1)
    assert any(math.isnan(row.silent_after) for row in result.rows)
    write_html(result, tmp_path / "s.html")
    write_picture(result, tmp_path / "s.png")
    with open_page(chromium, tmp_path / "s.html") as opened:
        assert opened.wait_drawn() == 4
        opened.assert_clean()
        assert result.left_out[0] in opened.page.inner_text("body")


def test_the_page_of_another_network_is_drawn_and_names_it(chromium, tmp_path):
    settings = Settings(network="resnet-bn", depth=3, width=4, epochs=3, patience=1, seeds=1, learning_rates=(3e-3,))
    result = run_study(digits(), settings, workers=1)
    write_html(result, tmp_path / "s.html")
    write_picture(result, tmp_path / "s.png")
    assert f"A {settings.called} on handwritten digits: only the activation changes" in str(picture(result))
    with open_page(chromium, tmp_path / "s.html") as opened:
        assert opened.wait_drawn() == 4
        opened.assert_clean()
        text = opened.page.inner_text("body")
        for line in (concluding_sentence(result), formula_sentence(result), *search_lines(result), *result.left_out):
            assert line in text
        assert "3 layers of 4 channels" in text
        for chart in ("accuracy", "silent", "gradient", "curves"):
            assert "PReLU" in texts(opened, chart)


def test_names_of_data_are_text_not_markup(chromium, result, tmp_path):
    odd = dataclasses.replace(result, data={**result.data, "name": "<img src=x onerror=alert(1)>.npz"})
    write_html(odd, tmp_path / "s.html")
    with open_page(chromium, tmp_path / "s.html") as opened:
        opened.wait_drawn()
        opened.assert_clean()
        assert "<img src=x onerror=alert(1)>.npz" in opened.page.inner_text("body")


def test_the_picture_is_a_png_that_shows_every_number(result, tmp_path):
    write_picture(result, tmp_path / "s.png")
    head = (tmp_path / "s.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    assert 1400 < width < 1900, "about twice the width of a README"
    assert 500 < height < 900
    spec = str(picture(result))
    for row in result.rows:
        assert f"{100 * row.test_accuracy:.1f} %" in spec
        assert label(row) in spec


@pytest.mark.parametrize(
    "ends",
    [
        {"a": 0.0, "b": 0.0, "c": 0.1, "d": 50.0, "e": 100.0, "f": 100.0},
        {"a": 50.0, "b": 50.0, "c": 50.0},
        {"a": 3.0},
        {},
    ],
)
def test_labels_at_line_ends_are_moved_apart_and_no_further(ends):
    places = _spread(ends, 0.0, 100.0)
    gap = 100 * _LABEL / _HEIGHT
    ordered = sorted(places.values())
    assert all(high - low > 0.99 * gap for low, high in itertools.pairwise(ordered))
    assert all(0 <= place <= 100 for place in ordered)
    assert sorted(ends, key=lambda name: ends[name]) == sorted(places, key=lambda name: places[name])
    assert places.get("d", 50.0) == 50.0
    assert all(abs(places[name] - ends[name]) <= gap * len(ends) for name in ends)
