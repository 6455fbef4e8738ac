"""The charts of a study: Vega-Lite specifications, and descriptions in words for screen readers.

No chart names a color: rows are colored by the theme, in the order of `_order`, so that the centered row and ReLU stand
out everywhere. Lines are labeled at their ends; the labels are moved apart here, since Vega-Lite cannot.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import altair as alt

from leakyrelu._page import Chart
from leakyrelu._text import counted, with_article
from leakyrelu.study.conclusion import percent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from leakyrelu.study.result import RowResult, StudyResult

_HEIGHT = 260  # of a plot, in pixels
_LABEL = 15  # height of a line of text, in pixels
_DASHES = {"Leaky 0.01": [6, 3], "Leaky 0.001": [2, 3]}  # of the lines that lie close to ReLU's
_LABEL_SHARE = 0.3  # of the width, kept free for the labels at the line ends


def accuracy(result: StudyResult) -> Chart:
    """Median, range and single seeds of the test accuracy, one line a row."""
    return _chart(
        "accuracy",
        "Test accuracy",
        f"Share of test samples classified right, in percent. Large dot: median of {_seeds(result)}; line: range; "
        f"small dots: single seeds. {_each(result, lambda row: percent(row.test_accuracy))}.",
        _accuracy(result).properties(width="container"),
    )


def silent(result: StudyResult) -> Chart:
    """Share of silent units against the number of the layer, one line a row."""
    series = {
        row.row.name: [100 * count / row.width for count in row.by_layer(lambda e: e.after.silent_units, trained=True)]
        for row in result.rows
    }
    return _chart(
        "silent",
        "Silent units by layer, after training",
        "Share of a layer's units that are positive for no training sample, after training, in percent (median of "
        f"{_seeds(result)}). Under ReLU such a unit is dead: no gradient reaches it. Over all layers: "
        f"{_each(result, lambda row: percent(row.silent_after))}.",
        _lines(series, x="layer", y="silent units after training (%)", low=0.0),
    )


def gradient(result: StudyResult) -> Chart:
    """Norm of the gradient against the number of the layer, on a logarithmic axis."""
    series = {row.row.name: row.by_layer(lambda e: e.before.gradient_norm) for row in result.rows}
    return _chart(
        "gradient",
        "Gradient by layer, at initialization",
        f"Frobenius norm of the gradient of the loss by a layer's weights, before training (median of "
        f"{_seeds(result)}). A flat line means that all layers learn at one pace. First layer over last: "
        f"{_each(result, lambda row: f'{row.gradient_ratio:.2g}')}.",
        _lines(series, x="layer", y="gradient norm (log scale)", log=True),
    )


def curves(result: StudyResult) -> Chart:
    """Median validation accuracy against the epoch, one line a row."""
    longest = max(len(run.loss) for run in result.chosen)
    series = {row.row.name: [100 * value for value in row.by_epoch(longest)] for row in result.rows}
    ended = "; a training that ended counts on with its last" if result.settings.patience else ""
    return _chart(
        "curves",
        "Learning curves",
        "Share of validation samples classified right after each epoch, in percent, at each row's own learning rate "
        f"(median of {_seeds(result)}{ended}). After the last epoch: "
        f"{_each(result, lambda row: percent(row.validation_accuracy))}.",
        _lines(series, x="epoch", y="validation accuracy (%)", low=0.0, high=100.0),
    )


def picture(result: StudyResult) -> dict[str, Any]:
    """Accuracy and silent units side by side: the whole study at a glance."""
    left = _accuracy(result).properties(width=360)
    records: list[dict[str, Any]] = [
        {"row": label(row), "name": row.row.name, "silent": 100 * row.silent_after, "text": percent(row.silent_after)}
        for row in result.rows
        if math.isfinite(row.silent_after)
    ]
    highest = max([record["silent"] for record in records] or [1.0])
    scale = alt.Scale(domain=[0, max(1.3 * highest, 1.0)])
    base = alt.Chart(alt.InlineData(values=records)).encode(
        y=_row_axis(result, alt.Axis(labels=False, ticks=False)),
        x=alt.X("silent:Q", title="silent units after training (%)", scale=scale),
        color=_color("name", [row.row.name for row in result.rows]),
    )
    right = alt.layer(
        base.mark_bar(height={"band": 0.5}),
        base.mark_text(align="left", dx=6, fontSize=14, fontWeight="bold").encode(text="text:N"),
    ).properties(width=260, height=alt.Step(38))
    network = with_article(result.settings.called).capitalize()
    heading = alt.TitleParams(
        text=f"{network} on {result.data['name']}: only the activation changes",
        subtitle=f"Median of {_seeds(result)}; small dots and lines: every seed and their range",
        fontSize=16,
        subtitleFontSize=13,
        offset=14,
    )
    return _spec(alt.hconcat(left, right, spacing=24, title=heading))


def label(row: RowResult) -> str:
    """Return the name of a row with its slope."""
    name = row.row.name
    return f"{name} {row.row.slope:.3f}" if name in ("Tailored", "Centered") else name


def _accuracy(result: StudyResult) -> Any:
    records: list[dict[str, Any]] = [
        {
            "row": label(row),
            "name": row.row.name,
            "median": 100 * row.test_accuracy,
            "low": 100 * min(row.test_accuracies),
            "high": 100 * max(row.test_accuracies),
            "text": percent(row.test_accuracy),
            "words": f"{label(row)}: median test accuracy {percent(row.test_accuracy)}",
        }
        for row in result.rows
    ]
    seeds = [
        {
            "row": label(row),
            "name": row.row.name,
            "seed": e.seed,
            "accuracy": 100 * e.test_accuracy,
            "words": f"{label(row)}, seed {e.seed}: test accuracy {percent(e.test_accuracy)}",
        }
        for row in result.rows
        for e in row.examinations
    ]
    lowest = min(record["low"] for record in records)
    # Dots need no axis from zero, but the right edge is the largest possible value, with space for its label.
    left = max(0, 10 * math.floor(lowest / 10 - 0.3))
    scale = alt.Scale(domain=[left, 100 + 0.12 * (100 - left)], nice=False)
    axis = alt.Axis(values=list(range(left, 101, 10 if left >= 30 else 20)))
    color = _color("name", [row.row.name for row in result.rows])
    bold = {"condition": {"test": "indexof(datum.label, 'Centered') == 0", "value": "bold"}, "value": "normal"}
    y = _row_axis(result, alt.Axis(labelFontWeight=bold))
    base = alt.Chart(alt.InlineData(values=records)).encode(y=y, color=color)
    x = alt.X("median:Q", title="test accuracy (%)", scale=scale, axis=axis)
    return alt.layer(
        base.mark_rule(strokeWidth=2, opacity=0.55).encode(x=alt.X("low:Q", scale=scale), x2="high:Q"),
        alt.Chart(alt.InlineData(values=seeds))
        .mark_circle(size=22, opacity=0.8)
        .encode(
            y=y,
            x=alt.X("accuracy:Q", scale=scale),
            color=color,
            tooltip=[_tip("row", "activation"), _tip("seed", "seed"), _tip("accuracy", "test accuracy (%)", ".1f")],
            description="words:N",
        ),
        base.mark_circle(size=170, opacity=1).encode(
            x=x,
            tooltip=[
                _tip("row", "activation"),
                _tip("median", "median test accuracy (%)", ".1f"),
                *(_tip(field, f"{field}est", ".1f") for field in ("low", "high")),
            ],
            description="words:N",
        ),
        base.mark_text(dy=-14, fontSize=14, fontWeight="bold").encode(x=x, text="text:N"),
    ).properties(height=alt.Step(38))


def _lines(
    series: dict[str, list[float]],
    *,
    x: str,
    y: str,
    log: bool = False,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """One line a row over 1, 2, 3, ..., with its name at the end."""
    records: list[dict[str, Any]] = [
        {"row": name, "x": number, "y": value, "text": f"{name}, {x} {number}: {y} {value:.3g}"}
        for name, values in series.items()
        for number, value in enumerate(values, start=1)
        if math.isfinite(value) and (value > 0 or not log)
    ]
    values = [record["y"] for record in records] or [1.0]
    bottom = min(values) if low is None else low
    top = max(values) if high is None else high
    if log:
        bottom, top = bottom / 1.15, top * 1.15
    elif high is None:
        top = max(1.08 * top, bottom + 1.0)
    last = max((record["x"] for record in records), default=1)
    forward: Callable[[float], float] = math.log if log else float
    backward: Callable[[float], float] = math.exp if log else float
    ends = {record["row"]: forward(record["y"]) for record in records if record["x"] == last}
    places = _spread(ends, forward(bottom), forward(top))
    names = [{"row": name, "x": last, "y": backward(place), "text": name} for name, place in places.items()]

    span = max(last - 1, 1)
    ticks = sorted({1, *range(_step(last), last + 1, _step(last))})
    color, order = _color("row", series), _order(series)
    across = alt.X(
        "x:Q",
        title=x,
        scale=alt.Scale(domain=[1, 1 + span / (1 - _LABEL_SHARE)], nice=False),
        axis=alt.Axis(values=ticks, format="d", grid=False),
    )
    scale = alt.Scale(type="log" if log else alt.Undefined, domain=[bottom, top], nice=False)
    up = alt.Y("y:Q", title=y, scale=scale, axis=alt.Axis(tickCount=6, format="~g" if log else "~f"))
    dash = alt.StrokeDash(
        "row:N", scale=alt.Scale(domain=order, range=[_DASHES.get(name, [1, 0]) for name in order]), legend=None
    )
    base = alt.Chart(alt.InlineData(values=records)).encode(x=across, y=up, color=color)
    return alt.layer(
        base.transform_filter("datum.row != 'Centered'").mark_line(opacity=0.9).encode(strokeDash=dash),
        base.transform_filter("datum.row == 'Centered'").mark_line(strokeWidth=4).encode(strokeDash=dash),
        base.mark_circle(size=90, opacity=0).encode(
            tooltip=[_tip("row", "activation"), _tip("x", x), _tip("y", y, ".3g")],
            description="text:N",
        ),
        alt.Chart(alt.InlineData(values=names))
        .mark_text(align="left", dx=6, fontSize=12, fontWeight=600)
        .encode(x=across, y=up, color=color, text="text:N"),
    ).properties(width="container", height=_HEIGHT)


def _spread(ends: dict[str, float], low: float, high: float) -> dict[str, float]:
    """Move the labels of line ends apart by at least their height, each as little as the others allow."""
    gap = (high - low) * _LABEL / _HEIGHT
    names = sorted(ends, key=lambda name: ends[name])
    places = [min(max(ends[name], low), high) for name in names]
    for _ in range(200):
        for lower in range(len(places) - 1):
            overlap = places[lower] + gap - places[lower + 1]
            if overlap > 0:
                places[lower] -= overlap / 2
                places[lower + 1] += overlap / 2
        places = [
            min(max(place, low + number * gap), high - (len(places) - 1 - number) * gap)
            for number, place in enumerate(places)
        ]
    return dict(zip(names, places, strict=True))


def _order(rows: Iterable[str]) -> list[str]:
    """Names in the order of the theme's colors: the two that matter most first, whatever is left out."""
    leaky = [name for name in rows if name.startswith("Leaky")]
    return ["Centered", "ReLU", "Tailored", *reversed(leaky), "PReLU"]


def _row_axis(result: StudyResult, axis: Any) -> Any:
    return alt.Y("row:N", sort=[label(row) for row in result.rows], title=None, axis=axis)


def _color(field: str, rows: Iterable[str]) -> Any:
    return alt.Color(f"{field}:N", scale=alt.Scale(domain=_order(rows)), legend=None)


def _step(last: int) -> int:
    return next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**6) if last / step <= 6)


def _tip(field: str, title: str, form: str | None = None) -> Any:
    return alt.Tooltip(f"{field}:{'N' if field == 'row' else 'Q'}", title=title, format=form or alt.Undefined)


def _seeds(result: StudyResult) -> str:
    return counted(result.settings.seeds, "seed")


def _each(result: StudyResult, number: Callable[[RowResult], str]) -> str:
    return ", ".join(f"{label(row)} {number(row)}" for row in result.rows)


def _chart(name: str, title: str, description: str, chart: Any) -> Chart:
    return Chart(name, title, description, _spec(chart))


def _spec(chart: Any) -> dict[str, Any]:
    spec: dict[str, Any] = chart.to_dict()
    spec.pop("config", None)  # altair's own defaults would win over the theme
    return spec
