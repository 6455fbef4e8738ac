"""Layers with planted numbers, from which the findings follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from leakyrelu.diagnosis.counts import Counts
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.unit_axis import UnitAxis


def layer(name="act", *, silent=0, always=0, units=100, samples=1000, slope=0.0, ceiling=np.inf, **changes) -> Layer:
    """The first units silent, the last always on, the others positive in half of the inputs."""
    positive = np.full(units, samples // 2)
    positive[:silent] = 0
    positive[units - always :] = samples
    zeros = np.zeros(units)
    values = {
        "positive": positive,
        "nan": zeros,
        "saturated": zeros,
        "outputs": zeros + samples,
        "mean": zeros + 0.4,
        "m2": zeros + 0.34 * samples,
        "relu_sum": positive * 0.8,
    }
    return Layer(name, "ReLU", slope, Counts(samples, 1, **({"entries": samples} | values | changes)), ceiling)


def means(silent):
    return np.r_[np.full(20, silent), np.full(80, 0.4)]


def deviations(silent):
    return 1000 * np.r_[np.full(20, silent), np.full(80, 0.6)] ** 2


def assumed(name, *, silent, along, **changes):
    """A layer whose units were read along axis 1 by assumption; `along` gives the silent units along other axes."""
    others = {axis: layer(silent=count, units=7).counts for axis, count in along.items()}
    return replace(layer(name, silent=silent, units=16, **changes), axis=UnitAxis((1,), (8, 16, 7, 7), False, others))
