"""A study as one HTML page, as one picture and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from leakyrelu._files import write_file
from leakyrelu._page import Table, write_page, write_png
from leakyrelu._text import counted
from leakyrelu.study import charts
from leakyrelu.study.conclusion import concluding_sentence, formula_sentence, search_lines
from leakyrelu.study.table import COLUMNS, NOTE, cells

if TYPE_CHECKING:
    import os

    from leakyrelu.study.result import StudyResult
    from leakyrelu.study.settings import Settings


def write_html(result: StudyResult, path: str | os.PathLike[str]) -> None:
    """Write the page: accuracy, silent units, gradients, learning curves, and the table. It works offline."""
    settings, data, machine = result.settings, result.data, result.machine
    rates = ", ".join(f"{rate:g}" for rate in settings.learning_rates)
    network, seeds = settings.architecture, counted(settings.seeds, "seed")
    recipe = (
        f"The same {network.kind} network ({counted(settings.depth, 'layer')} of "
        f"{counted(settings.width, network.unit)}, {network.build}) trained on {data['name']} ({data['train']} "
        f"training, {data['validation']} validation and {data['test']} test samples, {data['classes']} classes) with "
        "only the activation changed. Every row: the same orthogonal matrices times the scale that preserves the "
        f"signal for its slope, the same batches of {settings.batch_size}, Adam, {settings.length}, {seeds}; learning "
        f"rate the best of {rates}{_extended(settings)} on the validation data. The test data were looked at once."
    )
    sources = [(row.row.name, row.row.source) for row in result.rows]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    write_page(
        path,
        title=f"One {settings.called}, {len(result.rows)} activations",
        summary=f"{concluding_sentence(result)}\n\n{formula_sentence(result)}\n\n{recipe}",
        charts=[chart(result) for chart in (charts.accuracy, charts.silent, charts.gradient, charts.curves)],
        tables=[
            Table("Every row", COLUMNS, [cells(row) for row in result.rows], NOTE),
            Table("Where the slopes come from", ("activation", "source"), sources),
        ],
        footnote="\n\n".join(
            [
                *result.left_out,
                *search_lines(result),
                f"Made by {machine['command']} in {result.seconds:.0f} s with "
                f"{counted(result.workers, 'worker process', 'worker processes')} on "
                f"{machine['processor']} ({counted(machine['cpus'], 'CPU')}), {machine['system']}, "
                f"Python {machine['python']}, {versions}, {machine['time']}.",
            ]
        ),
    )


def write_picture(result: StudyResult, path: str | os.PathLike[str]) -> None:
    """Write the summary as a PNG: accuracy and silent share of every row."""
    write_png(charts.picture(result), path)


def write_json(result: StudyResult, path: str | os.PathLike[str]) -> None:
    """Write `StudyResult.to_dict`, with the sentences under ``reading`` and ``by_formula``, as strict JSON."""
    document = {
        "reading": concluding_sentence(result),
        "by_formula": formula_sentence(result),
        "search": search_lines(result),
        **result.to_dict(),
    }
    write_file(path, json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def _extended(settings: Settings) -> str:
    if not settings.extensions:
        return ""
    return f", extended up to {counted(settings.extensions, 'time')} where the best is the lowest or the highest,"
