"""The values and dtypes of the array functions: every row of the definition's table."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import reference
from oracle.reference import same_bits

from leakyrelu import (
    _core,
    leaky_relu,
    leaky_relu_backward,
    leaky_relu_backward_from_signs,
    leaky_relu_inverse,
    leaky_relu_with_signs,
)


def test_hand_written_values():
    x = np.array([-2.0, -0.5, -0.0, 0.0, 0.5, 3.0])
    assert same_bits(leaky_relu(x, 0.1), np.array([-0.2, -0.05, -0.0, 0.0, 0.5, 3.0]))
    assert same_bits(leaky_relu(x, 2.0), np.array([-4.0, -1.0, -0.0, 0.0, 0.5, 3.0]))
    assert same_bits(leaky_relu(x, -1.0), np.array([2.0, 0.5, 0.0, -0.0, 0.5, 3.0]))
    assert same_bits(leaky_relu_backward(np.full(6, 10.0), x, 0.1), np.array([1.0, 1.0, 1.0, 1.0, 10.0, 10.0]))
    assert same_bits(leaky_relu_inverse(np.array([-2.0, -0.0, 0.0, 3.0]), 0.5), np.array([-4.0, -0.0, 0.0, 3.0]))


def test_default_alpha_is_one_hundredth():
    assert leaky_relu(np.array([-1.0]))[0] == -0.01
    assert leaky_relu_backward(np.array([1.0]), np.array([-1.0]))[0] == 0.01
    assert leaky_relu_inverse(np.array([-0.01]))[0] == -1.0
    assert leaky_relu_with_signs(np.array([-1.0]))[0][0] == -0.01


def test_equals_the_maximum_for_alpha_between_zero_and_one():
    x = np.random.default_rng(0).normal(size=1000)
    for alpha in (0.0, 0.001, 0.01, 0.5, 1.0):
        np.testing.assert_array_equal(leaky_relu(x, alpha), np.maximum(alpha * x, x))


def test_nan_infinity_and_zero_slope():
    with pytest.warns(RuntimeWarning, match="invalid value encountered in leaky_relu"):
        y = leaky_relu(np.array([-np.inf, np.inf, np.nan]), 0.0)
    assert np.isnan(y[0])
    assert y[1] == np.inf
    assert np.isnan(y[2])


def test_alpha_is_not_rounded_to_16_bits_first():
    x = np.array([-3.0], np.float16)
    assert leaky_relu(x, 0.1)[0] == np.float16(np.float32(-3.0) * np.float32(0.1))
    assert np.float16(np.float16(-3.0) * np.float16(0.1)) != leaky_relu(x, 0.1)[0]


@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
)
def test_integers_and_bool_give_float64(dtype):
    x = np.array([0, 1, 0, 1, 1], dtype) if dtype is bool else np.array([0, 1, 2, 100], dtype)
    if np.dtype(dtype).kind == "i":
        x = np.concatenate([x, -x])
    for y in (leaky_relu(x, 0.1), leaky_relu_with_signs(x, 0.1)[0]):
        assert same_bits(y, reference.leaky_relu(x, 0.1))
        assert y.dtype == np.float64
    assert leaky_relu_inverse(x, 0.1).dtype == np.float64
    assert leaky_relu_backward(x, x, 0.1).dtype == np.float64


def test_big_endian_is_computed_and_returned_native():
    x = np.array([-2.0, 3.0], ">f4")
    y = leaky_relu(x, 0.5)
    np.testing.assert_array_equal(y, [-1.0, 3.0])
    assert y.dtype == np.float32
    y, signs = leaky_relu_with_signs(x, 0.5)
    np.testing.assert_array_equal(y, [-1.0, 3.0])
    assert signs.tolist() == [2]


def test_unaligned_data():
    raw = np.zeros(4 * 9 + 1, np.uint8)
    x = raw[1:].view(np.float32)
    x[:] = np.linspace(-1, 1, 9)
    assert not x.flags.aligned
    assert same_bits(leaky_relu(x, 0.1), reference.leaky_relu(x.copy(), 0.1))
    y, signs = leaky_relu_with_signs(x, 0.1, out=x)
    assert y is x
    assert signs.tolist() == [0b11100000, 0b1]


@given(st.floats(), st.floats(allow_nan=False))
def test_python_float_in_python_float_out(x, alpha):
    y = leaky_relu(x, alpha)
    assert type(y) is float
    with np.errstate(all="ignore"):
        assert same_bits(y, reference.leaky_relu(np.float64(x), alpha))


def test_python_and_numpy_scalars():
    assert type(leaky_relu(np.float32(-1.0), 0.5)) is np.float32
    assert type(leaky_relu(-3, 0.5)) is np.float64
    assert leaky_relu(-3, 0.5) == -1.5
    assert leaky_relu(True, 0.5) == 1.0
    assert leaky_relu(-3.0, 1) == -3.0
    assert leaky_relu(-3.0, np.float32(0.5)) == -1.5
    assert leaky_relu(-3.0, np.array([0.5, 0.25])).tolist() == [-1.5, -0.75]
    assert leaky_relu([[-1.0], [2.0]], 0.5).tolist() == [[-0.5], [2.0]]
    assert leaky_relu(np.array(-1.0), 0.5) == -0.5


@pytest.mark.parametrize("dtype", reference.DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("alpha", [0.25, 1, True, np.float64(0.25), np.float16(0.25), np.longdouble(0.25), np.int64(1)])
def test_alpha_never_decides_the_dtype(dtype, alpha):
    x = np.array([-2.0, 4.0]).astype(dtype)
    for value in (alpha, np.asarray(alpha), np.full(2, alpha)):
        assert same_bits(leaky_relu(x, value), np.array([-2.0 * float(alpha), 4.0]).astype(dtype))
        assert leaky_relu_with_signs(x, value)[0].dtype == dtype
        assert leaky_relu_backward(x, x, value).dtype == dtype


def test_dtype_argument():
    assert leaky_relu(np.array([-2, 4]), 0.5, dtype=np.float32).tolist() == [-1.0, 4.0]
    assert leaky_relu(np.array([-2, 4]), 0.5, dtype=np.float32).dtype == np.float32
    assert leaky_relu(np.array([-2.0, 4.0], np.float32), 0.5, dtype=np.float64).dtype == np.float64
    assert leaky_relu(np.array([-2.0, 4.0]), 0.5, dtype="f4").dtype == np.float32
    with pytest.raises(TypeError, match=r"a result of type int64 \(dtype=\) is not supported.*ask for one of these"):
        leaky_relu(np.array([-2, 4]), 0.5, dtype=np.int64)


def test_backward_takes_the_common_dtype():
    x = np.array([-1.0, 1.0], np.float32)
    assert leaky_relu_backward(x.astype(np.float64), x, 0.5).dtype == np.float64
    assert leaky_relu_backward(x, x.astype(np.float16), 0.5).dtype == np.float32
    assert leaky_relu_backward(1.0, x, 0.5).dtype == np.float32
    assert leaky_relu_backward(np.ones(2, int), x, 0.5).dtype == np.float64


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("dtype", reference.DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("alpha", [2**53, 2**53 + 1, -(2**62) - 1, 2**60 + 2**36 + 1, 2**70, 1e300])
def test_large_alpha_is_rounded_as_the_ufunc_rounds_it(dtype, alpha):
    x = np.array([-1.0, 3.0]).astype(dtype)
    with np.errstate(over="ignore"):
        assert same_bits(leaky_relu(x, alpha), _core.leaky_relu(x, alpha))


def test_alpha_beyond_the_type_warns():
    with pytest.warns(RuntimeWarning, match="overflow encountered in cast"):
        assert leaky_relu(np.array([-1.0], np.float32), 1e300)[0] == -np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 100])
def test_no_warning_from_the_branch_not_taken(dtype, length):
    info = np.finfo(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with np.errstate(all="warn"):
            quiet = np.full(length, info.max, dtype)
            leaky_relu(quiet, 10.0)  # alpha * x would overflow
            leaky_relu(np.full(length, info.smallest_subnormal, dtype), 0.1)  # would underflow
            leaky_relu(np.full(length, np.inf, dtype), 0.0)  # would be invalid
            leaky_relu(np.full(length, np.nan, dtype), 0.1)
            leaky_relu(-np.full(length, np.nan, dtype), 0.1)
            leaky_relu_backward(quiet, quiet, 10.0)
            leaky_relu_inverse(quiet, 0.01)
            leaky_relu_inverse(np.full(length, np.nan, dtype), 0.01)
            leaky_relu_with_signs(quiet, 10.0)
            leaky_relu_with_signs(np.full(length, np.nan, dtype), 10.0)
            leaky_relu_backward_from_signs(quiet, np.full((length + 7) // 8, 255, np.uint8), 10.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_warnings_of_values_really_produced(dtype):
    info = np.finfo(dtype)
    large, small = np.array([-info.max]), np.array([-info.smallest_subnormal])
    large, small = large.astype(dtype), small.astype(dtype)
    with np.errstate(all="raise"):
        for call, message in (
            (lambda: leaky_relu(large, 10.0), "overflow encountered in leaky_relu"),
            (lambda: leaky_relu(small, 0.1), "underflow encountered in leaky_relu"),
            (lambda: leaky_relu(np.array([-np.inf], dtype), 0.0), "invalid value encountered in leaky_relu"),
            (lambda: leaky_relu_with_signs(large, 10.0), "overflow encountered in leaky_relu_with_signs"),
            (
                lambda: leaky_relu_backward_from_signs(large, np.zeros(1, np.uint8), 10.0),
                "overflow encountered in leaky_relu_backward_from_signs",
            ),
            (lambda: leaky_relu_inverse(large, 0.1), "overflow encountered in leaky_relu_inverse"),
        ):
            with pytest.raises(FloatingPointError, match=message):
                call()


@pytest.mark.parametrize("number", [True, 3, -7, 2**53 + 1, -(2**63), 2**63, 2**64 + 1, 10**30, -(10**30)])
def test_the_functions_with_signs_take_every_integer_that_the_ufuncs_take(number):
    y, signs = leaky_relu_with_signs(number, 0.1)
    assert same_bits(y, np.asarray(leaky_relu(number, 0.1)))
    assert same_bits(y, np.asarray(leaky_relu(float(number), 0.1)))
    assert signs.tolist() == [number > 0]
    assert same_bits(leaky_relu_backward_from_signs(number, signs, 0.1), y)
    for dtype in (np.float16, np.float32, np.float64, np.longdouble):
        x = np.array([-1e-4, 2, -3e-5], dtype)
        with np.errstate(over="ignore"):  # 2**53 times 1e-4 is no float16
            assert same_bits(leaky_relu_with_signs(x, number)[0], leaky_relu(x, number))
