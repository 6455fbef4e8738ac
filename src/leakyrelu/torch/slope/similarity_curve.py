"""Similarity as a function of the slope: networks initialized several times, unrelated inputs sent through each."""

from __future__ import annotations

import inspect
import math
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from leakyrelu._text import counted, listed, shown
from leakyrelu.torch.graph.tracing import call_model
from leakyrelu.torch.slope.samples import find_sample_axis, flipped, mapped, pair_means, sample_count, tensors_of
from leakyrelu.torch.slope.slope_mode import SlopeMode, refuse_hidden_rectifiers

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from numpy.typing import NDArray

    from leakyrelu.torch.slope.samples import SampleAxis

    Floats = NDArray[np.float64]

_CLOSE = 1e-4  # to eta, or between two slopes: a hundredth of the standard error that 32 initializations usually have
_MOST_STEPS = 40
_STEP = 0.01  # of the slope, to either side, for the derivative
_USUAL_EVALUATIONS = 11


class Similarity(NamedTuple):
    """Similarity of unrelated inputs at the last activation under one slope, with its standard error."""

    slope: float
    value: float
    standard_error: float


class SimilarityCurve:
    """The similarity as a function of the slope, over all initializations, and what was measured of it so far.

    `means` has, by slope, a row (E<u, v>, E|u||v|) for each initialization.
    """

    def __init__(
        self,
        make: Callable[..., nn.Module],
        inputs: Any,
        inits: int,
        seed: int,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self.inits = inits
        self.inputs = inputs
        self.samples = sample_count(inputs)
        self.means: dict[float, Floats] = {}
        self._make = make
        self._takes_slope = _takes_slope(make)
        self._seeds = np.random.SeedSequence(seed).generate_state(inits).tolist()
        self._progress = progress or (lambda done, total: None)
        self._done, self._total = 0, inits * _USUAL_EVALUATIONS
        self._axis, self.calls = self._examine()

    def input_similarity(self) -> float | None:
        """Return the similarity of the samples themselves; None where they are no real numbers."""
        first = tensors_of(self.inputs)[0]
        if not first.is_floating_point():
            return None
        products, norms = pair_means(first.reshape(self.samples, -1))
        return products / norms if norms > 0 else None

    def similarity(self, slope: float) -> Similarity:
        """Measure under a slope; the ratio of means, and its jackknife over the initializations."""
        if slope not in self.means:
            self.means[slope] = np.array([self._measure(number, slope) for number in range(self.inits)])
        products, norms = self.means[slope].T
        ratio = products.sum() / norms.sum()
        without = (products.sum() - products) / (norms.sum() - norms)
        error = math.sqrt((self.inits - 1) * np.mean((without - without.mean()) ** 2))
        return Similarity(slope, float(ratio), error)

    def solve(self, eta: float, low: float, high: float) -> float:
        """Return the slope between two at which the similarity is eta: false position, Illinois' variant."""
        above, below = (self.similarity(slope).value - eta for slope in (low, high))
        slope, side = low, 0
        for _ in range(_MOST_STEPS):
            slope = (above * high - below * low) / (above - below)
            value = self.similarity(slope).value - eta
            if abs(value) <= _CLOSE or high - low <= _CLOSE:
                break
            if value > 0.0:
                low, above, below = slope, value, below / (2.0 if side > 0 else 1.0)
            else:
                high, below, above = slope, value, above / (2.0 if side < 0 else 1.0)
            side = 1 if value > 0.0 else -1
        return slope

    def derivative(self, slope: float) -> float:
        """Return the derivative of the similarity by the slope: a difference with the same random numbers."""
        low, high = max(slope - _STEP, 0.0), min(slope + _STEP, 1.0)
        return (self.similarity(high).value - self.similarity(low).value) / (high - low)

    def finish(self) -> None:
        """Report that all is measured."""
        self._progress(self._done, self._done)

    def _examine(self) -> tuple[SampleAxis, Counter[str]]:
        """Refuse what could not be measured; find the samples in the last output, and the activations of a pass."""
        first, again, other = (self._model(number, 1.0) for number in (0, 0, 1))
        if first is again or first is other or again is other:
            raise ValueError("make returned the same model twice; it must build a new one each time it is called")
        if not _have_equal_weights(first, again):
            raise ValueError(
                "make gave different weights for the same seed; draw them from the global generators of PyTorch, NumPy "
                "or Python, which are seeded before each call"
            )
        if _have_equal_weights(first, other) and not any(map(is_lazy, first.parameters())):
            raise ValueError(
                "make gave the same weights for different seeds; it must draw them each time, and neither load them "
                "nor set a seed itself"
            )
        # In evaluation mode: dropout would treat the samples differently, wherever they are.
        outputs = [
            self._last_output(first.eval(), inputs) for inputs in (self.inputs, flipped(self.inputs, self.samples))
        ]
        calls = self._run(again, 1.0, self.inputs, lambda index, output: None)
        output, of_flipped = outputs
        if output is None or of_flipped is None or not calls:
            raise ValueError(
                "the model has no activation whose slope could be set: it called no ReLU and no Leaky ReLU in its "
                "forward pass, as a module or a function"
            )
        _require_values(float(output.norm()), 1.0, 0)
        return find_sample_axis(output, of_flipped, self.samples), calls

    def _last_output(self, model: nn.Module, inputs: Any) -> Tensor | None:
        """Return the output of the last activation at slope 1, where a network keeps inputs most apart."""
        last: Tensor | None = None

        def read(index: int, output: Tensor) -> None:
            nonlocal last
            last = output.clone()

        self._run(model, 1.0, inputs, read)
        return last

    def _measure(self, number: int, slope: float) -> tuple[float, float]:
        """Return E<u, v> and E|u||v| over the pairs, for one initialization."""
        means: list[tuple[float, float]] = []
        last = self.calls.total() - 1

        def read(index: int, output: Tensor) -> None:
            if index == last:  # here, because a layer behind it may overwrite it
                means.append(pair_means(self._axis.rows(output, self.samples)))

        calls = self._run(self._model(number, slope), slope, self.inputs, read)
        if calls.total() != last + 1:
            raise ValueError(
                f"the model called {counted(last + 1, 'activation')} in one forward pass and {calls.total()} in "
                "another, so that the last one is not always the same; measure a model that calls all of them each time"
            )
        products, norms = means[0]
        _require_values(norms, slope, number)
        self._done += 1
        self._total = max(self._total, self._done)
        self._progress(self._done, self._total)
        return products, norms

    def _model(self, number: int, slope: float) -> nn.Module:
        _seed_all(self._seeds[number])  # of the forward pass, too, which follows
        model = self._make(slope) if self._takes_slope else self._make()
        if not isinstance(model, nn.Module):
            raise TypeError(f"make must return a torch.nn.Module, not {type(model).__name__}: {shown(model)}")
        refuse_hidden_rectifiers(model)
        return model

    def _run(self, model: nn.Module, slope: float, inputs: Any, read: Callable[[int, Tensor], object]) -> Counter[str]:
        """Run a model on a copy of the inputs, which it may overwrite; return how often each function was called."""
        mode = SlopeMode(slope, read)
        with mode:
            call_model(model, mapped(inputs, torch.clone))
        return mode.calls


def _takes_slope(make: Any) -> bool:
    """Whether a function that makes a model is called with the slope.

    It is where it has a single positional parameter without a default, or a first one that is named like a slope. No
    other with a default is given: ``pretrained`` in the functions of model libraries is positional, too.
    """
    if isinstance(make, nn.Module) or not callable(make):
        raise TypeError(
            f"make must be a function that returns a new model, not {type(make).__name__}: {shown(make)}; weights are "
            "drawn several times, as in measure_slope(lambda: Net(), inputs)"
        )
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # a class or function in C
        return False
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    required = [each.name for each in positional if each.default is each.empty]
    if len(required) > 1:
        raise TypeError(
            f"make takes {listed(required)}, and measure_slope calls it with the slope at most; give a function "
            "without the others, such as a lambda or functools.partial"
        )
    return bool(required) or bool(positional and positional[0].name in ("slope", "negative_slope"))


def _require_values(norm: float, slope: float, number: int) -> None:
    """Raise a ValueError where the outputs of the last activation are zero or not finite."""
    if not math.isfinite(norm) or norm == 0.0:
        raise ValueError(
            f"the outputs of the last activation are {'all zero' if norm == 0.0 else 'not finite'} at slope {slope:g} "
            f"(initialization {number}); look for NaN in the inputs, and scale the weights so that signals keep their "
            "size (leakyrelu.slope.gain)"
        )


def _seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that a model would draw from


def _have_equal_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether all parameters and buffers are equal; those of lazy layers have no values yet."""
    weights, others = (
        [each for each in (*model.parameters(), *model.buffers()) if not is_lazy(each)] for model in (one, other)
    )
    return len(weights) == len(others) and all(map(torch.equal, weights, others))
