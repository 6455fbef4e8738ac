"""The search for the axis of the units, on graphs of every shape that the adapters describe."""

from __future__ import annotations

import pytest

from leakyrelu.diagnosis.unit_axis import CHANNELS, FEATURES, Producer, find_unit_axis, producer_from_tables

GRAPHS = {
    "the producer itself": ({"x": Producer(CHANNELS)}, CHANNELS),
    "through operators that pass": (
        {"x": Producer(inputs=["h"]), "h": Producer(inputs=["g"]), "g": Producer(FEATURES)},
        FEATURES,
    ),
    "the first input that leads to an axis": (
        {"x": Producer(inputs=["constant", "a", "b"]), "a": Producer(CHANNELS), "b": Producer(FEATURES)},
        CHANNELS,
    ),
    "an unknown operator": ({"x": Producer(inputs=["h"])}, None),
    "a graph with a cycle": ({"x": Producer(inputs=["h", "g"]), "h": Producer(inputs=["x"]), "g": Producer(-1)}, -1),
    "a transposition": ({"x": Producer(inputs=["h"], order=[0, 2, 3, 1]), "h": Producer(CHANNELS)}, 3),
    "a transposition of the last axis": ({"x": Producer(inputs=["h"], order=[0, 2, 1]), "h": Producer(FEATURES)}, 1),
    "two transpositions": (
        {
            "x": Producer(inputs=["h"], order=[0, 3, 1, 2]),
            "h": Producer(inputs=["g"], order=[0, 2, 3, 1]),
            "g": Producer(CHANNELS),
        },
        1,
    ),
    "a transposition of what is unknown": ({"x": Producer(inputs=["h"], order=[1, 0])}, None),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_axis_is_that_of_the_operator_that_decides(name: str) -> None:
    graph, axis = GRAPHS[name]
    assert find_unit_axis("x", graph.get) == axis


def test_each_tensor_is_searched_once() -> None:
    asked: list[tuple[str, int]] = []

    def producer_of(tensor: tuple[str, int]) -> Producer:
        asked.append(tensor)
        return Producer(inputs=[(tensor[0], tensor[1] + 1)] if len(asked) < 5 else [])

    assert find_unit_axis(("h", 0), producer_of, key=lambda tensor: tensor[0]) is None
    assert asked == [("h", 0), ("h", 1)]


def test_operators_are_described_by_their_names() -> None:
    axes, passing = {"conv": CHANNELS, "linear": FEATURES}, frozenset({"add"})
    assert producer_from_tables("conv", ["x"], axes, passing) == Producer(CHANNELS)
    assert producer_from_tables("add", ["x", "y"], axes, passing) == Producer(inputs=["x", "y"])
    assert producer_from_tables("reshape", ["x"], axes, passing) is None
