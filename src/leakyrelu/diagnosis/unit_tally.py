"""The running count of one activation whose inputs arrive as NumPy arrays, batch by batch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from leakyrelu.diagnosis.array_counts import count_array
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.layout import cut, unit_axes
from leakyrelu.diagnosis.unit_axis import CHANNELS, UnitAxis, checked_axis

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from leakyrelu.diagnosis.counts import Counts, FloatArray
    from leakyrelu.diagnosis.layout import Layout
    from leakyrelu.diagnosis.place import Place


class UnitTally:
    """The running count of one activation, and of what its units are.

    Parameters
    ----------
    name
        Name of the layer.
    slope
        One slope, or an array of them that broadcasts against the input, one for each unit.
    ceiling
        Where the activation saturates.
    axis
        The axis that the user gave for the units.
    """

    def __init__(self, name: str, slope: NDArray[np.float64], ceiling: float, axis: int | None) -> None:
        self.name, self.slope, self.ceiling, self.axis = name, slope, ceiling, axis
        self.counts: Counts | None = None
        self._found: UnitAxis | None = None
        self._alternatives: dict[int, Counts] = {}

    def add(self, x: NDArray[Any], layout: Layout | None) -> None:
        """Count an input whose layout is that of `layout`, as far as it is known; the sizes of the two may differ."""
        if x.ndim < 2:
            self._count(x.reshape(-1, 1), (1,))
            return
        shape, axes, known = self._units(x, layout)
        if self._found is None:
            self._found = UnitAxis(axes, shape, known)
            others = [axis for axis in range(1, x.ndim) if axis not in axes and x.shape[axis] > 1]
            self._alternatives = {} if known else {axis: self._counted(x, axis) for axis in others}
        else:
            self._found = replace(self._found, known=self._found.known and known)
            for axis, before in list(self._alternatives.items()):
                if before.units == x.shape[axis]:
                    self._alternatives[axis] = before + self._counted(x, axis)
                else:  # an axis whose size changes holds no units
                    del self._alternatives[axis]
        self._count(x.reshape(shape), axes)

    def layer(self, kind: str, place: Place) -> Layer:
        """Return what was counted."""
        assert self.counts is not None
        axis = self._found
        if axis is not None:
            axis = replace(axis, alternatives=self._alternatives)
        return Layer(self.name, kind, self._slope(self.counts.units), self.counts, self.ceiling, place, axis)

    def _units(self, x: NDArray[Any], layout: Layout | None) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
        """Return a shape of which each axis holds units or none, its axes of units, and whether they are known."""
        if self.axis is not None:
            axis = checked_axis(self.axis, self.name, x.shape) % x.ndim
            return x.shape, (axis,), True
        if self.slope.size > 1:  # one for each unit, which says where the units are
            long = [place - self.slope.ndim for place, size in enumerate(self.slope.shape) if size > 1]
            if len(long) == 1 and -long[0] <= x.ndim:
                return x.shape, (x.ndim + long[0],), True
        layout = cut(layout, x.shape)
        if layout is not None:
            shape, axes = unit_axes(layout)
            if axes:
                return shape, axes, True
        return x.shape, (CHANNELS,), x.ndim == 2  # of two axes the other is that of the samples

    def _count(self, x: NDArray[Any], axes: tuple[int, ...]) -> None:
        units = math.prod(x.shape[axis] for axis in axes)
        if len(axes) > 1:
            rest = [axis for axis in range(x.ndim) if axis not in axes]
            x = x.transpose(*rest, *axes).reshape(*(x.shape[axis] for axis in rest), units)
            axes = (x.ndim - 1,)
        before = self.counts
        if before is not None and before.units != units:
            raise ValueError(
                f"{self.name} has {before.units} units in one batch and {units} in another: axis {axes[0]} is not that "
                f"of its units; say which is, with unit_axis={{{self.name!r}: ...}}"
            )
        counts = count_array(x, axes[0], self._slope(units, axes[0]), self.ceiling)
        self.counts = counts if before is None else before + counts

    def _counted(self, x: NDArray[Any], axis: int) -> Counts:
        return count_array(x, axis, self._slope(x.shape[axis], axis), self.ceiling)

    def _slope(self, units: int, axis: int | None = None) -> float | FloatArray:
        """Return the slopes as one number or one a unit."""
        if self.slope.size == 1:
            return float(self.slope.item())
        if self.slope.size != units:
            raise ValueError(
                f"{self.name} has slopes of shape {self.slope.shape} for {units} units along axis {axis}: "
                f"say which axis holds its units, with unit_axis={{{self.name!r}: ...}}"
            )
        return self.slope.reshape(-1)
