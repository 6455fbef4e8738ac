"""The native pass of a Leaky ReLU with learned slopes, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from leakyrelu import _core

# With the error of a sum relative to that of its terms.
DTYPES = {"float16": 1e-6, "bfloat16": 1e-6, "float32": 1e-6, "float64": 1e-14}
# samples, channels, positions: around vector and tile widths, several pieces, folded rows with a rest.
SHAPES = [(1, 1, 1), (2, 3, 1), (3, 5, 7), (2, 16, 33), (1, 300, 130), (2, 7, 1025), (1, 2, 100_000), (3, 257, 64)]


def stored(values, dtype):
    """The memory of the values in that dtype, and what it holds."""
    if dtype == "bfloat16":
        bits = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return bits, read(bits, dtype)
    kept = values.astype(dtype)
    return kept, kept.astype(float)


def read(memory, dtype):
    if dtype == "bfloat16":
        return (memory.astype(np.uint32) << 16).view(np.float32).astype(float)
    return memory.astype(float)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_both_passes(shape, last, dtype):
    samples, channels, positions = shape
    layout = (_core.DTYPES[dtype], *shape, last, 2)
    generator = np.random.default_rng(3)
    order = (samples, positions, channels) if last else shape
    over = (1, 1, channels) if last else (1, channels, 1)
    (x, x_values), (grad, grad_values) = (stored(generator.normal(size=order), dtype) for _ in range(2))
    _, slopes = stored(generator.normal(size=channels), dtype)
    positive = x_values > 0
    bits = np.packbits(positive.reshape(-1), bitorder="little")
    scaled = stored(x_values * slopes.reshape(over), "float32" if dtype.endswith("16") else dtype)[1]

    for wanted in (False, True):
        y = np.full_like(x, 7)
        found = np.full_like(bits, 255)
        _core.prelu_forward_at(layout, slopes, x.ctypes.data, y.ctypes.data, found.ctypes.data if wanted else 0)
        np.testing.assert_allclose(
            read(y, dtype), np.where(positive, x_values, scaled), rtol=2.0**-8 if dtype[0] == "b" else 1e-3, atol=1e-7
        )
        np.testing.assert_array_equal(read(y, dtype)[positive], x_values[positive])
        np.testing.assert_array_equal(found, bits if wanted else 255)

    inverse = 1 + generator.random(channels)
    tables = np.stack((slopes, inverse))
    axes = (0, 1) if last else (0, 2)
    for signs in (None, np.packbits(generator.random(x.size) < 0.5, bitorder="little")):
        above = positive
        if signs is not None:  # bits that are not those of the data, so that only they can be read
            above = np.unpackbits(signs, count=x.size, bitorder="little").astype(bool).reshape(order)
        terms = np.where(above, 0, grad_values * x_values * inverse.reshape(over))
        for wanted in (True, False):
            out = np.full_like(x, 7)
            sums = _core.prelu_backward_at(
                layout,
                tables,
                grad.ctypes.data,
                x.ctypes.data,
                0 if signs is None else signs.ctypes.data,
                out.ctypes.data if wanted else 0,
            )
            assert (abs(sums - terms.sum(axes)) <= 10 * DTYPES[dtype] * abs(terms).sum(axes)).all()
            expected = np.where(above, grad_values, grad_values * slopes.reshape(over))
            if wanted:
                np.testing.assert_allclose(
                    read(out, dtype), expected, rtol=2.0**-8 if dtype[0] == "b" else 1e-3, atol=1e-7
                )
                np.testing.assert_array_equal(read(out, dtype)[above], grad_values[above])
            else:
                assert (out == stored(np.full(1, 7.0), dtype)[0] if dtype != "bfloat16" else out == 7).all()


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ((2, 1, 0, 1, False, 1), "there is no channel, and so no slope"),
        ((2, 1, 3, 1, False, 1), "expected 3 numbers, not array"),
    ],
)
def test_refused_with_the_reason(layout, text):
    with pytest.raises(ValueError, match=f"prelu_forward_at: {text}"):
        _core.prelu_forward_at(layout, np.ones(1), 0, 0, 0)
    with pytest.raises(ValueError, match="prelu_forward_at: expected 1 number, not"):
        _core.prelu_forward_at((2, 1, 1, 1, False, 1), np.ones(3), 0, 0, 0)
