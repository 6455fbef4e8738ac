"""The diagnosis of a network as one HTML page: a strip per layer, a mark per unit, colored by its positive share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leakyrelu._page.page import Notice, Table, check_png, write_page, write_png
from leakyrelu.diagnosis.render.charts import _centering, _distribution, _picture, _short, _strips, _training
from leakyrelu.diagnosis.render.summary import headline, median_share, notes, percent, ratio_text, slope_text

if TYPE_CHECKING:
    import os

    from leakyrelu.diagnosis.layer import Layer
    from leakyrelu.diagnosis.report import Report


_LISTED = 12  # unit numbers written out per layer; the JSON has all


def write_diagnosis(report: Report, path: str | os.PathLike[str], *, title: str, history: Any = None) -> None:
    """See `Report.to_html`."""
    if not report.layers:
        raise ValueError("the report has no layers, so there is nothing to draw")
    if history is not None:
        _check_history(history)
    write_page(
        path,
        title=title,
        summary="\n\n".join(headline(report)),
        notices=[
            Notice(each.severity, each.title, each.evidence, each.remedy, each.code, each.source)
            for each in report.findings
        ],
        charts=[
            _strips(report),
            *([_training(history)] if history is not None and len(history.steps) > 1 else []),
            _distribution(report),
            _centering(report),
        ],
        tables=[_layers(report), *_named_units(report)],
        footnote="\n\n".join(
            [
                "A unit is an output channel. Its positive share is counted over every sample and position from the "
                "sign of what goes into the activation, so it means the same at every slope. A silent unit was never "
                "positive: under ReLU no gradient reaches it, under Leaky ReLU it learns as fast as the slope says.",
                *(note + "." for note in notes(report)),
            ]
        ),
    )


def _check_history(history: Any) -> None:
    if not (hasattr(history, "steps") and hasattr(history, "reports")):
        raise TypeError(
            f"history is {history!r}, which has no steps and reports: give that of the training, as in "
            "with watch(model, every=50) as census: ...; report.to_html(path, history=census.history)"
        )
    steps, reports = len(history.steps), len(history.reports)
    if steps != reports:
        raise ValueError(
            f"history has {steps} step{'s' * (steps != 1)} but {reports} report{'s' * (reports != 1)}: each step needs "
            "the report that was taken at it"
        )


def write_picture(report: Report, path: str | os.PathLike[str], *, title: str, scale: float) -> None:
    """See `Report.to_png`."""
    if not report.layers:
        raise ValueError("the report has no layers, so there is nothing to draw")
    check_png(path)
    lines = headline(report)
    spec = _picture(report) | {"title": {"text": title, "subtitle": lines}}
    write_png(spec, path, scale=scale)


def _layers(report: Report) -> Table:
    return Table(
        "Layers",
        ["layer", "kind", "slope", "units", "inputs", "silent", "always on", "positive", "effective slope", "mean/std"],
        [
            [
                layer.name,
                layer.kind,
                slope_text(layer),
                str(layer.units),
                str(layer.samples),
                f"{len(layer.silent_units)}",
                f"{len(layer.always_on_units)}",
                percent(median_share(layer)),
                _short(np.nanmedian(layer.effective_slope) if layer._known.any() else np.nan),
                ratio_text(layer.mean_over_std),
            ]
            for layer in report.layers
        ],
        "In the order of first call. Positive and effective slope: median of the units.",
    )


def _named_units(report: Report) -> list[Table]:
    rows = [
        [layer.name, what, _listing(units)] for layer in report.layers for what, units in _findings(layer) if len(units)
    ]
    return (
        [Table("Units to look at", ["layer", "what", "units"], rows, "All of them are in the JSON of the report.")]
        if rows
        else []
    )


def _findings(layer: Layer) -> list[tuple[str, Any]]:
    return [
        ("silent", layer.silent_units),
        ("always\u00a0on", layer.always_on_units),
        ("saturated", layer.saturated_units),
        ("saw NaN", layer.nan_units),
    ]


def _listing(units: Any) -> str:
    text = ", ".join(str(unit) for unit in units[:_LISTED])
    return text + (f" and {len(units) - _LISTED} more" if len(units) > _LISTED else "")
