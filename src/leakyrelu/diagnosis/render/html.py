"""The diagnosis of a network as one HTML page: a strip per layer, a mark per unit, colored by its positive share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leakyrelu._page.page import Notice, Table, check_png, write_page, write_png
from leakyrelu.diagnosis.findings import find
from leakyrelu.diagnosis.render.charts import _centering, _distribution, _picture, _short, _strips, _training
from leakyrelu.diagnosis.render.summary import headline, median_share, notes, percent, ratio_text, slope_text

if TYPE_CHECKING:
    import os

    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.layer import Layer


_LISTED = 12  # unit numbers written out per layer; the JSON has all


def write_diagnosis(census: Census, path: str | os.PathLike[str], *, title: str, history: Any = None) -> None:
    """See `Report.to_html`."""
    if not census.layers:
        raise ValueError("the report has no layers, so there is nothing to draw")
    if history is not None:
        _check_history(history)
    write_page(
        path,
        title=title,
        summary="\n\n".join(headline(census)),
        notices=[
            Notice(each.severity, each.title, each.evidence, each.remedy, each.code, each.source)
            for each in find(census)
        ],
        charts=[
            _strips(census),
            *([_training(history)] if history is not None and len(history.steps) > 1 else []),
            _distribution(census),
            _centering(census),
        ],
        tables=[_layers(census), *_named_units(census)],
        footnote="\n\n".join(
            [
                "A unit is an output channel. Its positive share is counted over every sample and position from the "
                "sign of what goes into the activation, so it means the same at every slope. A silent unit was never "
                "positive: under ReLU no gradient reaches it, under Leaky ReLU it learns as fast as the slope says.",
                *(note + "." for note in notes(census)),
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


def write_picture(census: Census, path: str | os.PathLike[str], *, title: str, scale: float) -> None:
    """See `Report.to_png`."""
    if not census.layers:
        raise ValueError("the report has no layers, so there is nothing to draw")
    check_png(path)
    lines = headline(census)
    spec = _picture(census) | {"title": {"text": title, "subtitle": lines}}
    write_png(spec, path, scale=scale)


def _layers(census: Census) -> Table:
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
            for layer in census.layers
        ],
        "In the order of first call. Positive and effective slope: median of the units.",
    )


def _named_units(census: Census) -> list[Table]:
    rows = [
        [layer.name, what, _listing(units)] for layer in census.layers for what, units in _findings(layer) if len(units)
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
