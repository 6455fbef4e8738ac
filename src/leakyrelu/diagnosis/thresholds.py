"""Thresholds of the findings, each with its reason, and the number of samples that they are held against.

They are conservative: what is not worth an action is not a finding, and where too few inputs were seen to know, the
finding is that more are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from leakyrelu.diagnosis.layer import Layer

ENOUGH: Final = 300
"""Samples a layer must have seen before silence means something: a unit silent in as many fires on fewer than 1 % of
all samples, at 95 %.

Samples are entries of the batch axis, since the positions of one image are not independent; inputs, where those were
not counted.
"""
MOST: Final = 0.5
"""Share of a layer's units, silent or always on, from which most of the layer is gone."""
MANY: Final = 0.1
"""Share of a layer's units from which silent units are more than isolated cases; below, they are only a note."""
LINEAR: Final = 0.25
"""Share of a layer's units always on that is worth a note: a quarter of it is linear on the data."""
RARE: Final = 0.01
"""A unit positive this seldom or less gets a hundredth of the gradients that reach the layer."""
ALIKE: Final = 0.9
"""Mean cosine similarity of the outputs of two samples from which a layer hardly separates samples."""
FAR: Final = 3.0
"""Standard deviations between a unit's mean input and zero from which its bias counts as drifted."""


def count_samples(layer: Layer) -> int:
    """Return the number of samples that a layer saw, or of its inputs, where samples were not counted."""
    return layer.samples if layer.entries is None else layer.entries
