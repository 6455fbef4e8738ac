"""One plot of training: networks above (bytes kept, time of a step), the single layer below (time against size)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair

from benchmarks.training.measurement import median
from benchmarks.training.single_layer import WORK
from benchmarks.training.table import IN_PLACE, NETWORKS, OURS, layer_ratios, works

if TYPE_CHECKING:
    import pathlib

    from benchmarks.training.measurement import Measurement

alt: Any = altair  # its annotations describe neither Data nor keyword dictionaries
# Okabe and Ito's palette, which color-blind readers can tell apart; ours stands out.
COLORS = {
    OURS: "#D55E00",
    IN_PLACE: "#0072B2",
    "PyTorch": "#56B4E9",
    "torch.compile": "#009E73",
    "checkpoint": "#999999",
}
WIDTH, HEIGHT = 300, 150


def _bars(measured: list[Measurement], value: str) -> list[dict[str, Any]]:
    found = []
    for work, here in works(measured, NETWORKS).items():
        base = next(row for row in here if row["name"] == IN_PLACE)
        for row in here:
            if row["seconds"] and row["name"] in COLORS:
                share = (row["bytes"] or 0) / (base["bytes"] or 1) if value == "bytes" else median(row) / median(base)
                found.append({"work": work.split(",")[0], "name": row["name"], "share": share})
    return found


def _networks(measured: list[Measurement], value: str, title: str) -> Any:
    scale = alt.Scale(domain=list(COLORS), range=list(COLORS.values()))
    base = alt.Chart(alt.Data(values=_bars(measured, value))).encode(
        y=alt.Y("name:N", sort=list(COLORS), axis=None),
        x=alt.X("share:Q", axis=alt.Axis(title=None, grid=False, values=[0, 0.5, 1, 1.5], format="~g")),
        color=alt.Color("name:N", scale=scale, legend=alt.Legend(title=None, orient="top", columns=5)),
    )
    layers = alt.layer(
        base.mark_bar(height=13),
        base.mark_text(align="left", dx=3, fontSize=10).encode(
            text=alt.Text("share:Q", format=".2f"), color=alt.value("#333333")
        ),
    ).properties(width=WIDTH, height=78)
    return layers.facet(
        row=alt.Row(
            "work:N",
            sort=None,
            header=alt.Header(title=None, labelAngle=0, labelAlign="left", labelFontSize=12, labelPadding=4),
        ),
        title=alt.TitleParams(title, anchor="start", fontSize=13),
        spacing=8,
    )


def _single_layer(measured: list[Measurement], memory: str, title: str) -> Any:
    both: dict[str, list[dict[str, Any]]] = {}
    for work, here in works(measured, WORK).items():
        _, dtype, where = work.split(", ")
        both.setdefault(where, []).extend(
            {"n": 2**n, "dtype": dtype, "times": value} for n, name, value in layer_ratios(here) if name == "PyTorch"
        )
    points = both.get(memory, [])
    top = max([3.5, *(1.05 * point["times"] for each in both.values() for point in each)])  # of either panel
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X(
            "n:Q",
            scale=alt.Scale(type="log", base=2),
            axis=alt.Axis(
                title="elements",
                labelExpr="'2^' + round(log(datum.value)/log(2))",
                values=[2**power for power in range(10, 27, 4)],
                grid=False,
            ),
        ),
        y=alt.Y(
            "times:Q",
            scale=alt.Scale(domain=[0, top]),
            axis=alt.Axis(title="times as fast", values=list(range(int(top) + 1))),
        ),
        strokeDash=alt.StrokeDash(
            "dtype:N",
            sort=["float32", "bfloat16"],
            legend=alt.Legend(title=None, orient="top-left", symbolType="stroke", symbolSize=400),
        ),
    )
    line = base.mark_line(strokeWidth=2.5, color=COLORS[OURS])
    marks = base.mark_point(filled=True, size=35, color=COLORS[OURS])
    one = alt.Chart(alt.Data(values=[{"one": 1}])).mark_rule(strokeDash=[6, 4], color="#56B4E9", strokeWidth=2)
    return alt.layer(one.encode(y="one:Q"), line, marks).properties(
        width=WIDTH, height=HEIGHT, title=alt.TitleParams(title, anchor="start", fontSize=13)
    )


def training(measured: list[Measurement]) -> dict[str, Any]:
    """Vega-Lite: the whole plot."""
    parts = []
    if works(measured, NETWORKS):
        parts.append(
            alt.hconcat(
                _networks(measured, "bytes", "Bytes kept for the backward pass, of PyTorch in place"),
                _networks(measured, "seconds", "Time of a training step, of PyTorch in place"),
                spacing=50,
            )
        )
    if works(measured, WORK):
        parts.append(
            alt.hconcat(
                _single_layer(measured, "fresh", "A single layer against PyTorch's: fresh memory"),
                _single_layer(measured, "reused", "The same, in memory that is used again"),
                spacing=50,
            ).resolve_legend(strokeDash="independent")
        )
    spec: dict[str, Any] = (
        alt.vconcat(*parts, spacing=25)
        .resolve_legend(strokeDash="independent")
        .properties(
            title=alt.TitleParams(
                "Leaky ReLU in training: leakyrelu beside what PyTorch has",
                subtitle="above: shorter is better; below: higher is better, and the dashed line is PyTorch",
                anchor="start",
                fontSize=16,
            )
        )
        .configure(font="DejaVu Sans")
        .configure_view(stroke=None)
        .to_dict()
    )
    return spec


def write(results: dict[str, Any], folder: pathlib.Path) -> None:
    from leakyrelu._page.page import write_png

    write_png(training(results["measured"]), folder / "training.png")
