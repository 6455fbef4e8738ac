"""The functions on bare addresses (leakyrelu.torch calls them on tensors), here on NumPy's memory.

The sanitizers run this file, which needs no framework.
"""

from __future__ import annotations

import numpy as np
import pytest
from oracle import reference
from oracle.reference import same_bits, samples

from leakyrelu import _core

DTYPES = reference.DTYPES[:4]  # in the order of the enumeration DType
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
        x, grad = samples(DTYPES[index], length, seed=length), samples(DTYPES[index], length, seed=length + 1)
        for slope in (0.2, -1.5):
            source, signs = Memory(x, offset), Memory(np.full((length + 7) // 8, 0xFF, np.uint8), 1)
            target = source if in_place else Memory(np.full_like(x, np.nan), 2 * offset)
            _core.with_signs_at(index, slope, length, 2, source.address, target.address, signs.address)
            assert same_bits(target.read(), reference.leaky_relu(x, slope))
            np.testing.assert_array_equal(signs.read(), reference.signs(x))
            source = Memory(grad, offset)
            target = source if in_place else Memory(np.full_like(x, np.nan), 2 * offset)
            _core.from_signs_at(index, slope, length, 2, source.address, signs.address, target.address)
            assert same_bits(target.read(), reference.leaky_relu_backward(grad, x, slope))
            np.testing.assert_array_equal(signs.read(), reference.signs(x))


@pytest.mark.parametrize("function", [_core.with_signs_at, _core.from_signs_at])
def test_errors(function):
    with pytest.raises(TypeError, match=r"s_at takes 7 arguments but 1 were given"):
        function(2)
    for dtype, n in ((4, 8), (-1, 8), (2, -8)):
        with pytest.raises(ValueError, match=rf"s_at: there is no dtype {dtype}, or no length {n}"):
            function(dtype, 0.1, n, 1, 0, 0, 0)
