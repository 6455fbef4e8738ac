"""Classification data for a study: the handwritten digits of scikit-learn, MNIST-1D, or a file of the user.

Split by class into 60 % training, 20 % validation and 20 % test, always the same way; features standardized with the
mean and standard deviation of the training part.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leakyrelu._array_files import MAX_MEMORY, ArrayFileError, read_arrays
from leakyrelu._extras import require
from leakyrelu._text import counted, few

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

_LEAST_PER_CLASS = 5  # one sample for validation, one for test, three to learn from


class DataError(ValueError):
    """Data that cannot be used; the message names the file, the cause and the remedy."""


@dataclass(frozen=True)
class Part:
    """Samples and their labels: ``x`` float32 of shape (n, features), ``y`` int64 of shape (n,)."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """A classification problem, split and standardized."""

    name: str
    train: Part
    validation: Part
    test: Part
    classes: int
    shape: tuple[int, ...] = ()

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of a sample before it was laid flat; `shape`, or one dimension where that is empty."""
        return self.shape or (self.features,)

    @property
    def features(self) -> int:
        """Numbers in a sample."""
        return int(self.train.x.shape[1])


def digits() -> Data:
    """Return scikit-learn's 1,797 handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak, 1998)."""
    datasets = require("sklearn.datasets", by="the set of handwritten digits", hint=", or give data of your own")
    x, y = datasets.load_digits(return_X_y=True)
    return _split("handwritten digits", x.reshape(-1, 8, 8), y)


def mnist1d() -> Data:
    """Return MNIST-1D: 5,000 series of 40 numbers in 10 classes (Greydanus and Kobak, ICML 2024).

    The package ``mnist1d`` generates them from its templates with its own seed; nothing is downloaded.
    """
    package = require("mnist1d.data", by="the data set MNIST-1D", hint=", or give data of your own")
    # The package seeds the generators that everyone shares.
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        made = package.make_dataset(package.get_dataset_args())
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    x, y = (np.concatenate([made[name], made[f"{name}_test"]]) for name in ("x", "y"))
    return _split("MNIST-1D", x, y)


SETS: Mapping[str, Callable[[], Data]] = {"digits": digits, "mnist1d": mnist1d}
"""The data sets that have a name."""


def load(path: str | os.PathLike[str], *, max_memory: int = MAX_MEMORY) -> Data:
    """Read an ``.npz`` file with an array ``X`` (samples first) and an array ``y`` (one label per sample).

    Features are real numbers; a sample of several dimensions, such as an image, is laid flat. Labels are integers,
    strings or booleans, at least two different ones, each at least five times. Arrays that take more memory than
    `max_memory` bytes are refused, unless the file itself is as large.

    Raises
    ------
    DataError
        The file is missing or is not that; the message says which.
    """
    x, y = _read(path, max_memory)
    _check(x, y, path)
    return _split(Path(path).name, x, y)


def _read(path: str | os.PathLike[str], max_memory: int) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        arrays = read_arrays(path, max_memory)
    except ArrayFileError as error:
        raise DataError(str(error)) from None
    for name in ("X", "y"):
        if name not in arrays:
            raise DataError(f"{path} has no array {name!r}, only {few(arrays, 8)}; save with X=..., y=..., by np.savez")
    return arrays["X"], arrays["y"]


def _check(x: NDArray[Any], y: NDArray[Any], path: str | os.PathLike[str]) -> None:
    if x.ndim < 2:
        raise DataError(f"{path}: X has shape {x.shape}; it must have samples first and at least one more dimension")
    if x.dtype.kind not in "biuf":
        raise DataError(f"{path}: X has dtype {x.dtype}; features must be real numbers")
    if y.ndim != 1:
        raise DataError(f"{path}: y has shape {y.shape}; it must have one dimension, a label per sample")
    if len(x) != len(y):
        raise DataError(
            f"{path}: X has {counted(len(x), 'sample')} and y has {counted(len(y), 'label')}; the numbers must agree"
        )
    if x.size == 0:
        raise DataError(f"{path}: X has shape {x.shape} and holds nothing")
    if y.dtype.kind == "f":
        if np.isnan(y).any():
            raise DataError(f"{path}: y has {counted(int(np.isnan(y).sum()), 'NaN label')}; leave these samples out")
        if not (np.isfinite(y).all() and (y == np.round(y)).all()):
            raise DataError(f"{path}: y holds fractions or infinity; labels must be classes, not measurements")
    elif y.dtype.kind not in "biuSU":
        raise DataError(f"{path}: y has dtype {y.dtype}; labels must be integers, strings or booleans")
    if not np.isfinite(x).all():
        raise DataError(
            f"{path}: X has {counted(int((~np.isfinite(x)).sum()), 'NaN or infinite value')}; fill in finite values or "
            "leave those samples out"
        )


def _split(name: str, x: NDArray[Any], y: NDArray[Any]) -> Data:
    labels, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(labels) < 2:
        raise DataError(f"{name}: every label is {labels[0]}; there must be at least two classes")
    if counts.min() < _LEAST_PER_CLASS:
        scarce = labels[counts.argmin()]
        raise DataError(
            f"{name}: class {scarce} has only {counted(int(counts.min()), 'sample')} of {len(y)}; every class needs "
            f"{_LEAST_PER_CLASS}, to be in the training, validation and test data alike"
        )
    rng = np.random.default_rng(0)
    parts: tuple[list[Any], ...] = ([], [], [])
    for code in range(len(labels)):
        members = rng.permutation(np.flatnonzero(codes == code))
        held_out = len(members) // 5
        for members_so_far, chosen in zip(parts, np.split(members, [-2 * held_out, -held_out]), strict=True):
            members_so_far.append(chosen)
    flat = x.reshape(len(x), -1).astype(np.float64)
    train, validation, test = (np.sort(np.concatenate(members)) for members in parts)
    center, spread = flat[train].mean(0), flat[train].std(0)
    standardized = ((flat - center) / np.where(spread > 0, spread, 1.0)).astype(np.float32)

    def part(chosen: NDArray[np.int64]) -> Part:
        return Part(standardized[chosen], codes[chosen].astype(np.int64))

    return Data(name, part(train), part(validation), part(test), len(labels), tuple(x.shape[1:]))
