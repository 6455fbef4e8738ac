"""A census in a notebook: findings and the table of layers as plain HTML, no script and nothing to load."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from leakyrelu.diagnosis.findings import find
from leakyrelu.diagnosis.render.summary import BASIC_COLUMNS, SHOWN_FINDINGS, headline, notes

if TYPE_CHECKING:
    from leakyrelu.diagnosis.census import Census


_COLORS = {"critical": "#b3261e", "warning": "#b06f0a", "note": "#2f6bb3", "healthy": "#1e8a63"}


def to_notebook(census: Census) -> str:
    """See `Report._repr_html_`."""
    parts = [f"<p>{escape(line)}</p>" for line in headline(census)]
    found = find(census)
    for finding in found[:SHOWN_FINDINGS]:
        parts.append(
            f'<details><summary><b style="color:{_COLORS[finding.severity]}">{escape(finding.severity)}</b> '
            f"{escape(finding.title)}</summary><p>{escape(finding.evidence)} {escape(finding.remedy)}</p>"
            + (f"<pre>{escape(finding.code)}</pre>" if finding.code else "")
            + "</details>"
        )
    if (more := len(found) - SHOWN_FINDINGS) > 0:
        parts.append(f"<p>... and {more} more in report.findings</p>")
    if census.layers:
        head = _row("th", [column.title for column in BASIC_COLUMNS])
        rows = [_row("td", [column.cell(layer) for column in BASIC_COLUMNS]) for layer in census.layers]
        parts.append(f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>")
    parts += [f"<p><small>{escape(note)}</small></p>" for note in notes(census)]
    return f"<div>{''.join(parts)}</div>"


def _row(tag: str, cells: list[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
