"""A census as one HTML page, which works offline, and as one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leakyrelu._page import Table, check_png, write_page, write_png
from leakyrelu._text import counted, few, printable
from leakyrelu.diagnosis.findings import find
from leakyrelu.diagnosis.plan import make_plan
from leakyrelu.diagnosis.render import charts
from leakyrelu.diagnosis.render.summary import WORST_FIRST, columns_of, headline, notes, worst_first

if TYPE_CHECKING:
    import os

    from leakyrelu.diagnosis.census import Census, CensusSeries

_LISTED = 12  # unit numbers written out per layer; the JSON has all


def write_diagnosis(
    census: Census, path: str | os.PathLike[str], *, title: str, history: CensusSeries | None = None
) -> None:
    """See `Report.to_html`."""
    _check_layers(census)
    if history is not None:
        _check_history(history)
    write_page(
        path,
        title=title,
        summary="\n\n".join(headline(census)),
        notices=find(census),
        steps=make_plan(census),
        charts=[
            charts.strips(census),
            *([charts.training(history)] if history is not None and len(history.steps) > 1 else []),
            charts.distribution(census),
            charts.centering(census),
        ],
        tables=[_layers(census), *_named_units(census)],
        footnote="\n\n".join(
            [
                "A unit is an output channel. Its positive share is counted over every sample and position from the "
                "sign of what goes into the activation, so it means the same at every slope. A silent unit was never "
                "positive: under ReLU no gradient reaches it, under Leaky ReLU it learns at a rate proportional to "
                "the slope.",
                *(note + "." for note in notes(census)),
            ]
        ),
    )


def write_picture(census: Census, path: str | os.PathLike[str], *, title: str, scale: float) -> None:
    """See `Report.to_png`."""
    _check_layers(census)
    check_png(path)
    write_png(
        charts.picture(census) | {"title": {"text": printable(title), "subtitle": headline(census)}}, path, scale=scale
    )


def _check_layers(census: Census) -> None:
    if not census.layers:
        raise ValueError("the report has no layers, so there is nothing to draw")


def _check_history(history: Any) -> None:
    if not (hasattr(history, "steps") and hasattr(history, "reports")):
        raise TypeError(
            f"history is {history!r}, which has no steps and reports: give that of the training, as in "
            "with watch(model, every=50) as census: ...; report.to_html(path, history=census.history)"
        )
    steps, reports = len(history.steps), len(history.reports)
    if steps != reports:
        raise ValueError(
            f"history has {counted(steps, 'step')} but {counted(reports, 'report')}: each step needs the report that "
            "was taken at it"
        )


def _layers(census: Census) -> Table:
    columns = columns_of(census, every=True)
    meanings = [f"{column.title.capitalize()}: {column.meaning}." for column in columns if column.meaning]
    return Table(
        "Layers",
        [column.title for column in columns],
        [[column.cell(layer) for column in columns] for layer in worst_first(census)],
        " ".join([WORST_FIRST, *meanings]),
    )


def _named_units(census: Census) -> list[Table]:
    rows = [
        [printable(layer.name), what, few(units.tolist(), _LISTED)]
        for layer in worst_first(census)
        for what, units in (
            ("silent", layer.silent_units),
            ("always\u00a0on", layer.always_on_units),
            ("saturated", layer.saturated_units),
            ("saw NaN", layer.nan_units),
        )
        if len(units)
    ]
    note = "All of them are in the JSON of the report."
    return [Table("Units to look at", ["layer", "what", "units"], rows, note)] if rows else []
