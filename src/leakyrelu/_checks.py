"""Checks of numbers given by a user.

Each returns the number, or raises a TypeError for a value of another type (a bool is no number) and a ValueError for a
number out of range, with value, cause and remedy.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from leakyrelu._text import shown


def is_number(value: object) -> bool:
    """Whether a value is a real number; a bool is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def real_number(value: Any, name: str, hint: str = "") -> float:
    """Return a real number as a float; `hint` ends the message where it is none."""
    if not is_number(value):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}: {shown(value)}{hint}")
    return float(value)


def finite_number(value: Any, name: str, hint: str = "", why: str = "") -> float:
    """Return a finite number as a float; `why` and `hint` end the message where it is infinite or NaN."""
    number = real_number(value, name, hint)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, not {number}{why}{hint}")
    return number


def positive_number(value: Any, name: str, why: str = "") -> float:
    """Return a positive, finite number as a float; `why` ends the message where it is not."""
    number = real_number(value, name)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name} must be positive and finite, not {number}{why}")
    return number


def integer(value: Any, name: str, *, least: int) -> int:
    """Return an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}: {shown(value)}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)
