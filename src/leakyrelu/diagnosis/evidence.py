"""Evidence of findings in words: samples seen, what they allow to say of silent units, and axes."""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal
from typing import TYPE_CHECKING

from leakyrelu._text import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leakyrelu.diagnosis.layer import Layer


def certainty(layers: Sequence[Layer]) -> str:
    """Say how often the silent units of layers may still fire: the largest of their `silent_bound`.

    Examples
    --------
    >>> from leakyrelu.diagnosis import Counts, Layer
    >>> counts = Counts(1797, 1, [0], [0], [0], [1797], [0.0], [0.0], [0.0], entries=1797)
    >>> layers = [Layer("relu", "ReLU", 0.0, counts)]
    >>> seen(layers), certainty(layers)
    ('1797 samples', 'we can be 95 % sure that it fires on fewer than 0.17 % of the samples')
    """
    it = "it fires" if sum(len(layer.silent_units) for layer in layers) == 1 else "each fires"
    if any(layer.entries is None for layer in layers):
        return f"how often {it.replace('fires', 'may still fire')} is not known, since samples were not counted"
    bound = max(float(layer.silent_bound.max()) for layer in layers)
    if bound == 1.0:
        return f"these are too few samples to say how seldom {it}"
    return f"we can be 95 % sure that {it} on fewer than {percent_up(bound)} of the samples"


def percent_up(bound: float) -> str:
    """Return an upper bound as a percentage of two digits, rounded up, so that what is said of it stays true."""
    exact = Decimal(repr(round(100 * bound, 12)))
    return f"{float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(exact)):.2g} %"


def seen(layers: Sequence[Layer]) -> str:
    """Say how much data layers saw: samples, and inputs of a unit where these are more or samples were not counted."""
    inputs = [layer.samples for layer in layers]
    samples = [layer.entries for layer in layers if layer.entries is not None]
    if len(samples) < len(inputs):
        return f"{_span(inputs)} inputs"
    return f"{_span(samples)} samples" + ("" if samples == inputs else f" ({_span(inputs)} inputs)")


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def axes_text(axes: Sequence[int]) -> str:
    """Return axes in words: "axis 1", or "axes 1 and 2"."""
    return f"{'axis' if len(axes) == 1 else 'axes'} {listed([str(axis) for axis in axes])}"
