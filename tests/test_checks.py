"""Checks of numbers: what is returned, and messages with value, cause and remedy."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from leakyrelu._checks import finite_number, integer, positive_number, real_number


@pytest.mark.parametrize("value", [2, 0.5, Fraction(1, 2), np.float32(0.5), np.int64(3), math.inf])
def test_real_numbers_come_back_as_floats(value: Any) -> None:
    number = real_number(value, "slope")
    assert type(number) is float
    assert number == value


@pytest.mark.parametrize("check", [real_number, finite_number, positive_number])
@pytest.mark.parametrize("value", [True, np.True_, "0.1", None, 1j, [0.1], np.zeros(2)])
def test_what_is_no_number_is_refused(check: Any, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^slope must be a number, not {type(value).__name__}: "):
        check(value, "slope")


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(TypeError) as caught:
        real_number(list(range(1000)), "slope", "; give one number")
    assert str(caught.value).startswith("slope must be a number, not list: [0, 1, 2,")
    assert str(caught.value).endswith("...; give one number")
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_finite_number_is_neither_infinite_nor_nan(value: float) -> None:
    with pytest.raises(ValueError, match=f"^slope must be finite, not {value}: no variance; compute one$"):
        finite_number(value, "slope", "; compute one", ": no variance")
    assert finite_number(-3, "slope") == -3.0


@pytest.mark.parametrize("value", [0.0, -0.0, -1, math.inf, math.nan])
def test_a_positive_number_is_above_zero_and_finite(value: float) -> None:
    with pytest.raises(ValueError, match=f"^slope must be positive and finite, not {float(value)}: no inverse$"):
        positive_number(value, "slope", ": no inverse")
    assert positive_number(5e-324, "slope") == 5e-324


@pytest.mark.parametrize("value", [2, np.int8(2)])
def test_integers_come_back_as_ints(value: Any) -> None:
    number = integer(value, "every", least=2)
    assert type(number) is int
    assert number == 2


@pytest.mark.parametrize("value", [2.0, True, "2", None])
def test_what_is_no_integer_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=f"^every must be an integer, not {type(value).__name__}: "):
        integer(value, "every", least=1)


def test_an_integer_below_the_least_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^every must be at least 1, got 0$"):
        integer(0, "every", least=1)
