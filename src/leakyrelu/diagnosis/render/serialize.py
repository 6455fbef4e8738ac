"""A census as JSON and back.

Counts and moments are stored exactly, so that a census read back equals the one written and can be added to another.
What is derived from them is written beside them, for other programs.
"""

from __future__ import annotations

import json
import math
from dataclasses import fields
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from leakyrelu._files import write_file
from leakyrelu._json import to_plain
from leakyrelu.diagnosis.census import Census
from leakyrelu.diagnosis.counts import Counts
from leakyrelu.diagnosis.findings import find
from leakyrelu.diagnosis.layer import Layer

if TYPE_CHECKING:
    import os


SCHEMA = "leakyrelu.report"
VERSION = 2  # 2: `silent_bound` is 3 / entries, which 1 did not count

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
        "findings": [finding.to_dict() for finding in find(census)],
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


def from_json(text: str) -> Census:
    """See `Report.from_json`."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error}): give the text that Report.to_json returned") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"the JSON has schema {schema!r}, not {SCHEMA!r}: it was not written by Report.to_json")
    if document.get("version") not in (1, VERSION):
        raise ValueError(
            f"the report has version {document.get('version')!r}, and this leakyrelu reads versions 1 to {VERSION}: "
            "use the release that wrote it, or a newer one"
        )
    try:
        return Census(
            [_read(layer) for layer in document["layers"]],
            document["unused"],
            document.get("source", "model"),
            document.get("command", ()),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"the JSON is not a complete report ({error}): give the text that Report.to_json returned"
        ) from None


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "negative_slope": to_plain(layer.negative_slope),
        "ceiling": to_plain(layer.ceiling),
        "units": layer.units,
        "samples": layer.samples,
        "entries": layer.entries,
        "calls": layer.calls,
        "counts": {field.name: to_plain(getattr(layer.counts, field.name)) for field in fields(Counts)},
        **{name: to_plain(getattr(layer, name)) for name in _DERIVED},
    }


def _read(layer: dict[str, Any]) -> Layer:
    ceiling = math.inf if layer["ceiling"] is None else layer["ceiling"]
    return Layer(layer["name"], layer["kind"], layer["negative_slope"], Counts(**layer["counts"]), ceiling)
