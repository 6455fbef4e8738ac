"""Binary floating point of any width in Python's integers: the oracle for a type that this machine lacks.

A `Format` multiplies and divides bit patterns, rounding once to nearest even, as IEEE 754 says. With the widths of
float64 it can be held against NumPy; with those of binary128 it says what arm64's ``long double`` must give.
"""

from __future__ import annotations

import dataclasses
import operator
from fractions import Fraction


@dataclasses.dataclass(frozen=True)
class Format:
    exponent_bits: int
    fraction_bits: int

    @property
    def sign(self):
        return 1 << (self.exponent_bits + self.fraction_bits)

    @property
    def infinity(self):
        return ((1 << self.exponent_bits) - 1) << self.fraction_bits

    @property
    def nan(self):
        return self.infinity | 1 << (self.fraction_bits - 1)

    @property
    def lowest(self):
        """The exponent of the last bit of a subnormal number."""
        return 2 - (1 << (self.exponent_bits - 1)) - self.fraction_bits

    def is_nan(self, bits):
        return bits & ~self.sign > self.infinity

    def is_positive(self, bits):
        return 0 < bits <= self.infinity

    def value(self, bits):
        """Of a finite number."""
        field, fraction = divmod(bits & ~self.sign, 1 << self.fraction_bits)
        if field:
            fraction |= 1 << self.fraction_bits
        power = self.lowest + max(field - 1, 0)
        magnitude = Fraction(fraction << power) if power >= 0 else Fraction(fraction, 1 << -power)
        return -magnitude if bits & self.sign else magnitude

    def round(self, value, sign):
        """The bits of the number nearest to |value|, with that sign bit."""
        if value == 0:
            return sign
        above, below = abs(value.numerator), value.denominator
        exponent = above.bit_length() - below.bit_length()
        if above << max(-exponent, 0) < below << max(exponent, 0):
            exponent -= 1
        last = max(exponent - self.fraction_bits, self.lowest)
        below <<= max(last, 0)
        whole, rest = divmod(above << max(-last, 0), below)
        whole += 2 * rest > below or (2 * rest == below and whole & 1)
        # A carry out of the fraction moves the exponent on by itself.
        return sign | min(((last - self.lowest) << self.fraction_bits) + whole, self.infinity)

    def from_float(self, number):
        if number != number:
            return self.nan
        sign = self.sign if str(number).startswith("-") else 0
        return sign | self.infinity if number in (float("inf"), -float("inf")) else self.round(Fraction(number), sign)

    def multiply(self, a, b):
        return self._combine(a, b, operator.mul)

    def divide(self, a, b):
        inverse = {0: self.infinity, self.infinity: 0}
        magnitude, sign = b & ~self.sign, b & self.sign
        if magnitude in inverse:  # x / 0 and x / inf, as x * inf and x * 0
            return self.multiply(a, inverse[magnitude] | sign)
        return self._combine(a, b, operator.truediv)

    def _combine(self, a, b, operation):
        if self.is_nan(a) or self.is_nan(b):
            return self.nan
        sign = (a ^ b) & self.sign
        a, b = a & ~self.sign, b & ~self.sign
        if self.infinity in (a, b):
            return self.nan if 0 in (a, b) else self.infinity | sign
        return self.round(operation(self.value(a), self.value(b)), sign)


BINARY64 = Format(11, 52)
BINARY128 = Format(15, 112)
