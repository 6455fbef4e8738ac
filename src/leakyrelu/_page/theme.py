"""Colors and fonts of every chart, for the page (light and dark) and for PNG.

Charts name no color themselves: they encode a field, and the ``range`` of the theme colors it. So one
chart can be drawn on a light page, on a dark one and on paper.
"""

from __future__ import annotations

from typing import Any, Final


def _config(*, ink: str, quiet: str, line: str, categories: list[str], diverging: list[str], ramp: list[str]) -> Any:
    # `diverging`: from silent over one half (a unit that bends in the middle: quiet) to always on; last, not known.
    text = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    axis = {
        **text,
        "labelColor": quiet,
        "titleColor": ink,
        "domainColor": line,
        "tickColor": line,
        "gridColor": line,
        "gridOpacity": 0.6,
        "titlePadding": 8,
        "labelLimit": 220,
    }
    return {
        "background": "transparent",
        "font": "system-ui, 'DejaVu Sans', sans-serif",
        "view": {"stroke": None},
        "axis": axis,
        "axisQuantitative": {"labelOverlap": "greedy", "labelSeparation": 8},
        "legend": {
            **text,
            "labelColor": ink,
            "titleColor": quiet,
            "labelLimit": 260,
            "symbolStrokeWidth": 2,
        },
        "header": {"labelColor": ink, "titleColor": quiet, "labelFontSize": 12, "titleFontSize": 12},
        "title": {"color": ink, "subtitleColor": quiet, "anchor": "start", "fontSize": 15, "fontWeight": 600},
        "range": {
            "category": categories,
            "diverging": diverging,
            "heatmap": ramp,
            "ramp": ramp,
            "ordinal": {"scheme": "viridis"},
        },
        "mark": {"color": categories[0]},
        "text": {"color": ink},
        "rule": {"color": quiet},
        "errorbar": {"rule": {"color": quiet}},
        "line": {"strokeWidth": 2},
        "point": {"size": 50, "filled": True},
    }


LIGHT: Final[dict[str, Any]] = _config(
    ink="#1b1f24",
    quiet="#57606a",
    line="#d5dae0",
    categories=["#2f6bb3", "#c2403f", "#1e8a63", "#b06f0a", "#7350b5", "#55606e", "#0b7f92", "#a13a80"],
    diverging=["#b3261e", "#e08e79", "#f2cfc3", "#e4e7eb", "#bcd3ec", "#74a4d8", "#1f5fa8", "#000000"],
    ramp=["#e3ecf7", "#2f6bb3", "#12325c"],
)
"""Vega-Lite ``config`` on a light background."""

DARK: Final[dict[str, Any]] = _config(
    ink="#e8ebef",
    quiet="#a3acb8",
    line="#363d47",
    categories=["#7db2f2", "#ff8d87", "#5fcf9f", "#efb659", "#bda3f5", "#b4bdc9", "#5ccbdd", "#ec92cd"],
    diverging=["#ff5f52", "#b85a4d", "#6b4540", "#3a414b", "#38536f", "#4a80b8", "#74b6ff", "#ffffff"],
    ramp=["#22344b", "#5b97dd", "#cfe3fb"],
)
"""Vega-Lite ``config`` on a dark background."""
