"""A census as JSON.

Counts and moments are stored exactly, so that a census read back (`leakyrelu.diagnosis.render.deserialize`) equals the
one written and can be added to another. What is derived from them is written beside them, for other programs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from leakyrelu._files import write_file
from leakyrelu._json import to_plain
from leakyrelu.diagnosis.counts import Counts
from leakyrelu.diagnosis.findings import find
from leakyrelu.diagnosis.layer import TAUS
from leakyrelu.diagnosis.plan import make_plan

if TYPE_CHECKING:
    import os

    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.layer import Layer
    from leakyrelu.diagnosis.unit_axis import UnitAxis

SCHEMA = "leakyrelu.report"
VERSION = 3  # 2: `silent_bound` is 3 / entries, which 1 did not count. 3: place, axis, data, plan, dormant ratio

_DERIVED = (
    "positive_share",
    "silent_units",
    "silent_bound",
    "always_on_units",
    "saturated_units",
    "nan_units",
    "effective_slope",
    "output_mean",
    "output_std",
    "mean_over_std",
    "dormancy",
)


def to_json(census: Census, path: str | os.PathLike[str] | None = None) -> str:
    """See `Report.to_json`."""
    document = {
        "schema": SCHEMA,
        "version": VERSION,
        "source": census.source,
        "command": list(census.command),
        "unused": list(census.unused),
        "data": [asdict(check) for check in census.data],
        "dormant_ratio": _dormant_ratio(census),
        "findings": [finding.to_dict() for finding in find(census)],
        "plan": [asdict(step) for step in make_plan(census)],
        "layers": [_layer(layer) for layer in census.layers],
    }
    text = json.dumps(document, allow_nan=False)
    if path is not None:
        write_file(path, text + "\n")
    return text


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of what `to_json` writes."""
    text = files("leakyrelu.diagnosis.render").joinpath("report.schema.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "negative_slope": to_plain(layer.negative_slope),
        "ceiling": to_plain(layer.ceiling),
        "place": asdict(layer.place),
        "axis": None if layer.axis is None else _axis(layer.axis),
        "units": layer.units,
        "samples": layer.samples,
        "entries": layer.entries,
        "calls": layer.calls,
        "counts": _counts(layer.counts),
        **{name: to_plain(getattr(layer, name)) for name in _DERIVED},
        "dormant_ratio": _dormant_ratio(layer),
    }


def _axis(axis: UnitAxis) -> dict[str, Any]:
    return {
        "axes": list(axis.axes),
        "shape": list(axis.shape),
        "known": axis.known,
        "alternatives": [
            {
                "axis": other,
                "units": counts.units,
                "silent_units": to_plain(counts.silent_units),
                "counts": _counts(counts),
            }
            for other, counts in axis.alternatives.items()
        ],
    }


def _counts(counts: Counts) -> dict[str, Any]:
    return {field.name: to_plain(getattr(counts, field.name)) for field in fields(Counts)}


def _dormant_ratio(of: Census | Layer) -> dict[str, Any]:
    return {f"{tau:g}": to_plain(of.dormant_ratio(tau)) for tau in TAUS}
