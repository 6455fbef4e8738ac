"""The slope by measurement: networks initialized several times, unrelated inputs sent through, similarity read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from leakyrelu._checks import integer, real_number
from leakyrelu._json import to_plain
from leakyrelu._text import counted, listed
from leakyrelu.torch.graph.tracing import preserved_random_state
from leakyrelu.torch.slope.similarity_curve import Similarity, SimilarityCurve

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

__all__ = ["SlopeMeasurement", "measure_slope"]

MOST_ERROR = 0.05
"""Standard error of a slope above which no slope is named."""

_USUAL = 0.01


@dataclass(frozen=True)
class SlopeMeasurement:
    """The result of `measure_slope`. Its repr is a short report.

    Attributes
    ----------
    slope
        The slope under which the similarity is `eta`; None where there is none, or none that is known well enough.
    standard_error
        Of the slope; also where it is too large for a slope to be named. None where no slope gives `eta`.
    similarity
        (slope, value, standard error) under 0, 0.01, the slope that was found and 1, as far as they were measured.
    reason
        One sentence: why this slope, or why none.
    eta
        The similarity that was asked for.
    inits
        How many initializations were measured.
    samples
        How many samples, of which every two are a pair.
    calls
        (function, number): the activations whose slope was set in one forward pass. The similarity is read at the last.

    Examples
    --------
    >>> from leakyrelu.torch import SlopeMeasurement
    >>> found = SlopeMeasurement(0.3, 0.02, (), "0.300, with a standard error of 0.020", 0.9, 32, 16, (("relu", 20),))
    >>> print(found.reason)
    0.300, with a standard error of 0.020
    """

    slope: float | None
    standard_error: float | None
    similarity: tuple[Similarity, ...]
    reason: str
    eta: float
    inits: int
    samples: int
    calls: tuple[tuple[str, int], ...]

    def __repr__(self) -> str:
        total = sum(number for _, number in self.calls)
        kinds = listed([f"{number} {name}" for name, number in self.calls])
        lines = [
            self.reason,
            "",
            f"similarity of unrelated inputs at the last of {counted(total, 'activation')} ({kinds}),",
            f"{self.inits} initializations, {self.samples} samples:",
            "   slope  similarity  standard error",
        ]
        lines += [f"  {slope:6.4f}    {value:8.4f}  {error:14.4f}" for slope, value, error in self.similarity]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Every field, as JSON; each similarity is an object. NaN and infinity are written as null."""
        fields = {**asdict(self), "similarity": [each._asdict() for each in self.similarity]}
        return json.dumps(to_plain(fields), allow_nan=False)


def measure_slope(
    make: Callable[..., nn.Module],
    inputs: Any,
    eta: float = 0.9,
    inits: int = 32,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> SlopeMeasurement:
    """Measure the slope under which unrelated inputs arrive at the last activation with similarity `eta`.

    For any architecture whose activations are ReLU or Leaky ReLU, as modules or functions. The model is initialized
    `inits` times; each time all activations have the slope a, and the outputs u and v of the activation that is called
    last are read for every two samples. The similarity is the ratio of means ``s(a) = E<u, v> / E|u||v|`` over pairs
    and initializations (the mean of cosines is biased at finite width), and the answer solves ``s(a) = eta`` on [0, 1].
    Every slope sees the same random numbers, of the weights and of the pass, so that ``s`` is a smooth function.

    The standard error of a similarity is a jackknife over the initializations. That of the slope is the same divided by
    ``|s'(a)|``, a central difference (the delta method). It says nothing about other inputs.

    Weights are used as `make` gives them. PyTorch's own initialization brings every pair to 1.000 under every slope in
    a deep network without normalization: draw weights with the standard deviation ``gain(a) / sqrt(fan_in)``
    (`leakyrelu.slope.gain`), orthogonal or normal, and zero biases. Where this is to follow the slope, let `make` take
    it.

    Parameters
    ----------
    make
        Returns a new model with random weights, drawn from the global generators of PyTorch, NumPy or Python. Called
        with the slope where it has a single positional parameter without a default, or one that is named ``slope`` or
        ``negative_slope``; else without arguments. The model runs in the mode in which it comes: training, as a rule.
    inputs
        Unrelated samples, at least two, along the first axis of a tensor; or a tuple or list of arguments, or a dict of
        keyword arguments, the first tensor of which has the samples along its first axis.
    eta
        Wanted similarity, above 0 and below 1.
    inits
        How many initializations, at least 2. The standard error falls with its square root.
    seed
        Chooses the random numbers. The generators of PyTorch, Python and NumPy are left as they were.
    progress
        Called as ``progress(done, total)`` after each forward pass; `total` is an estimate that `done` reaches.

    Returns
    -------
    SlopeMeasurement
        The slope, or None with the reason: even ReLU stays below `eta`, slope 1 exceeds it, or the standard error is
        above 0.05.

    Raises
    ------
    TypeError
        `make` is no function or returns no module, `inputs` holds no tensor, or a number is none.
    ValueError
        `eta` not between 0 and 1, less than 2 initializations or samples; a model without activations, or with some
        whose slope cannot be set, which are named; weights that are the same for every seed, or differ for one seed;
        activations that are not finite, or all zero.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.slope import gain
    >>> from leakyrelu.torch.slope import measure_slope
    >>> def make(slope):
    ...     layers = []
    ...     for _ in range(20):
    ...         linear = nn.Linear(64, 64, bias=False)
    ...         nn.init.orthogonal_(linear.weight, gain(slope))
    ...         layers += [linear, nn.ReLU()]
    ...     return nn.Sequential(*layers)
    >>> found = measure_slope(make, torch.randn(16, 64, generator=torch.Generator().manual_seed(0)), inits=8)
    >>> 0.1 < found.slope < 0.35, found.standard_error < 0.05
    (True, True)
    """
    target = real_number(eta, "eta")
    if not 0.0 < target < 1.0:
        raise ValueError(
            f"eta must lie between 0 and 1, both excluded, not {target}: it is a cosine similarity; 0.9 is the "
            "recommended value"
        )
    with preserved_random_state(), torch.no_grad():
        curve = SimilarityCurve(
            make, inputs, integer(inits, "inits", least=2), integer(seed, "seed", least=0), progress
        )
        slope, error, reason = _answer(curve, target)
        curve.finish()
    slopes = [0.0, _USUAL, 1.0, *([] if slope is None else [slope])]
    return SlopeMeasurement(
        slope=slope if error is not None and error <= MOST_ERROR else None,
        standard_error=error,
        similarity=tuple(curve.similarity(each) for each in sorted(curve.means.keys() & slopes)),
        reason=reason,
        eta=target,
        inits=curve.inits,
        samples=curve.samples,
        calls=tuple(curve.calls.items()),
    )


def _answer(curve: SimilarityCurve, eta: float) -> tuple[float | None, float | None, str]:
    """Return the slope that was found, its standard error, and the reason for the answer."""
    relu, usual = curve.similarity(0.0), curve.similarity(_USUAL)
    if relu.value < eta:
        return None, None, f"keep 0.01: even under ReLU similarity stays at {_text(relu)}, below {eta:g}"
    if (straight := curve.similarity(1.0)).value > eta:
        alike = curve.input_similarity()
        if alike is not None and alike > eta:
            remedy = f"the samples themselves are {alike:.3f} alike: give unrelated ones, with their mean subtracted"
        else:
            # Maximum pooling does it, too, and normalization in evaluation mode does not undo it.
            remedy = (
                "what is between the activations does that, as a rule weights and biases as PyTorch draws them: "
                "initialize them with leakyrelu.slope.gain and zero first"
            )
        reason = f"no slope: even slope 1 brings pairs to {_text(straight)}, above {eta:g} ({usual.value:.3f} at 0.01)"
        return None, None, f"{reason}; {remedy}"
    slope = curve.solve(eta, *((_USUAL, 1.0) if usual.value > eta else (0.0, _USUAL)))
    error = curve.similarity(slope).standard_error / max(abs(curve.derivative(slope)), 1e-12)
    if error > MOST_ERROR:
        return (
            slope,
            error,
            f"no slope: {eta:g} is reached near {slope:.3f}, with a standard error of {error:.3f}, above {MOST_ERROR}; "
            f"more than {curve.inits} initializations or {curve.samples} samples make it smaller",
        )
    return (
        slope,
        error,
        f"{slope:.3f}, with a standard error of {error:.3f}: with it unrelated inputs arrive at the last activation "
        f"{eta:g} alike ({usual.value:.3f} at 0.01, {relu.value:.3f} at 0)",
    )


def _text(similarity: Similarity) -> str:
    return f"{similarity.value:.3f} (standard error {similarity.standard_error:.3f})"
