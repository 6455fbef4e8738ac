"""Samples in the inputs of a model and in what its layers make of them: how many, on which axis, how alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from leakyrelu._text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST_APART = 0.5  # of an output and that of the flipped samples; unrelated outputs differ by 1.4
_ROUNDING = 1e-3


def tensors_of(inputs: Any) -> list[Tensor]:
    """Return the tensors among the arguments of a model: a tensor, a tuple or list of arguments, or a dict of them."""
    if isinstance(inputs, dict):
        inputs = list(inputs.values())
    arguments = inputs if isinstance(inputs, tuple | list) else [inputs]
    return [each for each in arguments if isinstance(each, Tensor)]


def mapped(inputs: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return the arguments with a function of each tensor in its place."""
    if isinstance(inputs, dict):
        return {name: mapped(each, function) for name, each in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(mapped(each, function) for each in inputs)
    return function(inputs) if isinstance(inputs, Tensor) else inputs


def sample_count(inputs: Any) -> int:
    """Return how many samples the first tensor has along its first axis; refuse less than two."""
    tensors = tensors_of(inputs)
    if not tensors:
        raise TypeError(
            "inputs must be a tensor with samples along its first axis, or a tuple or dict of arguments with one, not "
            f"{type(inputs).__name__}: {shown(inputs)}"
        )
    shape = tuple(tensors[0].shape)
    if not shape or shape[0] < 2:
        raise ValueError(
            f"inputs of shape {shape} hold less than two samples along the first axis, and similarity is that of "
            "pairs; give at least two unrelated samples, 8 or more for a small error"
        )
    return shape[0]


def flipped(inputs: Any, samples: int) -> Any:
    """Return the arguments with the samples in reverse order, in each tensor that has as many along its first axis."""
    return mapped(inputs, lambda x: x.flip(0) if x.ndim and len(x) == samples else x)


class SampleAxis(NamedTuple):
    """Where a tensor has its samples: along one axis, on which other places may lie within each sample or around it."""

    axis: int
    is_outer: bool

    def rows(self, x: Tensor, samples: int) -> Tensor:
        """Return the tensor as a matrix with a row for each sample."""
        places = x.shape[self.axis] // samples
        sizes = (samples, places) if self.is_outer else (places, samples)
        x = x.reshape(*x.shape[: self.axis], *sizes, *x.shape[self.axis + 1 :])
        return x.movedim(self.axis + (not self.is_outer), 0).flatten(1)


def find_sample_axis(output: Tensor, of_flipped: Tensor, samples: int) -> SampleAxis:
    """Find the axis along which an output is flipped when the samples are; the first one where several fit."""
    apart: dict[SampleAxis, float] = {}
    for candidate in _candidates(output.shape, samples) if output.shape == of_flipped.shape else ():
        expected, found = (candidate.rows(each, samples).double() for each in (output, of_flipped))
        norm = float(expected.norm())
        apart[candidate] = float((expected.flip(0) - found).norm()) / norm if norm else 0.0
    least = min(apart.values(), default=float("inf"))
    if not least <= _MOST_APART:
        raise ValueError(
            f"no axis of the output of the last activation, of shape {tuple(output.shape)}, holds the {samples} "
            "samples of the inputs; give a model whose inputs have samples along the first axis, and which treats each "
            "of them alike"
        )
    return next(each for each, error in apart.items() if error <= 2 * least + _ROUNDING)


def _candidates(shape: torch.Size, samples: int) -> Iterator[SampleAxis]:
    for axis, size in enumerate(shape):
        if size and size % samples == 0:
            yield SampleAxis(axis, True)
            if size > samples:
                yield SampleAxis(axis, False)


def pair_means(rows: Tensor) -> tuple[float, float]:
    """Return the means of <u, v> and of |u||v| over all pairs of two rows, in float64."""
    rows = rows.detach().to("cpu", torch.float64)
    squares = (rows * rows).sum(1)
    count = len(rows) * (len(rows) - 1)
    products = (rows.sum(0) ** 2).sum() - squares.sum()
    norms = squares.sqrt().sum() ** 2 - squares.sum()
    return float(products) / count, float(norms) / count
