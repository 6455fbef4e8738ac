"""The functions on bare addresses (leakyrelu.torch calls them on tensors), here on NumPy's memory.

The sanitizers run this file, which needs no framework.
"""

from __future__ import annotations

import numpy as np
import pytest
from oracle import reference
from oracle.reference import same_bits, samples

from leakyrelu import _core

DTYPES = [np.dtype(name) for name in _core.DTYPES]
LENGTHS = (0, 1, 7, 8, 9, 63, 64, 65, 1023, 1024, 1025, 5000, 70_001)


class Memory:
    """`values` at an address so many bytes behind a multiple of 64, between bytes that nothing may write."""

    def __init__(self, values, offset):
        self.values, size = values, values.nbytes
        self.block = np.full(size + 256, 0x5A, np.uint8)
        self.begin = 64 + -self.block.ctypes.data % 64 + offset
        self.address = self.block.ctypes.data + self.begin
        self.block[self.begin : self.begin + size] = np.frombuffer(values.tobytes(), np.uint8)

    def read(self):
        end = self.begin + self.values.nbytes
        assert (self.block[: self.begin] == 0x5A).all()
        assert (self.block[end:] == 0x5A).all()
        return np.frombuffer(self.block[self.begin : end].tobytes(), self.values.dtype)


@pytest.mark.parametrize("offset", [0, 1, 3, 8])
@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize("index", range(4), ids=lambda index: DTYPES[index].name)
def test_any_address(index, in_place, offset):
    for length in LENGTHS:
        layout = (index, 1, 1, length, False, 2)
        x, grad = samples(DTYPES[index], length, seed=length), samples(DTYPES[index], length, seed=length + 1)
        for slope in (0.2, -1.5):
            source, signs = Memory(x, offset), Memory(np.full((length + 7) // 8, 0xFF, np.uint8), 1)
            target = source if in_place else Memory(np.full_like(x, np.nan), 2 * offset)
            _core.with_signs_at(layout, slope, source.address, target.address, signs.address)
            assert same_bits(target.read(), reference.leaky_relu(x, slope))
            np.testing.assert_array_equal(signs.read(), reference.signs(x))
            source = Memory(grad, offset)
            target = source if in_place else Memory(np.full_like(x, np.nan), 2 * offset)
            _core.from_signs_at(layout, slope, source.address, signs.address, target.address)
            assert same_bits(target.read(), reference.leaky_relu_backward(grad, x, slope))
            np.testing.assert_array_equal(signs.read(), reference.signs(x))


@pytest.mark.parametrize("function", [_core.with_signs_at, _core.from_signs_at])
def test_errors(function):
    with pytest.raises(TypeError, match=r"s_at\(\) takes exactly 5 arguments \(1 given\)"):
        function(2)
    with pytest.raises(TypeError, match="must be real number, not str"):
        function((2, 1, 1, 8, False, 1), "0.1", 0, 0, 0)
    with pytest.raises(TypeError, match="int"):
        function((2, 1, 1, 8, False, 1), 0.1, "address", 0, 0)


@pytest.mark.parametrize(
    ("layout", "error", "text"),
    [
        ([2, 1, 1, 8, False, 1], TypeError, r"\[2, 1, 1, 8, False, 1\] is no tuple of dtype, samples, channels, "),
        ((2, 1, 1, 8, False), TypeError, r"\(dtype, samples, channels, positions, channels last, threads\)"),
        ((4, 1, 1, 8, False, 1), ValueError, "there is no dtype 4; take one of _core.DTYPES"),
        ((-1, 1, 1, 8, False, 1), ValueError, "there is no dtype -1"),
        ((2, 1, 1, -8, False, 1), ValueError, "1 samples x 1 channels x -8 positions are not a possible size"),
        ((2, 2**62 + 2, 3, 4, False, 1), ValueError, "4611686018427387906 samples x 3 channels x 4 positions are not"),
        ((2, -2, -3, 4, False, 1), ValueError, "-2 samples x -3 channels x 4 positions are not"),
        ((2, 2**62, 0, 4, False, 1), ValueError, "are not a possible size"),
        ((2, 1, 1, 8, False, -1), ValueError, "-1 is not a number of threads; give 0 for as many as are allowed"),
    ],
)
def test_layouts_are_refused_with_the_reason(layout, error, text):
    functions = {
        _core.with_signs_at: (0.1, 0, 0, 0),
        _core.from_signs_at: (0.1, 0, 0, 0),
        _core.prelu_forward_at: (np.ones(1), 0, 0, 0),
        _core.prelu_backward_at: (np.ones(2), 0, 0, 0, 0),
        _core.add_census_at: (0.0, 1.0, 0, None, None),
        _core.norm_forward_at: ((0, True, 0.1, None, None), 0.1, (0.0, 1.0, 1.0), None, 0, 0, 0),
        _core.norm_backward_at: ((0, True, 0.1, None, None), None, 0, 0, 0, 0, None, None),
    }
    for function, others in functions.items():
        with pytest.raises(error, match="tensor layout: .*" + text):
            function(layout, *others)


def test_dtypes_are_named_as_numpy_names_them():
    assert [dtype.name for dtype in reference.DTYPES[:4]] == list(_core.DTYPES)
