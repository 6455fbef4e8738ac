"""Values as JSON can hold them, and the check of JSON that comes from outside against its JSON Schema."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any, Final

from leakyrelu._text import first_line, shown, with_article

if TYPE_CHECKING:
    from collections.abc import Sequence


def to_plain(value: Any) -> Any:
    """Return Python containers and scalars; NaN and infinity, which JSON cannot hold, become None.

    Examples
    --------
    >>> import numpy as np
    >>> to_plain({"share": np.array([0.5, np.nan]), 1: (np.int64(2),)})
    {'share': [0.5, None], '1': [2]}
    """
    if isinstance(value, dict):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):  # a NumPy array or scalar
        return to_plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def parse(text: str | bytes) -> Any:
    """Return what a text of JSON holds, or raise a ValueError with the reason why it is none."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:  # also an integer of thousands of digits, and bytes in no encoding
        raise ValueError(first_line(error)) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
KEYWORDS: Final = frozenset(
    {"type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "properties", "items", "$ref", "$defs"}
)
"""Keywords of JSON Schema that `check` knows."""


def check(value: Any, schema: dict[str, Any], path: str = "", definitions: dict[str, Any] | None = None) -> None:
    """Raise a ValueError for the first value that is not of the type, range or choice that its JSON Schema demands.

    Fields that are missing or that the schema lacks are no error here: an older version may lack them, a newer one may
    have added them. An integer written as a float is refused, and so is a number beyond float64.

    Examples
    --------
    >>> check({"units": [1, -2]}, {"properties": {"units": {"items": {"type": "integer", "minimum": 0}}}})
    Traceback (most recent call last):
    ...
    ValueError: units[1] is -2, which is less than 0
    """
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    schema = _resolved(schema, definitions)
    _check_value(value, schema, path)
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                check(value[name], inner, f"{path}.{name}" if path else name, definitions)
    elif isinstance(value, list) and "items" in schema:
        items = _resolved(schema["items"], definitions)
        if not _are_numbers(value, items):
            for i, item in enumerate(value):
                check(item, items, f"{path}[{i}]", definitions)


def described(value: Any) -> str:
    """Return a value from JSON for a message; of what holds others, its kind alone."""
    return "an object" if isinstance(value, dict) else "an array" if isinstance(value, list) else shown(value)


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the definition that a schema refers to, or the schema itself."""
    return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions) if "$ref" in schema else schema


def _check_value(value: Any, schema: dict[str, Any], path: str) -> None:
    names = schema.get("type", ())
    if names and type(value) not in _types(names):
        wanted = " or ".join(name if name == "null" else with_article(name) for name in _listed(names))
        raise ValueError(f"{path} is {described(value)}, not {wanted}")
    choices = [schema["const"]] if "const" in schema else schema.get("enum", [value])
    if value not in choices:
        raise ValueError(f"{path} is {described(value)}, which is none of {', '.join(map(repr, choices))}")
    if type(value) in (int, float) and (wrong := _out_of_range(value, schema)):
        raise ValueError(f"{path} is {described(value)}, which is {wrong}")


def _out_of_range(value: float, schema: dict[str, Any]) -> str:
    """Return in which way a number is out of range; empty where it is not."""
    if value < schema.get("minimum", value):
        return f"less than {schema['minimum']}"
    if value > schema.get("maximum", value):
        return f"more than {schema['maximum']}"
    if value <= schema.get("exclusiveMinimum", -math.inf):
        return f"not more than {schema['exclusiveMinimum']}"
    return "" if abs(value) <= sys.float_info.max else "beyond float64"


def _are_numbers(values: list[Any], schema: dict[str, Any]) -> bool:
    """Whether all values are numbers, or null, that the schema allows; loops of C, since a report has millions."""
    kinds = set(map(type, values))
    if not kinds <= (_types(schema.get("type", ())) & {int, float, type(None)}):
        return False
    numbers = [value for value in values if value is not None] if type(None) in kinds else values
    return not numbers or not (_out_of_range(min(numbers), schema) or _out_of_range(max(numbers), schema))


def _types(names: str | Sequence[str]) -> set[type]:
    return {kind for name in _listed(names) for kind in _TYPES[name]}


def _listed(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names
