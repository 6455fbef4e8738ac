"""A census in a notebook: findings and the table of layers as plain HTML, no script and nothing to load."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from leakyrelu._text import printable_lines
from leakyrelu.diagnosis.findings import find
from leakyrelu.diagnosis.plan import make_plan
from leakyrelu.diagnosis.render.summary import (
    PLAN,
    SHOWN_FINDINGS,
    WORST_FIRST,
    columns_of,
    headline,
    notes,
    worst_first,
)

if TYPE_CHECKING:
    from leakyrelu.diagnosis.census import Census


_COLORS = {"critical": "#b3261e", "warning": "#b06f0a", "note": "#2f6bb3", "healthy": "#1e8a63"}


def to_notebook(census: Census) -> str:
    """See `Report._repr_html_`."""
    parts = [f"<p>{escape(line)}</p>" for line in headline(census)]
    found = find(census)
    for number, finding in enumerate(found[:SHOWN_FINDINGS], 1):
        place = f"Where: {finding.place}. " if finding.place else ""
        parts.append(
            f'<details><summary>{number}. <b style="color:{_COLORS[finding.severity]}">{escape(finding.severity)}</b> '
            f"{escape(finding.title)}</summary><p>{escape(f'{place}{finding.evidence} {finding.remedy}')}</p>"
            f"{_code(finding.code)}</details>"
        )
    if (more := len(found) - SHOWN_FINDINGS) > 0:
        parts.append(f"<p>... and {more} more in report.findings</p>")
    if census.layers:
        columns = columns_of(census)
        head = _row("th", [column.title for column in columns])
        rows = [_row("td", [column.cell(layer) for column in columns]) for layer in worst_first(census)]
        parts.append(f"<p>{WORST_FIRST}</p><table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>")
    parts += [f"<p><small>{escape(note)}</small></p>" for note in notes(census)]
    steps = [f"{escape(step.text)}{_code(step.code)}" for step in make_plan(census)]
    if len(steps) == 1:
        parts.append(f"<p><b>{steps[0]}</b></p>")
    elif census.layers:
        parts.append(f"<p><b>{PLAN}</b></p><ol>{''.join(f'<li>{step}</li>' for step in steps)}</ol>")
    return f"<div>{''.join(parts)}</div>"


def _code(code: str) -> str:
    return f"<pre>{escape(printable_lines(code))}</pre>" if code else ""


def _row(tag: str, cells: list[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
