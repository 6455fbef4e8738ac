"""Writes the vectors that ``battery.cpp`` runs: inputs, and the results of the oracle.

    PYTHONPATH=tests python tests/native/vectors.py OUT {x87,binary128} [--short]

The four types that NumPy has everywhere come from ``oracle/reference.py``. ``long double`` differs between
processors: ``x87`` takes this machine's from NumPy, ``binary128`` (arm64) computes it in Python's integers.
"""

from __future__ import annotations

import argparse
import random

import numpy as np
from oracle import reference
from oracle.binary import BINARY128

LENGTHS = (*range(36), *range(61, 69), *range(125, 131), 255, 257, 1000, 2085)
SHORT_LENGTHS = (0, 1, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 129, 1000)
POSITIVE_SLOPES = (0.01, 0.2, 1.0, 3.7, float("inf"))
FORWARD, BACKWARD, INVERSE = range(3)


class Numpy:
    """Cases of a dtype that NumPy has."""

    def __init__(self, index, dtype):
        self.index, self.dtype = index, dtype

    def samples(self, length, seed):
        return reference.samples(self.dtype, length, seed)

    def slopes(self, length, seed, positive):
        slopes = np.random.default_rng(seed).normal(size=length)
        return (np.abs(slopes) + 0.1 if positive else slopes).astype(reference.compute_dtype(self.dtype))

    def slope(self, alpha):
        return np.array([alpha]).astype(reference.compute_dtype(self.dtype))

    def case(self, operation, value, x, alpha, signaling=False):
        with np.errstate(all="ignore"):
            if operation == FORWARD:
                expected = reference.leaky_relu(value, alpha)
            elif operation == BACKWARD:
                expected = reference.leaky_relu_backward(value, x, alpha)
            else:
                expected = reference.leaky_relu_inverse(value, alpha)
            wide, out, slope = (array.astype(np.longdouble) for array in (value, expected, alpha))
        finite = np.isfinite(wide) & np.isfinite(slope)
        overflow = bool(np.any(np.isinf(out) & finite))
        invalid = signaling or bool(np.any(np.isnan(out) & ~np.isnan(wide) & ~np.isnan(slope)))
        arrays = (value, x, alpha, expected)
        flags = (overflow, invalid)
        return (
            (self.index, operation, len(value), len(alpha), *flags),
            [a.tobytes() for a in arrays],
            reference.signs(x),
        )


class Binary128:
    """Cases of arm64's long double."""

    index = 4
    format = BINARY128

    def samples(self, length, seed):
        random_bits = random.Random(seed)
        special = [0, 1, self.format.infinity, self.format.infinity - 1, 1 << self.format.fraction_bits]
        special = [*special, self.format.from_float(1.0), self.format.nan]
        found = []
        for _ in range(length):
            sign = random_bits.choice((0, self.format.sign))
            field = (1 << 14) + random_bits.randrange(-5, 4)
            ordinary = field << 112 | random_bits.getrandbits(112)
            found.append(sign | (random_bits.choice(special) if random_bits.random() < 0.2 else ordinary))
        return found

    def slopes(self, length, seed, positive):
        slopes = np.random.default_rng(seed).normal(size=length)
        return [self.format.from_float(float(slope)) for slope in (np.abs(slopes) + 0.1 if positive else slopes)]

    def slope(self, alpha):
        return [self.format.from_float(alpha)]

    def case(self, operation, value, x, alpha):
        combine = self.format.divide if operation == INVERSE else self.format.multiply
        each = alpha * len(value) if len(alpha) == 1 else alpha
        positive = [self.format.is_positive(number) for number in x]
        expected = [
            number if keep else combine(number, slope)
            for number, keep, slope in zip(value, positive, each, strict=True)
        ]
        finite = [
            max(number & ~self.format.sign, slope & ~self.format.sign) < self.format.infinity
            for number, slope in zip(value, each, strict=True)
        ]
        overflow = any(
            f and (out & ~self.format.sign) == self.format.infinity for f, out in zip(finite, expected, strict=True)
        )
        invalid = any(
            self.format.is_nan(out) and not self.format.is_nan(number)
            for out, number in zip(expected, value, strict=True)
        )
        blobs = [
            b"".join(number.to_bytes(16, "little") for number in numbers) for numbers in (value, x, alpha, expected)
        ]
        header = (self.index, operation, len(value), len(alpha), overflow, invalid)
        return header, blobs, np.packbits(np.array(positive, bool), bitorder="little")


def all_cases(oracle, lengths):
    for length in lengths:
        x, grad = oracle.samples(length, length), oracle.samples(length, length + 1)
        slopes = [oracle.slope(alpha) for alpha in reference.SLOPES]
        # The long ones are for blocks and threads; special slopes have been met by then.
        slopes = slopes[:3] if length > 200 else slopes
        for alpha in [*slopes, oracle.slopes(length, length, positive=False)]:
            if length != 1 or len(alpha) == 1:
                yield oracle.case(FORWARD, x, x, alpha)
                yield oracle.case(BACKWARD, grad, x, alpha)
        slopes = [oracle.slope(alpha) for alpha in POSITIVE_SLOPES]
        for alpha in [*slopes[: 2 if length > 200 else None], oracle.slopes(length, length, positive=True)]:
            yield oracle.case(INVERSE, x, x, alpha)


def all_16_bit_values(oracle):
    x = np.arange(65536, dtype=np.uint16).view(oracle.dtype)
    for alpha in (0.01, -0.5, 1e-7, 1e7):
        yield oracle.case(FORWARD, x, x, oracle.slope(alpha), signaling=True)
        yield oracle.case(BACKWARD, x, x[::-1].copy(), oracle.slope(alpha), signaling=True)
    yield oracle.case(INVERSE, x, x, oracle.slope(0.2), signaling=True)


def write(path, long_double, short=False):
    oracles = [Numpy(index, dtype) for index, dtype in enumerate(reference.DTYPES)]
    if long_double == "binary128":
        oracles[4] = Binary128()
    cases = [case for oracle in oracles for case in all_cases(oracle, SHORT_LENGTHS if short else LENGTHS)]
    for oracle in oracles[:2]:
        cases += list(all_16_bit_values(oracle))[: 2 if short else None]
    with open(path, "wb") as file:
        file.write(np.int64(len(cases)).tobytes())
        for header, blobs, signs in cases:
            file.write(np.array(header, np.int64).tobytes())
            file.writelines([*blobs, signs.tobytes()])
    return len(cases)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("long_double", choices=["x87", "binary128"])
    parser.add_argument("--short", action="store_true", help="fewer lengths and slopes")
    arguments = parser.parse_args()
    print(f"{write(arguments.out, arguments.long_double, arguments.short)} cases in {arguments.out}")
