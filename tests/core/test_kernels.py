"""The kernel battery: every operation, dtype and memory layout against the oracle.

Runs on whatever instruction set is active; test_instruction_sets.py runs this module once for each one the machine has.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from oracle import reference
from oracle.reference import DTYPES, SLOPES, same_bits, samples

import leakyrelu
from leakyrelu import _core

LENGTHS = sorted(
    {0, 1, 2, 3, *range(5, 20), *range(29, 36), *range(61, 69), *range(125, 131), 255, 256, 257, 1023, 4099}
)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(params=DTYPES, ids=lambda dtype: dtype.name)
def dtype(request):
    return request.param


@pytest.fixture(params=SLOPES, ids=str)
def alpha(request):
    return request.param


def filled_with_nan(length, dtype):
    return np.full(length, np.nan).astype(dtype)


@pytest.mark.parametrize("length", LENGTHS)
def test_forward_of_every_length(length, dtype):
    x = samples(dtype, length, seed=length)
    for alpha in SLOPES:
        expected = reference.leaky_relu(x, alpha)
        assert same_bits(leakyrelu.leaky_relu(x, alpha), expected)
        assert same_bits(_core.leaky_relu(x, alpha), expected)


@pytest.mark.parametrize("length", LENGTHS)
def test_backward_of_every_length(length, dtype):
    x, grad = samples(dtype, length, seed=length), samples(dtype, length, seed=length + 1)
    for alpha in SLOPES:
        assert same_bits(leakyrelu.leaky_relu_backward(grad, x, alpha), reference.leaky_relu_backward(grad, x, alpha))


@pytest.mark.parametrize("length", LENGTHS)
def test_inverse_of_every_length(length, dtype):
    y = samples(dtype, length, seed=length)
    for alpha in (0.01, 0.2, 1.0, 3.7, np.inf):
        assert same_bits(leakyrelu.leaky_relu_inverse(y, alpha), reference.leaky_relu_inverse(y, alpha))


@pytest.mark.parametrize("length", LENGTHS)
def test_signs_of_every_length(length, dtype):
    x, grad = samples(dtype, length, seed=length), samples(dtype, length, seed=length + 1)
    for alpha in SLOPES:
        y, signs = leakyrelu.leaky_relu_with_signs(x, alpha)
        assert same_bits(y, reference.leaky_relu(x, alpha))
        np.testing.assert_array_equal(signs, reference.signs(x))
        back = leakyrelu.leaky_relu_backward_from_signs(grad, signs, alpha)
        assert same_bits(back, reference.leaky_relu_backward(grad, x, alpha))


def test_in_place(dtype, alpha):
    for length in (1, 17, 64, 1000, 4099):
        x, grad = samples(dtype, length, seed=length), samples(dtype, length, seed=length + 1)
        y = x.copy()
        assert leakyrelu.leaky_relu(y, alpha, out=y) is y
        assert same_bits(y, reference.leaky_relu(x, alpha))
        g = grad.copy()
        assert leakyrelu.leaky_relu_backward(g, x, alpha, out=g) is g
        assert same_bits(g, reference.leaky_relu_backward(grad, x, alpha))
        y = x.copy()
        result, signs = leakyrelu.leaky_relu_with_signs(y, alpha, out=y)
        assert result is y
        assert same_bits(y, reference.leaky_relu(x, alpha))
        np.testing.assert_array_equal(signs, reference.signs(x))
        g = grad.copy()
        assert leakyrelu.leaky_relu_backward_from_signs(g, signs, alpha, out=g) is g
        assert same_bits(g, reference.leaky_relu_backward(grad, x, alpha))


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 33, 64, 100, 513])
def test_caller_output_is_written_and_nothing_beside_it(length, dtype):
    x = samples(dtype, length, seed=length)
    for offset in (0, 1, 3, 7):  # positions that no vector is aligned to
        buffer = filled_with_nan(length + 16, dtype)
        shifted = np.concatenate([np.zeros(offset, dtype), x])[offset:]
        out = buffer[offset : offset + length]
        assert leakyrelu.leaky_relu(shifted, 0.2, out=out) is out
        assert same_bits(out, reference.leaky_relu(x, 0.2))
        assert np.isnan(buffer[:offset].astype(float)).all()
        assert np.isnan(buffer[offset + length :].astype(float)).all()


@pytest.mark.parametrize("in_step", [1, -1, 2, -3, 113])
@pytest.mark.parametrize("out_step", [1, -1, 2, 113])
def test_strides(in_step, out_step, dtype):
    length = 67
    x = samples(dtype, length * 113, seed=5)[::in_step][:length]
    grad = samples(dtype, length * 113, seed=6)[::in_step][:length]
    out = filled_with_nan(length * 113, dtype)[::out_step][:length]
    slopes = np.linspace(-1, 1, length * 113, dtype=np.float32)[::in_step][:length]
    for alpha in (0.2, slopes):
        leakyrelu.leaky_relu(x, alpha, out=out)
        assert same_bits(out, reference.leaky_relu(x, alpha))
        leakyrelu.leaky_relu_backward(grad, x, alpha, out=out)
        assert same_bits(out, reference.leaky_relu_backward(grad, x, alpha))
        _, signs = leakyrelu.leaky_relu_with_signs(x, alpha, out=out)
        assert same_bits(out, reference.leaky_relu(x, alpha))
        np.testing.assert_array_equal(signs, reference.signs(x))
        leakyrelu.leaky_relu_backward_from_signs(grad, signs, alpha, out=out)
        assert same_bits(out, reference.leaky_relu_backward(grad, x, alpha))


@pytest.mark.parametrize(
    "alpha_shape", [(), (1,), (7,), (5, 1), (5, 7), (3, 1, 1), (3, 5, 1), (3, 1, 7), (3, 5, 7), (1, 1, 7), (1, 5, 1)]
)
def test_alpha_of_every_broadcast_shape(alpha_shape, dtype):
    x, grad = samples(dtype, 105, seed=1).reshape(3, 5, 7), samples(dtype, 105, seed=2).reshape(3, 5, 7)
    alpha = np.random.default_rng(3).normal(size=alpha_shape)
    assert same_bits(leakyrelu.leaky_relu(x, alpha), reference.leaky_relu(x, alpha))
    assert same_bits(leakyrelu.leaky_relu_backward(grad, x, alpha), reference.leaky_relu_backward(grad, x, alpha))
    positive = np.abs(alpha) + 0.1
    assert same_bits(leakyrelu.leaky_relu_inverse(x, positive), reference.leaky_relu_inverse(x, positive))
    y, signs = leakyrelu.leaky_relu_with_signs(x, alpha)
    assert same_bits(y, reference.leaky_relu(x, alpha))
    np.testing.assert_array_equal(signs, reference.signs(x))
    back = leakyrelu.leaky_relu_backward_from_signs(grad, signs, alpha)
    assert same_bits(back, reference.leaky_relu_backward(grad, x, alpha))


# Around 1, where the kernels of bfloat16 differ (`shrinks`, core/kernels/number.h), subnormal, of every size and sign.
STEEP = (np.nextafter(np.float32(1), np.float32(2)), 1e7, 65504.0, -1.5, -np.inf)
FLAT = (np.nextafter(np.float32(1), np.float32(0)), -1.0, 0.3333, 1e-7, 2.0**-24, 1e-40, -1e-40)


@pytest.mark.parametrize("shift", [0, 1])  # kernels that take even and odd places apart see every value at both
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_all_65536_values_of_the_16_bit_types(name, shift):
    dtype = np.dtype(np.float16) if name == "float16" else reference.bfloat16
    x = np.roll(np.arange(65536, dtype=np.uint16), shift).view(dtype)
    grad = np.ascontiguousarray(x[::-1])
    signs = reference.signs(x)
    for alpha in (float(slope) for slope in (*SLOPES, *STEEP, *FLAT)):
        expected = reference.leaky_relu(x, alpha)
        y, packed = leakyrelu.leaky_relu_with_signs(x, alpha)
        assert same_bits(y, expected)
        np.testing.assert_array_equal(packed, signs)
        assert same_bits(leakyrelu.leaky_relu(x, alpha), expected)
        np.copyto(y, x)
        assert same_bits(leakyrelu.leaky_relu(y, alpha, out=y), expected)
        assert same_bits(leakyrelu.leaky_relu(x[::-1], alpha), expected[::-1])
        expected = reference.leaky_relu_backward(grad, x, alpha)
        assert same_bits(leakyrelu.leaky_relu_backward(grad, x, alpha), expected)
        assert same_bits(leakyrelu.leaky_relu_backward_from_signs(grad, signs, alpha), expected)
        if alpha > 0:
            assert same_bits(leakyrelu.leaky_relu_inverse(x, alpha), reference.leaky_relu_inverse(x, alpha))


def test_the_forced_instruction_set_is_the_one_in_use():
    import os

    forced = os.environ.get("LEAKYRELU_ISA")
    assert _core.config()["isa"] == (forced or _core.config()["isa_available"][-1])


def warned(compute):
    """The floating-point warnings that NumPy reports for a computation."""
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="warn"):
        warnings.simplefilter("always")
        compute()
    return {str(warning.message).split(" encountered")[0] for warning in caught}


@pytest.mark.parametrize("length", [1, 3, 31, 32, 33, 1000])
@pytest.mark.parametrize(
    ("name", "value", "factor"),
    [
        ("float16", -65504.0, 2.0),  # finite in float32, rounded to infinity
        ("float16", -32768.0, 1.9990234375),  # 65504: still finite
        ("float16", -32768.0, 2.0),  # 65536: the first that is not
        ("float16", -1e-7, 0.25),  # rounded to 0
        ("float16", -0.125, 0.0001),  # subnormal and rounded
        ("float16", -0.125, 2.0**-12),  # subnormal and exact
        ("float16", -6.1e-5, 1.0),
        ("float16", np.nan, 2.0),
        ("float16", -np.inf, 2.0),
        ("float16", -np.inf, 0.0),
        ("bfloat16", -(181 / 128) * 2.0**126, 181 / 64),  # finite in float32, rounded to infinity: no warning
        ("bfloat16", -3e38, 4.0),  # infinite in float32
        ("bfloat16", np.nan, 4.0),
        ("float32", -3e38, 4.0),
        ("float64", -1e308, 4.0),
    ],
)
def test_floating_point_warnings_are_those_of_a_product(name, value, factor, length):
    """Of NumPy's own and, for bfloat16, of ml_dtypes, which both round once, as we do."""
    dtype = reference.bfloat16 if name == "bfloat16" else np.dtype(name)
    x, factor = np.full(length, value).astype(dtype), dtype.type(factor)
    expected = warned(lambda: x * factor)
    alpha, signs = float(factor), np.zeros((length + 7) // 8, np.uint8)
    apart = np.empty((length, 2), dtype)[:, 0]
    for compute in (
        lambda: leakyrelu.leaky_relu(x, alpha),
        lambda: leakyrelu.leaky_relu(x, alpha, out=apart),
        lambda: leakyrelu.leaky_relu(x, np.full(length, alpha, reference.compute_dtype(dtype))),
        lambda: leakyrelu.leaky_relu_backward(x, -np.abs(x), alpha),
        lambda: leakyrelu.leaky_relu_with_signs(x, alpha),
        lambda: leakyrelu.leaky_relu_backward_from_signs(x, signs, alpha),
    ):
        assert warned(compute) == expected
    if alpha > 1:
        expected = warned(lambda: x / dtype.type(1 / alpha))
        assert warned(lambda: leakyrelu.leaky_relu_inverse(x, float(dtype.type(1 / alpha)))) == expected
