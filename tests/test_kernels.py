"""The kernel battery: every operation, dtype and memory layout against the oracle.

Runs on whatever instruction set is active; test_instruction_sets.py runs this module once for each one the machine has.
"""

from __future__ import annotations

import numpy as np
import pytest
import reference
from reference import DTYPES, SLOPES, same_bits, samples

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


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_all_65536_values_of_the_16_bit_types(name):
    dtype = np.dtype(np.float16) if name == "float16" else reference.bfloat16
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    for alpha in (*SLOPES, 0.3333, 1e-7, 1e7, 65504.0, 2.0**-24):
        assert same_bits(leakyrelu.leaky_relu(x, alpha), reference.leaky_relu(x, alpha))
        assert same_bits(
            leakyrelu.leaky_relu_backward(x, x[::-1], alpha), reference.leaky_relu_backward(x, x[::-1], alpha)
        )
        y, signs = leakyrelu.leaky_relu_with_signs(x, alpha)
        assert same_bits(y, reference.leaky_relu(x, alpha))
        np.testing.assert_array_equal(signs, reference.signs(x))


def test_the_forced_instruction_set_is_the_one_in_use():
    import os

    forced = os.environ.get("LEAKYRELU_ISA")
    assert _core.config()["isa"] == (forced or _core.config()["isa_available"][-1])
