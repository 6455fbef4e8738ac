"""A census from JSON, of every version so far: each value is checked before it is used.

Types and ranges are those of the JSON Schema; what belongs together (lengths, totals) is checked by `Counts`, `Layer`
and `Census` themselves. What is derived from the counts is not read: it follows from them.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from leakyrelu._json import check, described, parse
from leakyrelu.diagnosis.census import Census
from leakyrelu.diagnosis.counts import Counts
from leakyrelu.diagnosis.input_check import InputCheck
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.place import Place
from leakyrelu.diagnosis.render.serialize import SCHEMA, VERSION, schema
from leakyrelu.diagnosis.unit_axis import UnitAxis

_Made = TypeVar("_Made", InputCheck, Layer, Counts, Place, UnitAxis)
_REMEDY = "give the text that Report.to_json returned"


def from_json(text: str) -> Census:
    """See `Report.from_json`."""
    try:
        document = parse(text)
    except ValueError as error:
        raise ValueError(f"not JSON ({error}): {_REMEDY}") from None
    found = document.get("schema") if isinstance(document, dict) else None
    if found != SCHEMA:
        raise ValueError(
            f"the JSON has schema {described(found)}, not {SCHEMA!r}: it was not written by Report.to_json"
        )
    version = document.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ValueError(
            f"the report has version {described(version)}, and this leakyrelu reads versions 1 to {VERSION}: "
            "use the release that wrote it, or a newer one"
        )
    try:
        check({**document, "version": VERSION}, schema())
        return _census(document)
    except ValueError as error:
        raise ValueError(f"the JSON is not a complete report ({error}): {_REMEDY}") from None


def _census(document: dict[str, Any]) -> Census:
    checks, layers = document.get("data", ()), _field(document, "layers")
    optional = {name: document[name] for name in ("source", "command") if name in document}  # since version 3
    return Census(
        [_layer(values, f"layers[{i}]") for i, values in enumerate(layers)],
        _field(document, "unused"),
        data=[_input_check(values, f"data[{i}]") for i, values in enumerate(checks)],
        **optional,
    )


def _input_check(values: dict[str, Any], path: str) -> InputCheck:
    place = _field(values, "first_place", path)
    return _made(InputCheck, values, path, first_place=place if place is None else tuple(place))


def _layer(values: dict[str, Any], path: str) -> Layer:
    ceiling, slope, axis = _field(values, "ceiling", path), _field(values, "negative_slope", path), values.get("axis")
    layer = _made(
        Layer,
        values,
        path,
        negative_slope=math.nan if slope is None else slope,
        ceiling=math.inf if ceiling is None else ceiling,
        counts=_made(Counts, _field(values, "counts", path), f"{path}.counts"),
        place=_made(Place, values.get("place", {}), f"{path}.place"),  # since version 3
        axis=None if axis is None else _axis(axis, f"{path}.axis"),
    )
    for name in ("units", "samples", "entries", "calls"):
        if (written := values.get(name, getattr(layer, name))) != getattr(layer, name):
            raise ValueError(f"{path}.{name} is {written}, but its counts have {getattr(layer, name)}")
    return layer


def _axis(values: dict[str, Any], path: str) -> UnitAxis:
    alternatives: dict[int, Counts] = {}
    for i, alternative in enumerate(_field(values, "alternatives", path)):
        inside = f"{path}.alternatives[{i}]"
        if (axis := _field(alternative, "axis", inside)) in alternatives:
            raise ValueError(f"{inside}.axis is {axis}, as in another alternative")
        alternatives[axis] = _made(Counts, _field(alternative, "counts", inside), f"{inside}.counts")
    axes, shape = (tuple(_field(values, name, path)) for name in ("axes", "shape"))
    return _made(UnitAxis, values, path, axes=axes, shape=shape, alternatives=alternatives)


def _field(values: dict[str, Any], name: str, path: str = "") -> Any:
    if name not in values:
        raise ValueError(f"{path}.{name} is missing" if path else f"{name} is missing")
    return values[name]


def _made(kind: type[_Made], values: dict[str, Any], path: str, **converted: Any) -> _Made:
    """Make a dataclass of its fields; those without a default have to be there, and some are given converted."""
    given = {
        field.name: _field(values, field.name, path)
        for field in fields(kind)
        if field.name not in converted and (field.name in values or (field.default, field.default_factory) == _REQUIRED)
    }
    try:
        return kind(**given, **converted)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


_REQUIRED = (MISSING, MISSING)
