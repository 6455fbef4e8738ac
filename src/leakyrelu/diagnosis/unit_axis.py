"""Search for the axis of the units: back through a graph, from the input of a rectifier to the operator that decides.

An adapter describes each operator of its format as a `Producer`; the search itself knows no format.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from leakyrelu._text import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from leakyrelu.diagnosis.counts import Counts

CHANNELS = 1
"""Axis of the units behind a convolution, a batch norm and the like: samples, channels, positions."""
FEATURES = -1
"""Axis of the units behind a linear layer, a layer norm and the like: the last."""


@dataclass(frozen=True, eq=False)
class UnitAxis:
    """Which axes of an activation's input hold the units, and how that is known.

    Parameters
    ----------
    axes
        The axes, usually one. Several where a reshape has split the output channels of a layer, into heads for
        instance: the first of them counts slowest.
    shape
        The shape of an input that was seen. A dimension of it that holds units and positions is split into both.
    known
        Whether the layer that feeds the activation, followed through reshapes and the like, decides it, or the user's
        `unit_axis` does. Otherwise it is an assumption.
    alternatives
        For an assumption: the counts along each other axis that may hold the units.
    """

    axes: tuple[int, ...]
    shape: tuple[int, ...]
    known: bool = True
    alternatives: Mapping[int, Counts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.axes:
            raise ValueError("axes is empty, but units lie on at least one axis: None in place of it says nothing")

    def __add__(self, other: UnitAxis) -> UnitAxis:
        """Both taken together, for inputs of one layer: an alternative stays where both have it, of as many units."""
        if not isinstance(other, UnitAxis):
            return NotImplemented
        if self.axes != other.axes and self._from_the_end != other._from_the_end:
            raise ValueError(
                f"counts along different axes cannot be added: the units lie on {self._text} and on {other._text}; "
                "say which it is with unit_axis, in both reports"
            )
        alternatives = {
            axis: counts + other.alternatives[axis]
            for axis, counts in self.alternatives.items()
            if axis in other.alternatives and other.alternatives[axis].units == counts.units
        }
        return replace(self, known=self.known and other.known, alternatives=alternatives)

    @property
    def _from_the_end(self) -> tuple[int, ...]:
        return tuple(axis - len(self.shape) for axis in self.axes)

    @property
    def _text(self) -> str:
        return f"{'axis' if len(self.axes) == 1 else 'axes'} {listed([*map(str, self.axes)])} of shape {self.shape}"


@dataclass(frozen=True)
class Producer:
    """The operator that a tensor is an output of.

    It puts the units at `axis`; where that is None, they stand as in the first of `inputs` that leads to an axis, whose
    axes a transposition takes in `order`.
    """

    axis: int | None = None
    inputs: Iterable[Any] = ()
    order: Sequence[int] | None = None


def producer_from_tables(
    operator: str, inputs: Iterable[Any], axes: Mapping[str, int], passing: frozenset[str]
) -> Producer | None:
    """Describe an operator by its name: `axes` are those that put units on an axis, `passing` those that leave them."""
    if operator in axes:
        return Producer(axes[operator])
    return Producer(inputs=inputs) if operator in passing else None


def checked_axis(axis: int, name: str, shape: Sequence[int]) -> int:
    """Return the axis of a user's `unit_axis`, or raise a ValueError where the input of the rectifier lacks it."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(
            f"unit_axis gives axis {axis} for {name!r}, but its input has shape {tuple(shape)}: "
            f"give an axis from {-len(shape)} to {len(shape) - 1}"
        )
    return axis


def find_unit_axis(
    tensor: Any, producer_of: Callable[[Any], Producer | None], key: Callable[[Any], Hashable] = lambda tensor: tensor
) -> int | None:
    """Find the axis of the units of a tensor, or None where the graph leaves it open.

    `producer_of` describes what a tensor is the output of, or gives None where that decides nothing; `key`
    identifies a tensor, so that none is searched twice.

    Examples
    --------
    >>> graph = {"y": Producer(inputs=["bias", "h"]), "h": Producer(CHANNELS)}
    >>> find_unit_axis("y", graph.get)
    1
    """
    searched: set[Hashable] = set()

    def search(tensor: Any) -> int | None:
        producer = producer_of(tensor)
        if producer is None or key(tensor) in searched:
            return None
        searched.add(key(tensor))
        if producer.axis is not None:
            return producer.axis
        axis = next((axis for source in producer.inputs if (axis := search(source)) is not None), None)
        if axis is None or producer.order is None:
            return axis
        return producer.order.index(axis % len(producer.order))

    return search(tensor)
