"""A report in a notebook: findings and the table of layers as plain HTML, no script and nothing to load."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from leakyrelu.diagnosis.findings import find
from leakyrelu.diagnosis.render.summary import headline, median_share, notes, percent, ratio_text, slope_text

if TYPE_CHECKING:
    from leakyrelu.diagnosis.census import Census


SHOWN = 5
_COLORS = {"critical": "#b3261e", "warning": "#b06f0a", "note": "#2f6bb3", "healthy": "#1e8a63"}
_COLUMNS = ("layer", "kind", "slope", "units", "silent", "always on", "positive", "mean/std")


def to_notebook(census: Census) -> str:
    """See `Report._repr_html_`."""
    parts = [f"<p>{escape(line)}</p>" for line in headline(census)]
    found = find(census)
    for finding in found[:SHOWN]:
        parts.append(
            f'<details><summary><b style="color:{_COLORS[finding.severity]}">{escape(finding.severity)}</b> '
            f"{escape(finding.title)}</summary><p>{escape(finding.evidence)} {escape(finding.remedy)}</p>"
            + (f"<pre>{escape(finding.code)}</pre>" if finding.code else "")
            + "</details>"
        )
    if (more := len(found) - SHOWN) > 0:
        parts.append(f"<p>... and {more} more in report.findings</p>")
    if census.layers:
        head = "".join(f"<th>{escape(column)}</th>" for column in _COLUMNS)
        rows = (
            "".join(
                f"<td>{escape(str(cell))}</td>"
                for cell in (
                    layer.name,
                    layer.kind,
                    slope_text(layer),
                    layer.units,
                    len(layer.silent_units),
                    len(layer.always_on_units),
                    percent(median_share(layer)),
                    ratio_text(layer.mean_over_std),
                )
            )
            for layer in census.layers
        )
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody><tr>{'</tr><tr>'.join(rows)}</tr></tbody></table>")
    parts += [f"<p><small>{escape(note)}</small></p>" for note in notes(census)]
    return f"<div>{''.join(parts)}</div>"
