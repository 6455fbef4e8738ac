"""The public array functions: every row of the definition's table, and every misuse."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import pydoc
import subprocess
import sys
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracle import reference
from oracle.reference import same_bits

import leakyrelu
from leakyrelu import (
    _core,
    leaky_relu,
    leaky_relu_backward,
    leaky_relu_backward_from_signs,
    leaky_relu_inverse,
    leaky_relu_with_signs,
)

FUNCTIONS = [getattr(leakyrelu, name) for name in leakyrelu.arrays.__all__ if name.startswith("leaky")]
REAL = "bool, integers, float16, bfloat16, float32, float64, longdouble"


# Values ---------------------------------------------------------------------------------------------------------------


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


# Python numbers -------------------------------------------------------------------------------------------------------


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


# dtype of the result --------------------------------------------------------------------------------------------------


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


# out= and where= ------------------------------------------------------------------------------------------------------


def test_where_keeps_the_rest_of_out():
    x = np.array([-1.0, -2.0, 3.0])
    out = np.full(3, 9.0)
    assert leaky_relu(x, 0.5, out=out, where=x < -1.5) is out
    assert out.tolist() == [9.0, -1.0, 9.0]


def test_out_is_cast_like_any_ufunc_output():
    out = np.zeros(2)
    leaky_relu(np.array([-1.0, 1.0], np.float32), 0.5, out=out)
    assert out.tolist() == [-0.5, 1.0]
    with pytest.raises(TypeError, match="Cannot cast"):
        leaky_relu(np.array([-1.0, 1.0]), 0.5, out=np.zeros(2, int))
    assert leaky_relu(np.array([-1.0, 1.0]), 0.5, out=(out,)) is out


def test_read_only_output_is_refused_and_kept():
    out = np.full(3, 9.0)
    out.flags.writeable = False
    x = np.array([-1.0, 0.0, 1.0])
    for function in (leaky_relu, leaky_relu_with_signs, leaky_relu_inverse):
        with pytest.raises(ValueError, match="read-only"):
            function(x, 0.5, out=out)
    with pytest.raises(ValueError, match="read-only"):
        leaky_relu_backward_from_signs(x, np.zeros(1, np.uint8), 0.5, out=out)
    assert out.tolist() == [9.0] * 3


def test_out_of_wrong_shape_or_dtype_is_refused():
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"non-broadcastable|broadcast"):
        leaky_relu(x, 0.5, out=np.zeros((3, 2)))
    for out in (np.zeros((3, 2)), np.zeros((2, 3), np.float32)):
        with pytest.raises(
            ValueError, match=r"out has shape \(\d, \d\) and dtype float\d\d, but the result has shape \(2, 3\)"
        ):
            leaky_relu_with_signs(x, 0.5, out=out)
    with pytest.raises(TypeError, match="out must be a NumPy array, not list"):
        leaky_relu_with_signs(x, 0.5, out=[1.0])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(st.data())
def test_any_two_overlapping_views(data):
    """Output and inputs cut from one buffer, in every overlap: the result is as if they were apart."""
    buffer = reference.samples(np.float32, 200, seed=data.draw(st.integers(0, 9)))
    length = data.draw(st.integers(0, 40))
    views = []
    for _ in range(3):
        step = data.draw(st.sampled_from([1, 1, 2, -1, -2]))
        start = data.draw(st.integers(80, 110))
        views.append(slice(start, start + step * length, step))
    in_view, grad_view, out_view = views
    x, grad = buffer[in_view].copy(), buffer[grad_view].copy()
    for run, expected in (
        (lambda b: leaky_relu(b[in_view], 0.3, out=b[out_view]), reference.leaky_relu(x, 0.3)),
        (lambda b: leaky_relu(b[in_view], b[grad_view], out=b[out_view]), reference.leaky_relu(x, grad)),
        (lambda b: leaky_relu_inverse(b[in_view], 0.3, out=b[out_view]), reference.leaky_relu_inverse(x, 0.3)),
        (
            lambda b: leaky_relu_backward(b[grad_view], b[in_view], 0.3, out=b[out_view]),
            reference.leaky_relu_backward(grad, x, 0.3),
        ),
        (lambda b: leaky_relu_with_signs(b[in_view], 0.3, out=b[out_view])[0], reference.leaky_relu(x, 0.3)),
        (lambda b: leaky_relu_with_signs(b[in_view], b[grad_view], out=b[out_view]), reference.leaky_relu(x, grad)),
        (
            lambda b: leaky_relu_backward(b[grad_view], x, b[in_view], out=b[out_view]),
            reference.leaky_relu_backward(grad, x, x),
        ),
        (
            lambda b: leaky_relu_backward_from_signs(b[grad_view], reference.signs(x), b[in_view], out=b[out_view]),
            reference.leaky_relu_backward(grad, x, x),
        ),
        (
            lambda b: leaky_relu_backward_from_signs(b[grad_view], reference.signs(x), 0.3, out=b[out_view]),
            reference.leaky_relu_backward(grad, x, 0.3),
        ),
    ):
        work = buffer.copy()
        run(work)
        assert same_bits(work[out_view], expected)
        outside = np.ones(200, bool)
        outside[out_view] = False
        assert same_bits(work[outside], buffer[outside])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(st.data())
def test_any_shapes_and_layouts(data):
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=5))
    dtype = data.draw(st.sampled_from(reference.DTYPES))
    x = reference.samples(dtype, int(np.prod(shapes.input_shapes[0])), seed=1).reshape(shapes.input_shapes[0])
    alpha = np.random.default_rng(2).normal(size=shapes.input_shapes[1])
    for array in (x, x.copy(order="F"), x.T.copy().T, np.flip(x)):
        assert same_bits(leaky_relu(array, alpha), reference.leaky_relu(array, alpha))
        if shapes.result_shape == array.shape:
            y, signs = leaky_relu_with_signs(array, alpha)
            assert same_bits(y, reference.leaky_relu(array, alpha))
            np.testing.assert_array_equal(signs, reference.signs(array))


def test_a_wider_alpha_that_overlaps_a_16_bit_output():
    buffer = np.zeros(256, np.uint8)
    alpha, out = buffer.view(np.float32), buffer[128:].view(np.float16)
    alpha[:] = np.linspace(-1, 1, 64)
    x = np.full(64, -1, np.float16)
    expected = reference.leaky_relu(x, alpha.copy())
    leaky_relu(x, alpha, out=out)
    assert same_bits(out, expected)


def test_a_slope_per_channel_inside_the_output():
    out = np.full((8, 8), np.linspace(-1, 1, 8, dtype=np.float32))
    x = np.full((8, 8), -1, np.float32)
    for function in (leaky_relu, lambda *given, **named: leaky_relu_with_signs(*given, **named)[0]):
        here = out.copy()
        assert same_bits(function(x, here[0], out=here), reference.leaky_relu(x, out[0]))


def test_signs_inside_the_output():
    x = reference.samples(np.float32, 64, seed=3)
    out = np.zeros(64, np.float32)
    signs = out.view(np.uint8)[3:11]
    signs[:] = reference.signs(x)
    leaky_relu_backward_from_signs(np.ones(64, np.float32), signs, 0.1, out=out)
    assert same_bits(out, reference.leaky_relu_backward(np.ones(64, np.float32), x, 0.1))


def test_an_output_that_is_no_block_is_written_before_the_error_of_its_values():
    x = np.full(4, -np.finfo(np.float32).max)
    for call in (
        lambda out: leaky_relu(x, 10.0, out=out),
        lambda out: leaky_relu_with_signs(x, 10.0, out=out),
        lambda out: leaky_relu_backward_from_signs(x, np.zeros(1, np.uint8), 10.0, out=out),
    ):
        every_other = np.zeros(8, np.float32)[::2]
        with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
            call(every_other)
        assert every_other.tolist() == [-np.inf] * 4
        every_other[:] = 0  # and stays writeable


def test_memory_order_of_fresh_output_follows_the_input():
    x = np.asfortranarray(np.zeros((4, 5)))
    assert leaky_relu(x, 0.1).flags.f_contiguous
    assert leaky_relu(np.zeros((4, 5, 6)).transpose(2, 0, 1), 0.1).strides == (8, 240, 48)


# Floating-point warnings ----------------------------------------------------------------------------------------------


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


# Packed signs ---------------------------------------------------------------------------------------------------------


def test_signs_are_packed_from_the_low_bit_and_padded_with_zeros():
    x = np.array([1.0, -1.0, 1.0, 0.0, np.nan, np.inf, -np.inf, -0.0, 5.0])
    _, signs = leaky_relu_with_signs(x, 0.1)
    assert signs.dtype == np.uint8
    assert signs.tolist() == [0b00100101, 0b00000001]


def test_signs_of_nothing_and_of_a_number():
    y, signs = leaky_relu_with_signs(np.zeros((3, 0)), 0.1)
    assert y.shape == (3, 0)
    assert signs.shape == (0,)
    y, signs = leaky_relu_with_signs(-2.0, 0.5)
    assert y.shape == ()
    assert y == -1.0
    assert signs.tolist() == [0]


@pytest.mark.parametrize("dtype", reference.DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("alpha", [None, 0.1, -2, 1e60, 2**80, "number", "channels", "all"])
def test_signs_by_the_short_way_and_by_the_long_one(dtype, order, alpha):
    """The long way is the function as it is written in Python; 2**80, 1e60 and Fortran order always take it."""
    x = np.asarray(reference.samples(dtype, 3 * 5 * 7, seed=5).reshape(3, 5, 7), order=order)
    grad = np.asarray(reference.samples(dtype, 3 * 5 * 7, seed=6).reshape(3, 5, 7), order=order)
    shapes = {"number": (), "channels": (5, 1), "all": (3, 5, 7)}
    if alpha in shapes:
        alpha = np.random.default_rng(7).uniform(-1, 2, shapes[alpha]).astype(np.float32)
    slope = () if alpha is None else (alpha,)
    with np.errstate(all="ignore"):
        values, bits = reference.leaky_relu(x, 0.01 if alpha is None else alpha), reference.signs(x)
        gradient = reference.leaky_relu_backward(grad, x, 0.01 if alpha is None else alpha)
        for function in (leaky_relu_with_signs, leaky_relu_with_signs.__wrapped__):
            for out in (None, np.empty_like(x), x.copy(order="K"), np.empty((3, 5, 14), dtype)[..., ::2]):
                y, signs = function(x, *slope, out=out)
                assert same_bits(y, values)
                assert same_bits(signs, bits)
                assert out is None or y is out
            here = x.copy(order="K")
            assert function(here, *slope, out=here)[0] is here
            assert same_bits(here, values)
        for function in (leaky_relu_backward_from_signs, leaky_relu_backward_from_signs.__wrapped__):
            assert same_bits(function(grad, bits, *slope), gradient)
            for out in (np.empty_like(grad), grad.copy(order="K")):
                assert function(grad, np.repeat(bits, 2)[::2], *slope, out=out) is out
                assert same_bits(out, gradient)
            here = grad.copy(order="K")
            assert function(here, bits, *slope, out=here) is here
            assert same_bits(here, gradient)


def test_large_fresh_outputs_begin_where_huge_pages_do():
    """In a process of its own, whose malloc maps all large memory anew."""
    code = """
import ctypes
import numpy as np
from leakyrelu import leaky_relu, leaky_relu_backward_from_signs, leaky_relu_with_signs
ctypes.CDLL(None).mallopt(-3, 128 * 1024)
x = np.zeros(2**21 + 5, np.float32)
x[0] = 1
for kept in ([leaky_relu(x) for _ in range(4)], [leaky_relu_with_signs(x)[0] for _ in range(4)],
             [leaky_relu_backward_from_signs(x, leaky_relu_with_signs(x)[1]) for _ in range(4)],
             [leaky_relu_with_signs(x[::-1])[0] for _ in range(4)]):
    print([(array.ctypes.data - 16 + 4096) % 2**21 for array in kept])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # A hint, which holds while nobody else maps memory: of four, at least one.
    for line in done.stdout.splitlines():
        assert 0 in ast.literal_eval(line)


def test_wrong_signs_are_refused():
    grad = np.ones(17)
    with pytest.raises(
        ValueError, match="signs has 1 axes and 2 bytes, but a gradient of 17 elements needs 1 axis and 3 bytes"
    ):
        leaky_relu_backward_from_signs(grad, np.zeros(2, np.uint8), 0.1)
    with pytest.raises(ValueError, match="signs has 2 axes and 3 bytes"):
        leaky_relu_backward_from_signs(grad, np.zeros((3, 1), np.uint8), 0.1)
    for wrong in (np.zeros(3), np.zeros(3, bool), [0, 0, 0], None):
        with pytest.raises(
            TypeError, match=r"signs must be the uint8 array that leaky_relu_with_signs returned.*packbits"
        ):
            leaky_relu_backward_from_signs(grad, wrong, 0.1)


def test_alpha_that_does_not_broadcast_is_refused_with_the_remedy():
    x = np.zeros((2, 3, 4))
    for alpha in (np.zeros(3), np.zeros((2, 3)), np.zeros((1, 2, 3, 4))):
        with pytest.raises(
            ValueError, match=r"alpha of shape .* does not broadcast to data of shape \(2, 3, 4\).*\(C, 1, 1\)"
        ):
            leaky_relu_with_signs(x, alpha)
    with pytest.raises(ValueError, match="could not be broadcast"):
        leaky_relu(x, np.zeros(3))


# Misuse ---------------------------------------------------------------------------------------------------------------


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


def test_inverse_of_a_complex_alpha_names_the_type():
    with pytest.raises(TypeError, match="alpha of type complex"):
        leaky_relu_inverse(np.zeros(2), np.array(1j))


def test_wrong_number_of_arguments():
    with pytest.raises(TypeError, match="takes 2 to 3 positional arguments but 1 were given"):
        _core.leaky_relu_with_signs(np.zeros(1))
    with pytest.raises(TypeError, match="takes 3 to 4 positional arguments but 5 were given"):
        _core.leaky_relu_backward_from_signs(*[np.zeros(1)] * 5)
    with pytest.raises(TypeError):
        leaky_relu()


# The functions as objects ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_functions_can_be_pickled_copied_and_inspected(function):
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.deepcopy(function) is function
    assert inspect.signature(function).parameters["alpha"].default == 0.01
    assert inspect.getdoc(function).splitlines()[0]


def test_ufuncs_are_true_numpy_ufuncs():
    for name, inputs in (("leaky_relu", 2), ("leaky_relu_backward", 3), ("leaky_relu_inverse", 2)):
        ufunc = getattr(_core, name)
        assert isinstance(ufunc, np.ufunc)
        assert (ufunc.nin, ufunc.nout, ufunc.__name__) == (inputs, 1, name)
        assert pickle.loads(pickle.dumps(ufunc)) is ufunc
    x = np.array([-1.0, 2.0])
    assert _core.leaky_relu.outer(x, [0.5, 0.25]).tolist() == [[-0.5, -0.25], [2.0, 2.0]]
    _core.leaky_relu.at(x, [0, 0], 0.5)
    assert x.tolist() == [-0.25, 2.0]


@pytest.mark.parametrize("length", [2, 70, 5000, 1_000_000])
def test_reduce_and_accumulate_go_one_after_the_other(length):
    x = np.random.default_rng(0).uniform(1 - 1e-4, 1 + 1e-4, size=length)
    x[0] = -1.0
    products = np.multiply.accumulate(x)
    assert same_bits(_core.leaky_relu.accumulate(x), products)
    assert same_bits(_core.leaky_relu.reduce(x), products[-1])
    assert same_bits(_core.leaky_relu.accumulate(np.repeat(x, 2)[::2]), products)
    rows = np.stack([x, -x])
    assert same_bits(_core.leaky_relu.accumulate(rows, axis=1)[0], products)
    assert same_bits(_core.leaky_relu.reduce(rows, axis=1)[0], products[-1])


@pytest.mark.parametrize("name", ["leaky_relu", "leaky_relu_backward", "leaky_relu_inverse"])
def test_help_shows_the_arguments(name):
    function = getattr(leakyrelu, name)
    first, second = pydoc.plain(pydoc.render_doc(function)).splitlines()[2:4]
    assert first.startswith(f"{name}(")
    assert "alpha: 'Any' = 0.01" in first
    assert second.strip() == inspect.getdoc(function).splitlines()[0]


def test_a_function_in_a_class_binds_to_nothing():
    class Holder:
        activation = leaky_relu

    assert Holder.activation is leaky_relu
    assert Holder().activation is leaky_relu


def test_the_inverse_names_its_argument():
    with pytest.raises(TypeError, match=r"leaky_relu_inverse: y of type complex128 is not supported"):
        leaky_relu_inverse(np.array([1j]))


# Python's integers ----------------------------------------------------------------------------------------------------


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


def test_an_integer_that_no_float_holds_is_refused_alike():
    for call in (leaky_relu, leaky_relu_with_signs):
        with pytest.raises(OverflowError, match="int too large to convert to float"):
            call(10**400)
        with pytest.raises(OverflowError, match="int too large to convert to float"):
            call(np.ones(2), 10**400)
    for call in (leaky_relu, leaky_relu_with_signs):  # in a list it is a Python object, as in every NumPy function
        with pytest.raises(TypeError, match="x of type object_ is not supported"):
            call([10**30])
