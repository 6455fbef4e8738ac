"""Counts, layers and axes made by hand: what cannot be is refused, and nothing overflows in silence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from leakyrelu.diagnosis.census import Census
from leakyrelu.diagnosis.counts import Counts
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.place import NOWHERE, Place
from leakyrelu.diagnosis.unit_axis import UnitAxis
from leakyrelu.torch.diagnosis.rectifiers import rectifier_of
from leakyrelu.torch.diagnosis.unit_counts import UnitCounts

GOOD = {
    "samples": 3,
    "calls": 1,
    **{name: [1, 0] for name in ("positive", "nan", "saturated", "outputs", "mean", "m2", "relu_sum")},
    "gradients": 2,
    "reached": [2, 0],
    "entries": 3,
}
MOST = 2**63 - 1


def counts(**fields) -> Counts:
    return Counts(**GOOD | fields)


@pytest.mark.parametrize(
    ("field", "value", "error", "text"),
    [
        ("samples", 10**400, ValueError, r"samples must be at most 2\*\*63 - 1, .* not a number of 1329 bits"),
        ("samples", 2**63, ValueError, r"at most 2\*\*63 - 1, the largest int64, not a number of 64 bits"),
        ("samples", -1, ValueError, "samples must be at least 0, got -1"),
        ("samples", True, TypeError, "samples must be an integer, not bool: True"),
        ("samples", 3.0, TypeError, "samples must be an integer, not float"),
        ("samples", "3", TypeError, "samples must be an integer, not str"),
        ("calls", -1, ValueError, "calls must be at least 0"),
        ("calls", None, TypeError, "calls must be an integer, not NoneType"),
        ("gradients", 2**70, ValueError, "gradients must be at most"),
        ("entries", 1.5, TypeError, "entries must be an integer, not float"),
        ("entries", 4, ValueError, "3 inputs a unit cannot come from 4 entries of the batch axis"),
        ("positive", [10**30, 0], ValueError, r"positive holds what is no int64 \(.*too large"),
        ("positive", np.array([2**63, 0], np.uint64), ValueError, r"positive holds 9223372036854775808, but it counts"),
        ("positive", [1e30, 0], ValueError, r"positive holds 1e\+30, but it counts: whole numbers of int64 only"),
        ("positive", [0.5, 0], ValueError, "positive holds 0.5, but it counts"),
        ("positive", [np.nan, 0], ValueError, "positive holds nan, but it counts"),
        ("positive", [np.inf, 0], ValueError, "positive holds inf, but it counts"),
        ("positive", [True, False], TypeError, r"positive must hold numbers, not bool: \[True, False\]"),
        ("positive", "10", TypeError, "positive must hold numbers, not <U2: '10'"),
        ("positive", ["1", "0"], TypeError, "positive must hold numbers, not <U1"),
        ("positive", [None, 0], ValueError, "positive holds what is no int64"),
        ("positive", [[1], [1, 2]], ValueError, "positive is no array of numbers"),
        ("positive", 1, ValueError, r"one number a unit, shape \(units,\), but the shapes are .*'positive': \(\)"),
        ("positive", [[1, 0]], ValueError, r"one number a unit, .*'positive': \(1, 2\)"),
        ("positive", [1], ValueError, r"one number a unit, .*'positive': \(1,\)"),
        ("positive", [3, 0], ValueError, "positive of unit 0 is 3, and 1 are NaN"),
        ("positive", [0, -1], ValueError, "some count is negative or beyond that: positive of unit 1 is -1"),
        ("nan", [0, MOST], ValueError, f"each unit saw 3 inputs, .* nan of unit 1 is {MOST}"),
        ("saturated", [0, 4], ValueError, "saturated of unit 1 is 4"),
        ("saturated", [3, 0], ValueError, "saturated of unit 0 is 3, and 1 are NaN"),
        ("outputs", [-5, 0], ValueError, "outputs of unit 0 is -5"),
        ("outputs", [0, 4], ValueError, "outputs of unit 1 is 4"),
        ("reached", [0, 3], ValueError, "each unit saw 2 gradients, .* reached of unit 1 is 3"),
        ("m2", [0, -0.5], ValueError, "impossible counts: m2 of unit 1 is -0.5, and such a sum is at least 0"),
        ("relu_sum", [-1e-9, 0], ValueError, "impossible counts: relu_sum of unit 0 is -1e-09"),
        ("relu_sum", [10**400, 0], ValueError, "relu_sum holds what is no float64"),
        ("mean", [1j, 0], TypeError, "mean must hold numbers, not complex128"),
    ],
)  # fmt: skip
def test_impossible_counts_are_refused_by_field_and_value(field, value, error, text):
    with pytest.raises(error, match=text):
        counts(**{field: value})


def test_what_other_libraries_give_is_taken():
    made = counts(
        samples=np.int64(3), positive=torch.tensor([1, 0]), nan=np.array([1.0, 0.0]), outputs=np.array([3, 0], np.uint8)
    )
    assert (type(made.samples), made.positive.dtype, made.nan.tolist()) == (int, np.int64, [1, 0])
    beyond = counts(mean=[np.nan, np.inf], m2=[np.nan, np.inf], relu_sum=[np.inf, 0])  # values beyond float64
    assert beyond.m2[1] == np.inf


@pytest.mark.parametrize("field", ["samples", "calls", "gradients"])
def test_sums_beyond_int64_are_refused(field):
    zeros = {name: [0, 0] for name in ("positive", "nan", "saturated", "outputs")}
    nothing = counts(**zeros, samples=0, calls=0, gradients=0, reached=[0, 0], entries=0)
    large = counts(**{field: MOST})
    assert getattr(large + nothing, field) == MOST
    with pytest.raises(ValueError, match=f"{field} must be at most .* not a number of 64 bits"):
        large + counts(**{field: 3})
    full = counts(samples=MOST, positive=[MOST - 1, MOST])
    with pytest.raises(ValueError, match="samples must be at most"):
        full + full
    assert (full + nothing).positive.tolist() == [MOST - 1, MOST]


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"name": 5}, TypeError, "name of a layer must be a str, not int"),
        ({"kind": None}, TypeError, "kind of a layer must be a str, not NoneType"),
        ({"counts": GOOD}, TypeError, "counts of a layer must be a Counts, not dict"),
        ({"place": "body"}, TypeError, "place of a layer must be a Place, not str"),
        ({"ceiling": "6"}, TypeError, "ceiling must be a number, not str: '6'"),
        ({"ceiling": np.nan}, ValueError, "ceiling must be a number, not NaN: infinity means that there is none"),
        ({"negative_slope": "0.1"}, TypeError, "negative_slope must hold numbers, not <U3: '0.1'"),
        ({"negative_slope": True}, TypeError, "negative_slope must hold numbers, not bool: True"),
        ({"negative_slope": [0.1, 0.2, 0.3]}, ValueError, r"layer 'a' has 2 units but slopes of shape \(3,\)"),
    ],
)
def test_impossible_layers_are_refused(fields, error, text):
    with pytest.raises(error, match=text):
        Layer(**{"name": "a", "kind": "ReLU", "negative_slope": 0.0, "counts": counts()} | fields)


def layer(*, axis: UnitAxis | None = None, place: Place = NOWHERE, slope: float = 0.0) -> Layer:
    return Layer("a", "ReLU", slope, counts(), place=place, axis=axis)


def test_places_and_axes_add_up():
    known, place = UnitAxis((1,), (8, 2, 4)), Place("body", "conv", "net.py:3")
    total = layer(axis=known, place=place) + layer(axis=UnitAxis((1,), (5, 2, 4)), place=place)
    assert (total.axis.axes, total.axis.shape, total.axis.known, total.place) == ((1,), (8, 2, 4), True, place)
    # One of an old file: what is known of the place holds for both.
    for one, other in ((layer(), layer(axis=known, place=place)), (layer(axis=known, place=place), layer())):
        total = one + other
        assert (total.place, total.axis.axes, total.axis.known) == (place, (1,), True)
    assert (layer() + layer()).axis is None
    assumed = UnitAxis((1,), (8, 2, 4), known=False)
    assert not (layer(axis=known) + layer(axis=assumed)).axis.known
    assert (layer(place=Place("a")) + layer(place=Place("b", "c"))).place == Place("a", "c")


def test_alternatives_add_up_where_both_halves_have_them():
    one_unit = Counts(3, 1, *([[0]] * 7))
    first = UnitAxis((1,), (8, 2, 2, 7), known=False, alternatives={2: counts(), 3: counts(samples=9)})
    second = UnitAxis((1,), (8, 2, 2, 1), known=False, alternatives={2: counts(samples=5), 3: one_unit})
    total = (layer(axis=first) + layer(axis=second)).axis
    assert set(total.alternatives) == {2}  # along axis 3 the length differs from batch to batch: there lie no units
    assert total.alternatives[2].samples == 8
    assert (layer(axis=first) + layer()).axis.alternatives == {}
    assert not (layer(axis=first) + layer()).axis.known


def test_other_axes_do_not_add():
    text = r"layer 'a': counts along different axes cannot be added: the units lie on axis 1 of shape \(8, 2\) and on"
    with pytest.raises(ValueError, match=text + r" axes 1 and 2 of shape \(8, 1, 2\); say which it is with unit_axis"):
        layer(axis=UnitAxis((1,), (8, 2))) + layer(axis=UnitAxis((1, 2), (8, 1, 2)))
    # The last axis is one axis, whatever stands before it.
    assert (layer(axis=UnitAxis((1,), (8, 2))) + layer(axis=UnitAxis((2,), (8, 5, 2)))).axis.axes == (1,)
    with pytest.raises(TypeError, match="unsupported operand"):
        UnitAxis((1,), (8, 2)) + 1


def test_slopes_that_became_nan_are_the_same_slope():
    total = Census([layer(slope=np.nan)]) + Census([layer(slope=np.nan)])
    assert np.isnan(total["a"].negative_slope)


def test_inputs_barely_above_a_threshold_have_no_negative_sum():
    low = 0.7
    x = torch.nextafter(torch.full((1000, 8), low, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))
    rectifier = rectifier_of(nn.Threshold(low, 0.0))
    running = UnitCounts(8, torch.device("cpu"))
    running._add_anywhere(x, 1, rectifier)  # as on other devices; there the mean is rounded below the threshold
    running.samples, running.entries = x.shape[0], x.shape[0]
    counts = running.read(rectifier)
    assert (counts.positive == 1000).all()
    assert (counts.relu_sum >= 0).all()
