"""Two pictures that read at a glance: time relative to ours against size, and share of the limit against size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair

from benchmarks.peers import OURS
from benchmarks.table import limit_of

if TYPE_CHECKING:
    import pathlib

    from benchmarks.sizes import Row

alt: Any = altair  # its annotations describe neither Data nor keyword dictionaries
MODES = {
    "out": "into the caller's output",
    "fresh": "fresh output, memory often handed back warm",
    "new": "fresh output, memory new from the system",
    "in place": "in place",
}
# Okabe and Ito's palette, which color-blind readers can tell apart.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
SIZE_AXIS = {
    "title": "elements (float32)",
    "labelExpr": "'2^' + round(log(datum.value)/log(2))",
    "values": [2**power for power in range(0, 28, 4)],
    "grid": False,
}
# Who offers the operation in two ways is drawn once, at the faster of them.
FAMILIES = {
    "NumPy": "NumPy (faster idiom)",
    "Numba": "Numba (faster way)",
    "PyTorch compiled": "PyTorch compiled",
    "PyTorch": "PyTorch",
    "ONNX": "ONNX Runtime",
    "JAX": "JAX",
    "numexpr": "numexpr",
}


def _relative(rows: list[Row]) -> list[dict[str, Any]]:
    times: dict[tuple[str, int, str], float] = {}
    ours: dict[tuple[str, int], float] = {}
    for row in rows:
        if row["operation"] != "forward" or row["dtype"] != "float32" or row["mode"] == "in place":
            continue
        if row["name"] == OURS:
            ours[row["mode"], row["n"]] = row["seconds"]
        family = next((name for start, name in FAMILIES.items() if row["name"].startswith(start)), None)
        if family is not None:
            key = (row["mode"], row["n"], family)
            times[key] = min(row["seconds"], times.get(key, row["seconds"]))
    return [
        {"n": n, "where": MODES[mode], "name": family, "times": seconds / ours[mode, n]}
        for (mode, n, family), seconds in times.items()
    ]


def _panels(lines: Any, places: list[str], size: tuple[int, int], title: str, subtitle: str) -> dict[str, Any]:
    """Side by side, one panel a place where the output goes, with a dashed line at 1."""
    one = alt.Chart(alt.Data(values=[{"one": 1}])).mark_rule(strokeDash=[6, 4], strokeWidth=2).encode(y="one:Q")
    width, height = size
    panels = [
        alt.layer(lines.transform_filter(alt.datum.where == where), one).properties(
            width=width, height=height, title=f"{where[0].upper()}{where[1:]}"
        )
        for where in places
    ]
    heading = alt.TitleParams(title, subtitle=subtitle, anchor="start")
    spec: dict[str, Any] = (
        alt.hconcat(*panels).resolve_scale(y="shared").properties(title=heading).configure(font="DejaVu Sans").to_dict()
    )
    return spec


def relative(rows: list[Row]) -> dict[str, Any]:
    """Vega-Lite: time of every peer as a multiple of ours."""
    base = alt.Chart(alt.Data(values=_relative(rows))).encode(
        x=alt.X("n:Q", scale=alt.Scale(type="log", base=2), axis=alt.Axis(**SIZE_AXIS)),
        y=alt.Y(
            "times:Q",
            scale=alt.Scale(type="log", base=2),
            axis=alt.Axis(
                title="time, as a multiple of leakyrelu's", format="~g", values=[0.5, 1, 2, 4, 8, 16, 32, 64, 128]
            ),
        ),
        color=alt.Color(
            "name:N", scale=alt.Scale(range=COLORS), legend=alt.Legend(title=None, orient="top", columns=7)
        ),
    )
    return _panels(
        base.mark_line(strokeWidth=2.5),
        [MODES["out"], MODES["fresh"], MODES["new"]],
        (340, 330),
        "Leaky ReLU forward: how many times as long as leakyrelu",
        "above the dashed line: slower than leakyrelu",
    )


def _shares(rows: list[Row]) -> list[dict[str, Any]]:
    points = []
    for mode in ("out", "in place"):
        for n in sorted({row["n"] for row in rows if row["n"] >= 2**12}):
            here = [
                row
                for row in rows
                if row["operation"] == "forward" and row["dtype"] == "float32" and row["mode"] == mode and row["n"] == n
            ]
            if not here:
                continue
            limit = limit_of(here)
            for row in here:
                if not row["name"].startswith("limit"):
                    family = (
                        "leakyrelu"
                        if row["name"] == OURS
                        else row["name"].replace(" out=", "").replace(" in place", "")
                    )
                    points.append({"n": n, "where": MODES[mode], "name": family, "share": limit / row["seconds"]})
    return points


def shares(rows: list[Row]) -> dict[str, Any]:
    """Vega-Lite: the speed of ours and of the peers as a share of that of merely moving the bytes."""
    points = _shares(rows)
    ranked = ["leakyrelu", "PyTorch", "NumPy maximum"]
    points = [point for point in points if point["name"] in ranked]
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X("n:Q", scale=alt.Scale(type="log", base=2), axis=alt.Axis(**SIZE_AXIS)),
        y=alt.Y("share:Q", axis=alt.Axis(title="share of the limit", format="%"), scale=alt.Scale(zero=True)),
        color=alt.Color(
            "name:N", scale=alt.Scale(domain=ranked, range=COLORS[:3]), legend=alt.Legend(title=None, orient="top")
        ),
    )
    return _panels(
        base.mark_line(strokeWidth=3),
        [MODES["out"], MODES["in place"]],
        (470, 300),
        "Leaky ReLU forward: share of the speed of merely moving the bytes",
        "dashed line: the fastest copy (or pass in place) of the same bytes in the same run",
    )


def write(rows: list[Row], folder: pathlib.Path) -> None:
    from leakyrelu._page.page import write_png

    write_png(relative(rows), folder / "relative.png")
    write_png(shares(rows), folder / "limit.png")
