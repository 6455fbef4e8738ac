"""Two plots: time relative to ours against size, and share of the limit against size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair

from benchmarks.arrays.peers import OURS
from benchmarks.arrays.table import limit_of, select

if TYPE_CHECKING:
    import pathlib

    from benchmarks.arrays.sizes import Measurement

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
# A peer with several ways to write the operation is drawn once, at the fastest of them.
FAMILIES = {
    "NumPy": "NumPy (faster idiom)",
    "Numba": "Numba (faster way)",
    "PyTorch compiled": "PyTorch compiled",
    "PyTorch": "PyTorch",
    "ONNX": "ONNX Runtime",
    "JAX": "JAX",
    "numexpr": "numexpr",
}


def _relative(measured: list[Measurement]) -> list[dict[str, Any]]:
    points = []
    for row in select(measured, operation="forward", dtype="float32"):
        if row["mode"] == "in place":
            continue
        times: dict[str, float] = {}
        for name, timing in row["seconds"].items():
            family = next((family for start, family in FAMILIES.items() if name.startswith(start)), None)
            if family is not None:
                times[family] = min(timing.median, times.get(family, timing.median))
        ours = row["seconds"][OURS].median
        points += [
            {"n": row["n"], "where": MODES[row["mode"]], "name": family, "times": median / ours}
            for family, median in times.items()
        ]
    return points


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


def relative(measured: list[Measurement]) -> dict[str, Any]:
    """Vega-Lite: time of every peer as a multiple of ours."""
    base = alt.Chart(alt.Data(values=_relative(measured))).encode(
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


def _shares(measured: list[Measurement]) -> list[dict[str, Any]]:
    points = []
    for row in select(measured, operation="forward", dtype="float32"):
        limit = limit_of(row["seconds"])
        if row["mode"] not in ("out", "in place") or row["n"] < 2**12 or limit is None:
            continue
        for name, timing in row["seconds"].items():
            family = name.replace(" out=", "").replace(" in place", "")
            points.append({"n": row["n"], "where": MODES[row["mode"]], "name": family, "share": limit / timing.median})
    return points


def shares(measured: list[Measurement]) -> dict[str, Any]:
    """Vega-Lite: the speed of ours and of the peers as a share of that of merely moving the bytes."""
    points = _shares(measured)
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


def write(results: dict[str, Any], folder: pathlib.Path) -> None:
    from leakyrelu._page.page import write_png

    write_png(relative(results["sizes"]), folder / "relative.png")
    write_png(shares(results["sizes"]), folder / "limit.png")
