"""The activations that a study compares, and the sources of their slopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from leakyrelu import slope


@dataclass(frozen=True)
class Row:
    """One activation of the comparison.

    Attributes
    ----------
    name
        A short, unique name.
    slope
        Slope for x <= 0.
    source
        The source of the slope, in words.
    kind
        The module that computes it.
    """

    name: str
    slope: float
    source: str
    kind: Literal["relu", "leaky", "centered"] = "leaky"

    @property
    def scale(self) -> float:
        """Factor of the orthogonal matrices after this activation that keeps the second moment of the signal at 1."""
        return 1.0 if self.kind == "centered" else slope.gain(self.slope)


def choose_rows(depth: int) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Return the rows for this depth, and a line for each formula that has no slope at this depth (left out)."""
    rows = [
        Row("ReLU", 0.0, "no slope", "relu"),
        Row("Leaky 0.001", 0.001, "nearly ReLU, for comparison"),
        Row("Leaky 0.01", 0.01, "default of PyTorch"),
        Row("Leaky 0.2", 0.2, "default of TensorFlow's tf.nn.leaky_relu"),
    ]
    left_out = []
    try:
        rows.append(Row("Tailored", slope.tailored(depth), f"tailored({depth}), eta = 0.9"))
    except ValueError as error:
        left_out.append(f"Tailored is left out: {error}")
    try:
        rows.append(Row("Centered", slope.centered(depth), f"centered({depth}), zeta = 1.5", "centered"))
    except ValueError as error:
        left_out.append(f"Centered is left out: {error}")
    return tuple(rows), tuple(left_out)
