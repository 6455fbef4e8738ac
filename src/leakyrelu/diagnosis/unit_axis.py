"""The axes of an activation's input that hold the units, and how that is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from leakyrelu._text import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leakyrelu.diagnosis.counts import Counts

CHANNELS = 1
"""The axis that is assumed to hold the units where nothing decides it: samples, channels, positions."""


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


def checked_axis(axis: int, name: str, shape: Sequence[int]) -> int:
    """Return the axis of a user's `unit_axis`, or raise a ValueError where the input of the rectifier lacks it."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(
            f"unit_axis gives axis {axis} for {name!r}, but its input has shape {tuple(shape)}: "
            f"give an axis from {-len(shape)} to {len(shape) - 1}"
        )
    return axis
