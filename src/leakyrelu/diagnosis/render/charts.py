"""The charts of a census: what each shows, in words and as a specification."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from leakyrelu._extras import require
from leakyrelu._page import Chart
from leakyrelu._text import display_width, printable, shorten
from leakyrelu.diagnosis.render.summary import headline, median_share, number_text, percent, worst_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leakyrelu.diagnosis.census import Census, CensusSeries
    from leakyrelu.diagnosis.layer import Layer

# Bins of the positive share, from silent to always on; the two ends are exact, nothing else counts as them.
BINS = ("silent", "under 10 %", "10 to 35 %", "35 to 65 %", "65 to 90 %", "over 90 %", "always on")
_EDGES = (0.10, 0.35, 0.65, 0.90)
UNKNOWN = "only NaN"

_LABEL = 22  # columns of a name at an axis or in a legend
_LINES = 8  # layers drawn over a training
_OF_EVERY_OBJECT = (
    *(
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
    ),
    *("__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"),
)
_MEDIAN = "#f2b705"  # stands out of the bars on a light and on a dark background


def bin_of(share: float) -> str:
    """Return the name of the bin of a positive share."""
    if np.isnan(share):
        return UNKNOWN
    if share in (0.0, 1.0):
        return BINS[0] if share == 0.0 else BINS[-1]
    return BINS[1 + int(np.searchsorted(_EDGES, share, side="right"))]


def _states(census: Census) -> list[str]:
    unknown = any(np.isnan(layer.positive_share).any() for layer in census.layers)
    return [*BINS, *([UNKNOWN] if unknown else [])]


def strips(census: Census) -> Chart:
    """Return a strip a layer with a mark a unit, colored by its positive share."""
    states = _states(census)
    rows = []
    for layer in worst_first(census):
        # Sorted, so that the length of a color is the share of units: one look says how much of a layer is silent.
        order = np.argsort(layer.positive_share, kind="stable")
        share = layer.positive_share[order]
        rows.append(
            {
                "name": printable(layer.name),
                "unit": order.tolist(),
                "bin": [states.index(bin_of(p)) for p in share.tolist()],
                "share": [percent(p) for p in share.tolist()],
                "mean": [number_text(value) for value in layer.output_mean[order].tolist()],
                "std": [number_text(value) for value in layer.output_std[order].tolist()],
            }
        )
    words = (
        "One strip a layer, the worst on top, one mark a unit, colored by the share of inputs > 0. "
        f"{headline(census)[-1]}."
    )
    return Chart("units", "Units by how often they are positive", words, {"strips": {"bins": states, "rows": rows}})


def picture(census: Census) -> dict[str, Any]:
    """Return the specification of the strips as one chart, for a PNG."""
    alt = require("altair", by="a chart")
    rows: list[dict[str, Any]] = []
    states, keys = _states(census), _keys(census)
    for layer in census.layers:
        shares = np.sort(layer.positive_share)  # NaN last
        bins = [bin_of(share) for share in shares.tolist()]
        starts = [i for i in range(len(bins)) if i == 0 or bins[i] != bins[i - 1]]
        for start, end in zip(starts, [*starts[1:], len(bins)], strict=True):
            rows.append(
                {
                    "layer": keys[layer.name],
                    "from": 100 * start / layer.units,
                    "to": 100 * end / layer.units,
                    "state": bins[start],
                }
            )
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_rect()
        .encode(
            x=alt.X(
                "from:Q",
                title="units of the layer, sorted by their share of positive inputs (%)",
                scale=alt.Scale(domain=[0, 100], nice=False),
                axis=alt.Axis(values=[0, 25, 50, 75, 100]),
            ),
            x2="to:Q",
            y=_layer_axis(alt, census),
            color=alt.Color(
                "state:N",
                title="share of positive inputs",
                scale=alt.Scale(domain=states, range="diverging"),
                legend=alt.Legend(symbolType="square"),
            ),
        )
        .properties(height=alt.Step(_step(census)), width=640)
    )
    return dict(chart.to_dict())


def distribution(census: Census) -> Chart:
    """Return the spread of the positive share of each layer's units."""
    alt = require("altair", by="a chart")
    rows, keys = [], _keys(census)
    for layer in census.layers:
        known = 100 * layer.positive_share[~np.isnan(layer.positive_share)]
        if known.size:
            marks = np.quantile(known, [0.0, 0.25, 0.5, 0.75, 1.0])
            rows.append({"layer": keys[layer.name], **dict(zip("abcde", marks.round(2).tolist(), strict=True))})
    base = alt.Chart(alt.Data(values=rows)).encode(y=_layer_axis(alt, census))
    scale = alt.Scale(domain=[0, 100], nice=False)
    tips = [
        alt.Tooltip("layer:N"),
        *(
            alt.Tooltip(f"{field}:Q", title=name)
            for field, name in zip("abcde", ("least", "lower quarter", "median", "upper quarter", "most"), strict=True)
        ),
    ]
    chart = alt.layer(
        base.mark_rule().encode(
            x=alt.X("a:Q", title="share of positive inputs (%)", scale=scale), x2="e:Q", tooltip=tips
        ),
        base.mark_bar(height={"band": 0.6}).encode(x=alt.X("b:Q", scale=scale), x2="d:Q", tooltip=tips),
        base.mark_tick(thickness=4, color=_MEDIAN, opacity=1, height={"band": 0.9}).encode(
            x=alt.X("c:Q", scale=scale), tooltip=tips
        ),
    ).properties(height=alt.Step(_step(census)))
    low, high = (f(median_share(layer) for layer in census.layers) for f in (min, max))
    words = (
        "Share of positive inputs of the units of each layer, the worst layer on top: line from least to most, bar for "
        "the middle half, yellow tick for the median. "
        f"Medians lie between {percent(low)} and {percent(high)}; at 50 % a unit bends in the middle."
    )
    return Chart("distribution", "Spread of the share of positive inputs", words, chart.to_dict())


def training(history: CensusSeries) -> Chart:
    """Return the share of silent units over the steps of a training, for the layers that ended worst."""
    alt = require("altair", by="a chart")

    def share(layer: Layer) -> float:
        return 100 * len(layer.silent_units) / max(layer.units, 1)

    last = history.reports[-1]
    worst = [layer.name for layer in sorted(last.layers, key=share, reverse=True)[:_LINES]]
    keys = _keys(last)
    names = [keys[layer.name] for layer in last.layers if layer.name in worst]
    rows = [
        {"step": int(step), "layer": keys[layer.name], "silent": round(share(layer), 3)}
        for step, census in zip(history.steps, history.reports, strict=True)
        for layer in census.layers
        if layer.name in worst
    ]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(point=True)
        .encode(
            x=alt.X("step:Q", title="step"),
            y=alt.Y("silent:Q", title="silent units (%)", scale=alt.Scale(domainMin=0)),
            color=alt.Color(
                "layer:N",
                title=None,
                scale=alt.Scale(domain=names),
                legend=alt.Legend(labelExpr=_labels(names), labelLimit=0),
            ),
            tooltip=[alt.Tooltip("layer:N"), alt.Tooltip("step:Q"), alt.Tooltip("silent:Q", title="silent (%)")],
        )
        .properties(height=240)
    )
    first = history.reports[0]
    words = (
        "Silent units of each layer at the steps that were counted: "
        f"{percent(first.silent / max(first.units, 1))} of all at step {history.steps[0]}, "
        f"{percent(last.silent / max(last.units, 1))} at step {history.steps[-1]}."
    )
    if len(last.layers) > _LINES:
        words += f" Shown are the {_LINES} layers that ended with the largest share."
    return Chart("training", "Silent units over the training", words, chart.to_dict())


def centering(census: Census) -> Chart:
    """Return how far the outputs of each layer are off zero."""
    alt = require("altair", by="a chart")
    keys = _keys(census)
    rows: list[dict[str, Any]] = [
        {"layer": keys[layer.name], "ratio": layer.mean_over_std}
        for layer in census.layers
        if np.isfinite(layer.mean_over_std)
    ]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(
            x=alt.X("ratio:Q", title="output mean over std"),
            y=_layer_axis(alt, census),
            tooltip=[alt.Tooltip("layer:N"), alt.Tooltip("ratio:Q", title="mean over std", format=".3f")],
        )
        .properties(height=alt.Step(_step(census)))
    )
    worst = max(rows, key=lambda row: row["ratio"], default=None)
    words = (
        "How far the outputs of each layer are off zero, the worst layer on top: norm of the means over norm of the "
        "standard deviations. 0 is centered, ReLU on standard normal inputs gives 0.68."
    )
    if worst:
        words += f" Farthest: layer {worst['layer']}, {worst['ratio']:.2f}."
    return Chart("centering", "Are the outputs centered?", words, chart.to_dict())


def _layer_axis(alt: Any, census: Census) -> Any:
    names = [*_keys(census).values()]
    axis = alt.Axis(labelExpr=_labels(names), labelLimit=0)
    scale = alt.Scale(paddingInner=0.15)
    return alt.Y("layer:N", title=None, sort=names, axis=axis, scale=scale)


def _keys(census: Census) -> dict[str, str]:
    """Return what each layer is called in the data of a chart, the worst first: printable, and no two the same.

    Vega stumbles over the names that every object of JavaScript has; a space at their end, which is not seen, helps.
    """
    keys: dict[str, str] = {}
    taken = set(_OF_EVERY_OBJECT)
    for layer in worst_first(census):
        key = printable(layer.name)
        while key in taken:
            key += "\u00a0"
        taken.add(key)
        keys[layer.name] = key
    return keys


def _labels(names: Sequence[str]) -> str:
    """Return a Vega expression for labels: names that lost their middle. Vega cuts within characters of two words."""
    short = {name: shorten(name, _LABEL) for name in names if display_width(name) > _LABEL}
    at = f"indexof({json.dumps(list(short))}, datum.label)"
    return f"{at} < 0 ? datum.label : {json.dumps(list(short.values()))}[{at}]"


def _step(census: Census) -> int:
    return 26 if len(census.layers) <= 12 else 18
