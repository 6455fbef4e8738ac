"""The counts of one layer: exact integers and float64 moments, one number a unit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from leakyrelu._checks import integer
from leakyrelu._text import counted, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]
    FloatArray = NDArray[np.float64]

    Moments = tuple[Any, Any, Any]


overflow_allowed = np.errstate(over="ignore", invalid="ignore")
"""Decorator: values beyond float64 give infinity or NaN, and no warning."""


@overflow_allowed
def merge_moments(first: Moments, second: Moments) -> Moments:
    """Moments of two sets of numbers taken together, from the moments of each.

    With ``d = mean_2 - mean_1`` and ``n = n_1 + n_2``::

        mean = mean_1 + d n_2 / n
        m2   = m2_1 + m2_2 + d^2 n_1 n_2 / n

    No sum of squares is ever formed, so a mean far larger than the standard deviation costs no digits (Chan, Golub and
    LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).

    Moments are ``(n, mean, m2)``: how many, their mean (any finite number where n = 0), and the sum of their squared
    deviations from it; float64 arrays of one shape, of NumPy or of anything that has its operators.

    Examples
    --------
    >>> one, other = np.array([1.0, 3.0]), np.array([5.0])
    >>> moments = [(np.float64(part.size), part.mean(), part.var() * part.size) for part in (one, other)]
    >>> [float(value) for value in merge_moments(*moments)]  # of 1, 3 and 5
    [3.0, 3.0, 8.0]
    """
    (n_1, mean_1, m2_1), (n_2, mean_2, m2_2) = first, second
    n = n_1 + n_2
    share = n_2 / (n + (n == 0))  # 0 where nothing has been seen, rather than 0 / 0
    difference = mean_2 - mean_1
    return n, mean_1 + difference * share, m2_1 + m2_2 + difference * difference * (n_1 * share)


@dataclass(frozen=True, eq=False)
class Counts:
    """The counts of one layer: one number a unit, however many samples there were. Two of them add up.

    Parameters
    ----------
    samples
        Inputs seen by each unit, NaN included: samples x positions x calls.
    calls
        How often the activation was called.
    positive, nan, saturated
        int64, of shape (units,): inputs > 0, inputs that are NaN, and inputs at or above the ceiling of the activation.
    outputs, mean, m2
        Finite outputs, their mean (0 where there are none), the sum of their squared deviations from it.
    relu_sum
        Sum of the ReLU part ``min(max(x, 0), ceiling)`` over the finite inputs.
    gradients, reached
        Gradients seen by each unit, one for each input that was trained on, and how many of them were not 0; None where
        gradients were not watched.
    entries
        Entries of the batch axis seen, over all calls: of `samples` those that can be independent. The batch axis is
        the first; where that holds the units, a call is one entry. None where they were not counted.
    """

    samples: int
    calls: int
    positive: IntArray
    nan: IntArray
    saturated: IntArray
    outputs: IntArray
    mean: FloatArray
    m2: FloatArray
    relu_sum: FloatArray
    gradients: int = 0
    reached: IntArray | None = None
    entries: int | None = None

    def __post_init__(self) -> None:
        for name in _TOTALS:
            object.__setattr__(self, name, _total(getattr(self, name), name))
        if self.entries is not None:
            object.__setattr__(self, "entries", _total(self.entries, "entries", least=-_MOST))
        shapes = {}
        for name, dtype in _ARRAYS.items():
            if (value := getattr(self, name)) is None:
                continue
            array = checked_numbers(value, name, dtype)
            object.__setattr__(self, name, array)
            shapes[name] = array.shape
        if len(set(shapes.values())) > 1 or self.positive.ndim != 1:
            raise ValueError(f"every count needs one number a unit, shape (units,), but the shapes are {shapes}")
        self._check_ranges()
        if self.entries is not None and not min(self.samples, 1) <= self.entries <= self.samples:
            raise ValueError(
                f"impossible counts: {counted(self.samples, 'input')} a unit cannot come from "
                f"{counted(self.entries, 'entry', 'entries')} of the batch axis: each entry has at least "
                "one (None says that they were not counted)"
            )

    def _check_ranges(self) -> None:
        for name, array in ((name, getattr(self, name)) for name in _ARRAYS):
            if array is None or not len(array):
                continue
            seen, what = (self.gradients, "gradient") if name == "reached" else (self.samples, "input")
            if array.dtype.kind == "i" and (array.min() < 0 or array.max() > seen):
                unit = int(np.argmax((array < 0) | (array > seen)))
                raise ValueError(
                    f"impossible counts: each unit saw {counted(seen, what)}, but some count is negative or beyond "
                    f"that: {name} of unit {unit} is {array[unit]}"
                )
            if name in ("m2", "relu_sum") and (array < 0).any():
                unit = int(np.argmax(array < 0))
                raise ValueError(
                    f"impossible counts: {name} of unit {unit} is {array[unit]}, and such a sum is at least 0"
                )
        for name in ("positive", "saturated"):
            if (wrong := getattr(self, name) > self.samples - self.nan).any():
                unit = int(np.argmax(wrong))
                raise ValueError(
                    f"impossible counts: each unit saw {counted(self.samples, 'input')}, but some count is negative or "
                    f"beyond that: {name} of unit {unit} is {getattr(self, name)[unit]}, and {self.nan[unit]} are NaN"
                )

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.positive)

    @cached_property
    def silent_units(self) -> IntArray:
        """Units that were never positive, of those that saw anything but NaN."""
        return np.flatnonzero((self.positive == 0) & (self.nan < self.samples))

    @overflow_allowed
    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        if self.units != other.units:
            raise ValueError(
                f"counts of {self.units} and of {counted(other.units, 'unit')} cannot be added: not the same layer"
            )
        _, mean, m2 = merge_moments(
            (self.outputs.astype(np.float64), self.mean, self.m2),
            (other.outputs.astype(np.float64), other.mean, other.m2),
        )
        sums = {name: getattr(self, name) + getattr(other, name) for name in _SUMS}
        return Counts(
            **sums,
            mean=mean,
            m2=m2,
            reached=_added(self.reached, other.reached),
            entries=None if self.entries is None or other.entries is None else self.entries + other.entries,
        )


_TOTALS = ("samples", "calls", "gradients")
_SUMS = (*_TOTALS, "positive", "nan", "saturated", "outputs", "relu_sum")
_ARRAYS: dict[str, type[np.generic]] = {
    **dict.fromkeys(("positive", "nan", "saturated", "outputs", "reached"), np.int64),
    **dict.fromkeys(("mean", "m2", "relu_sum"), np.float64),
}


def checked_numbers(value: Any, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    """Return numbers as a read-only array of this type, a copy; refuse what it cannot hold exactly, or is no number."""
    try:
        given = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is no array of numbers ({error})") from None
    if given.dtype.kind not in "iufO":
        raise TypeError(f"{name} must hold numbers, not {given.dtype}: {shown(value)}")
    try:
        with np.errstate(invalid="ignore"):  # of what no integer can hold: found below
            array = given.astype(dtype)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{name} holds what is no {dtype.__name__} ({error})") from None
    if dtype is np.int64 and not np.array_equal(array, given):
        wrong = given[array != given].flat[0]
        raise ValueError(f"{name} holds {wrong}, but it counts: whole numbers of {dtype.__name__} only")
    array.setflags(write=False)
    return array


def _total(value: Any, name: str, least: int = 0) -> int:
    number = integer(value, name, least=least)
    if number > _MOST:
        raise ValueError(
            f"{name} must be at most 2**63 - 1, the largest int64, not a number of {number.bit_length()} bits"
        )
    return number


_MOST = int(np.iinfo(np.int64).max)


def _added(first: IntArray | None, second: IntArray | None) -> IntArray | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second
