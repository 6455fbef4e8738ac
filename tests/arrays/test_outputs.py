"""The output of the array functions: out= and where=, overlap, layout, memory order."""

from __future__ import annotations

import ast
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracle import reference
from oracle.reference import same_bits

from leakyrelu import (
    leaky_relu,
    leaky_relu_backward,
    leaky_relu_backward_from_signs,
    leaky_relu_inverse,
    leaky_relu_with_signs,
)


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


def test_large_fresh_outputs_begin_where_huge_pages_do():
    """In a process of its own, whose malloc maps new memory for every large block."""
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
    # A hint, which holds only while nothing else maps memory: of four, at least one.
    for line in done.stdout.splitlines():
        assert 0 in ast.literal_eval(line)
