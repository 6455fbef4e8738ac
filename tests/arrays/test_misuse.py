"""Misuse of the array functions: each error says the value, the cause and the remedy."""

from __future__ import annotations

import array
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from leakyrelu import (
    _core,
    leaky_relu,
    leaky_relu_backward,
    leaky_relu_backward_from_signs,
    leaky_relu_inverse,
    leaky_relu_with_signs,
)

REAL = "bool, integers, float16, bfloat16, float32, float64, longdouble"


def test_alpha_that_does_not_broadcast_is_refused_with_the_remedy():
    x = np.zeros((2, 3, 4))
    for alpha in (np.zeros(3), np.zeros((2, 3)), np.zeros((1, 2, 3, 4))):
        with pytest.raises(
            ValueError, match=r"alpha of shape .* does not broadcast to data of shape \(2, 3, 4\).*\(C, 1, 1\)"
        ):
            leaky_relu_with_signs(x, alpha)
    with pytest.raises(ValueError, match="could not be broadcast"):
        leaky_relu(x, np.zeros(3))


@pytest.mark.parametrize(
    ("bad", "name", "remedy"),
    [
        (np.array([1j]), "complex128", r"apply it to \.real and \.imag"),
        (1j, "complex128|PyComplexDType|complex", r"apply it to \.real and \.imag"),
        (["a"], "str_", "convert with .astype"),
        ([None], "object_", "look for None"),
        (None, "object_", "look for None"),
        ([Fraction(1, 2)], "object_", "convert with .astype"),
        (np.zeros(2, "M8[s]"), "datetime64", "a time has no slope"),
        (np.zeros(2, "m8[s]"), "timedelta64", "a time has no slope"),
        (np.zeros(2, "i4,f4"), "void", "apply it to one field"),
    ],
)
def test_what_is_not_a_real_number_is_refused_by_name(bad, name, remedy):
    signs = np.zeros(1, np.uint8)
    for operand, call in (
        ("x", lambda: leaky_relu(bad, 0.1)),
        ("alpha", lambda: leaky_relu(np.zeros(1), bad)),
        ("grad", lambda: leaky_relu_backward(bad, np.zeros(1))),
        ("x", lambda: leaky_relu_backward(np.zeros(1), bad)),
        ("alpha", lambda: leaky_relu_backward(np.zeros(1), np.zeros(1), bad)),
        ("y", lambda: leaky_relu_inverse(bad, 0.1)),
        ("x", lambda: leaky_relu_with_signs(bad, 0.1)),
        ("alpha", lambda: leaky_relu_with_signs(np.zeros(1), bad)),
        ("grad", lambda: leaky_relu_backward_from_signs(bad, signs, 0.1)),
        ("alpha", lambda: leaky_relu_backward_from_signs(np.zeros(1), signs, bad)),
    ):
        with pytest.raises(TypeError, match=rf"{operand} of type ({name}) is not supported.*\({REAL}\); .*{remedy}"):
            call()


def test_alpha_none_is_refused_even_for_a_positive_float():
    with pytest.raises(TypeError, match="alpha of type object_ is not supported"):
        leaky_relu(1.0, None)


@pytest.mark.parametrize("alpha", [0, 0.0, -0.5, float("nan"), np.array([0.1, 0.0]), [0.1, -1.0], np.float32(-1)])
def test_inverse_needs_a_positive_slope(alpha):
    with pytest.raises(
        ValueError, match=r"alpha must be greater than 0, but it holds (0|0\.0|-0\.5|nan|-1\.0).*keep the input"
    ):
        leaky_relu_inverse(np.zeros(2), alpha)


BFLOAT16 = ml_dtypes.bfloat16


@pytest.mark.parametrize(
    "alpha",
    [
        *(np.array([1.0, -1.0], BFLOAT16), np.array(0, BFLOAT16), BFLOAT16(-1), [[BFLOAT16(-1)]]),
        *(-(2**70), range(-1, 1), array.array("d", [1.0, -1.0]), memoryview(np.array([0.0]))),
    ],
)
@pytest.mark.parametrize("y", [np.array([-1.0, 1.0]), np.array([-1, 1], BFLOAT16), -1.0, [-1.0, 1.0]])
def test_inverse_needs_a_positive_slope_in_every_form(y, alpha):
    with pytest.raises(ValueError, match=r"alpha must be greater than 0, but it holds (0|-1|-1180591620717411303424)"):
        leaky_relu_inverse(y, alpha)


@pytest.mark.parametrize("alpha", [np.array([0.5], BFLOAT16), BFLOAT16(0.5), array.array("d", [0.5]), 2**70])
def test_inverse_takes_positive_slopes_in_every_form(alpha):
    expected = [-1 / float(np.asarray(alpha, np.float64).max()), 1.0]
    assert leaky_relu_inverse(np.array([-1.0, 1.0]), alpha).tolist() == expected


def test_inverse_of_a_complex_alpha_names_the_type():
    with pytest.raises(TypeError, match="alpha of type complex"):
        leaky_relu_inverse(np.zeros(2), np.array(1j))


def test_wrong_number_of_arguments():
    with pytest.raises(TypeError, match=r"leaky_relu_with_signs\(\) takes at least 2 arguments \(1 given\)"):
        _core.leaky_relu_with_signs(np.zeros(1))
    with pytest.raises(TypeError, match=r"leaky_relu_backward_from_signs\(\) takes at most 4 arguments \(5 given\)"):
        _core.leaky_relu_backward_from_signs(*[np.zeros(1)] * 5)
    with pytest.raises(TypeError):
        leaky_relu()


def test_the_inverse_names_its_argument():
    with pytest.raises(TypeError, match=r"leaky_relu_inverse: y of type complex128 is not supported"):
        leaky_relu_inverse(np.array([1j]))


def test_an_integer_that_no_float_holds_is_refused_alike():
    for call in (leaky_relu, leaky_relu_with_signs):
        with pytest.raises(OverflowError, match="int too large to convert to float"):
            call(10**400)
        with pytest.raises(OverflowError, match="int too large to convert to float"):
            call(np.ones(2), 10**400)
    for call in (leaky_relu, leaky_relu_with_signs):  # in a list it is a Python object, as in every NumPy function
        with pytest.raises(TypeError, match="x of type object_ is not supported"):
            call([10**30])
