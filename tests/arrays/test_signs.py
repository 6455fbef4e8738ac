"""Packed signs."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import reference
from oracle.reference import same_bits

from leakyrelu import (
    leaky_relu_backward_from_signs,
    leaky_relu_with_signs,
)


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
def test_signs_by_the_fast_path_and_by_the_general_path(dtype, order, alpha):
    """The general path is the function as it is written in Python; 2**80, 1e60 and Fortran order always take it."""
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


def test_wrong_signs_are_refused():
    grad = np.ones(17)
    with pytest.raises(
        ValueError, match="signs has 1 axis and 2 bytes, but a gradient of 17 elements needs 1 axis and 3 bytes"
    ):
        leaky_relu_backward_from_signs(grad, np.zeros(2, np.uint8), 0.1)
    with pytest.raises(ValueError, match="signs has 2 axes and 3 bytes"):
        leaky_relu_backward_from_signs(grad, np.zeros((3, 1), np.uint8), 0.1)
    for wrong in (np.zeros(3), np.zeros(3, bool), [0, 0, 0], None):
        with pytest.raises(
            TypeError, match=r"signs must be the uint8 array that leaky_relu_with_signs returned.*packbits"
        ):
            leaky_relu_backward_from_signs(grad, wrong, 0.1)
