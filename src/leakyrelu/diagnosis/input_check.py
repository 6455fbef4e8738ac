"""The check of the data that go into a network: how many values are NaN or infinite, and where the first one is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


@dataclass(frozen=True)
class InputCheck:
    """What was found in the data of one input of a network, over all batches. Two of them add up, in this order.

    A sample is an entry of the first axis; an input without axes is one sample. Minus infinity is also what masks of
    attention hold, so that in an input of such a name it need not be a fault.

    Parameters
    ----------
    name
        The input: a keyword argument of the model or an input of the file; empty where a batch is one tensor.
    samples
        Samples that were looked at.
    nan, infinite
        Values that are NaN, and values that are infinite.
    flawed
        Samples that hold any of them.
    first_sample, first_place
        The first such sample, counted from 0 over all batches, and the index of the first such value within it; None
        where every value is finite.

    Examples
    --------
    >>> import numpy as np
    >>> from leakyrelu.diagnosis.input_check import check_array
    >>> check = check_array(np.array([[0.0, 1.0], [2.0, np.nan], [np.inf, 3.0]]), "x")
    >>> check.nan, check.infinite, check.flawed, check.first_sample, check.first_place
    (1, 1, 2, 1, (1,))
    """

    name: str
    samples: int
    nan: int = 0
    infinite: int = 0
    flawed: int = 0
    first_sample: int | None = None
    first_place: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        first, wrong = self.first_sample, self.nan + self.infinite
        if first is None:
            possible = self.flawed == wrong == 0 and self.first_place is None
        else:
            possible = 0 <= first < self.samples and 0 < self.flawed <= min(self.samples - first, wrong)
            possible = possible and self.first_place is not None
        possible = possible and min(self.samples, self.nan, self.infinite) >= 0
        if not possible:
            raise ValueError(f"an impossible check of data, whose numbers contradict each other: {self}")

    @property
    def is_finite(self) -> bool:
        """Whether every value is a finite number."""
        return self.first_sample is None

    def __add__(self, other: InputCheck) -> InputCheck:
        if not isinstance(other, InputCheck):
            return NotImplemented
        if self.name != other.name:
            raise ValueError(f"checks of different inputs cannot be added: {self.name!r} and {other.name!r}")
        first, place = self.first_sample, self.first_place
        if first is None and other.first_sample is not None:
            first, place = self.samples + other.first_sample, other.first_place
        return InputCheck(
            self.name,
            self.samples + other.samples,
            self.nan + other.nan,
            self.infinite + other.infinite,
            self.flawed + other.flawed,
            first,
            place,
        )


def merge_checks(checks: Iterable[InputCheck]) -> list[InputCheck]:
    """Add up the checks of each input; the inputs come in the order of their first check."""
    merged: dict[str, InputCheck] = {}
    for check in checks:
        merged[check.name] = merged[check.name] + check if check.name in merged else check
    return list(merged.values())


def check_array(x: NDArray[Any], name: str) -> InputCheck:
    """Check one batch of an input. Where every value is finite, this is one sum over the array."""
    samples = x.shape[0] if x.ndim else 1
    if x.dtype.kind not in "fc":
        return InputCheck(name, samples)
    wide = np.float32 if x.dtype.itemsize == 2 else None
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(x.sum(dtype=wide)):  # a sum of finite numbers may overflow: then the values decide
            return InputCheck(name, samples)
    rows = x.reshape(samples, -1)
    wrong = ~np.isfinite(rows)
    total = int(wrong.sum())
    if not total:
        return InputCheck(name, samples)
    nan = int(np.isnan(rows).sum())
    flawed = np.flatnonzero(wrong.any(axis=1))
    first = int(flawed[0])
    return InputCheck(
        name, samples, nan, total - nan, len(flawed), first, place_within(int(wrong[first].argmax()), x.shape[1:])
    )


def place_within(index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the index along each axis of an element that is number `index` in the order of memory."""
    place = []
    for position, length in enumerate(shape):
        behind = math.prod(shape[position + 1 :])
        place.append(index // behind % length)
    return tuple(place)
