"""Running counts of one layer, on the device where its input lies.

Of each unit are held: how many inputs were above the threshold, NaN, at the ceiling; and count, mean and squared
deviations of the finite inputs above it and of the rest. Everything in a report follows from these and the
slopes of the rectifier. On the CPU one pass of the native kernel adds a batch; on other devices PyTorch operations do,
and the host waits for nothing.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from leakyrelu import _core
from leakyrelu.diagnosis.counts import Counts, merge_moments, overflow_allowed
from leakyrelu.diagnosis.unit_axis import UnitAxis
from leakyrelu.torch.activations.kernels import NATIVE_DTYPES, native_layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from leakyrelu.torch.diagnosis.rectifiers import Rectifier


_ABOVE, _NAN, _SATURATED, _MIDDLE, _REST = range(5)
_STATE = ("samples", "entries", "calls", "counts", "moments", "gradients", "reached", "axes", "shape", "known")


class Location(NamedTuple):
    """Where units lie in a tensor: on some axes of it, seen in a shape in which each axis holds units or none."""

    split: tuple[int, ...]
    axes: tuple[int, ...]
    known: bool

    @property
    def units(self) -> int:
        """Number of units."""
        return math.prod([self.split[axis] for axis in self.axes])

    def gather(self, x: Tensor) -> tuple[Tensor, int]:
        """Return the tensor with its units on one axis, and that axis."""
        if len(self.axes) == 1:
            axis = self.axes[0]
            return (x, axis) if len(self.split) == x.ndim else (x.detach().reshape(self.split), axis)
        others = [axis for axis in range(len(self.split)) if axis not in self.axes]
        gathered = x.detach().reshape(self.split).permute(*others, *self.axes)
        samples = [self.split[axis] for axis in others] or [1]
        return gathered.reshape(*samples, -1 if x.numel() else self.units), len(samples)


class UnitCounts:
    """Counts of the units of one layer, which batches are added to."""

    def __init__(self, units: int, device: torch.device) -> None:
        # Apple's GPUs have no float64; there the moments keep float32.
        real = torch.float32 if device.type == "mps" else torch.float64
        self.samples = 0
        self.entries = 0  # of the batch axis
        self.calls = 0
        self.counts = torch.zeros(5, units, dtype=torch.int64, device=device)
        self.moments = torch.zeros(4, units, dtype=real, device=device)  # mean, m2 of the middle; of the rest
        # The same memory, where NumPy can reach it: on a few hundred numbers its operations take a third of the time.
        self._arrays = (self.counts.numpy(), self.moments.numpy()) if device.type == "cpu" else None
        self.gradients = 0  # gradient elements a unit
        self.reached: Tensor | None = None  # of these, how many were not 0
        self.axes: tuple[int, ...] = ()  # those of the units, in the latest input,
        self.shape: tuple[int, ...] = ()  # its shape,
        self.known = True  # and whether the axes of all inputs were known
        # Along the other axes, where they were not; None where the length of the axis varies.
        self.alternatives: dict[int, UnitCounts | None] = {}

    @property
    def units(self) -> int:
        """Number of units."""
        return self.counts.shape[1]

    def add(self, x: Tensor, axis: int, rectifier: Rectifier) -> None:
        """Count the input of one call, whose units lie on `axis`."""
        self.calls += 1
        if self._arrays is not None and x.is_cpu and x.dtype in NATIVE_DTYPES and x.layout is torch.strided:
            self._add_native(x, axis, rectifier, *self._arrays)
            return
        x, axis = _with_samples(x.detach(), axis)
        if x.numel():
            self.samples += x.numel() // x.shape[axis]
            self.entries += x.shape[0] if axis else 1
        self._add_anywhere(x, axis, rectifier)

    def add_located(self, x: Tensor, location: Location, rectifier: Rectifier) -> None:
        """Count the input of one call, and note where its units lie."""
        self.axes, self.shape = location.axes, location.split
        self.add(*location.gather(x), rectifier)
        if not location.known:
            self.known = False
            self._add_alternatives(x, location, rectifier)

    def _add_alternatives(self, x: Tensor, location: Location, rectifier: Rectifier) -> None:
        for axis in range(1, x.ndim):
            if axis in location.axes or x.shape[axis] < 2:
                continue
            if axis not in self.alternatives:
                self.alternatives[axis] = UnitCounts(x.shape[axis], x.device) if self.calls == 1 else None
            counts = self.alternatives[axis]
            if counts is not None and counts.units == x.shape[axis]:
                counts.add(x, axis, rectifier)
            else:
                self.alternatives[axis] = None

    def _add_native(
        self, x: Tensor, axis: int, rectifier: Rectifier, counts: NDArray[Any], moments: NDArray[Any]
    ) -> None:
        extent = _extent(x.shape, x.stride(), axis)
        while extent is None or x.is_neg() or x.data_ptr() % x.element_size():  # torch.frombuffer takes any offset
            x = x.detach().resolve_neg().clone(memory_format=torch.contiguous_format)
            extent = _extent(x.shape, x.stride(), axis)
        outer, units, inner, samples, entries = extent
        self.samples += samples
        self.entries += entries
        layout = native_layout(x, outer, units, inner)
        _core.add_census_at(layout, rectifier.low, rectifier.ceiling, x.data_ptr(), counts, moments)

    def _add_anywhere(self, x: Tensor, axis: int, rectifier: Rectifier) -> None:
        others = [other for other in range(x.ndim) if other != axis]
        above, saturated = x > rectifier.low, x >= rectifier.ceiling
        middle, rest = above & (x < rectifier.ceiling), (x <= rectifier.low) & (x > -math.inf)
        if not math.isfinite(rectifier.ceiling):
            saturated = torch.zeros_like(saturated)  # infinity reaches a ceiling that is none
        counts = torch.stack([mask.sum(others) for mask in (above, x.isnan(), saturated, middle, rest)])
        real, moments = self.moments.dtype, []
        for mask, n in ((middle, counts[_MIDDLE]), (rest, counts[_REST])):
            values = torch.where(mask, x.to(real), 0)
            mean = values.sum(others) / n.clamp(min=1)
            shape = [-1 if place == axis else 1 for place in range(x.ndim)]
            m2 = torch.where(mask, values - mean.reshape(shape), 0).square_().sum(others)
            moments += [mean, m2]
        self._merge(counts, torch.stack(moments))

    def _merge(self, counts: Tensor, moments: Tensor) -> None:
        mine: Any = self.counts, self.moments, self.counts[_MIDDLE:].to(self.moments.dtype)
        given: Any = counts.to(self.counts.device), moments.to(self.moments)
        given = (*given, given[0][_MIDDLE:].to(self.moments.dtype))
        if self._arrays is not None:
            mine, given = (*self._arrays, mine[2].numpy()), tuple(part.numpy() for part in given)
        # Both parts at once, middle and rest: their rows of means, and of squared deviations, lie two apart.
        _, mean, m2 = merge_moments(*((n, values[0::2], values[1::2]) for _, values, n in (mine, given)))
        mine[1][0::2], mine[1][1::2] = mean, m2
        mine[0][...] += given[0]

    def add_gradient(self, gradient: Tensor, axis: int) -> None:
        """Count which units the gradient of one call reached."""
        gradient, axis = _with_samples(gradient.detach(), axis)
        others = [other for other in range(gradient.ndim) if other != axis]
        reached = (gradient != 0).sum(others).to(self.counts.device)
        self.gradients += math.prod(gradient.shape[other] for other in others)
        self.reached = reached if self.reached is None else self.reached + reached

    def __iadd__(self, other: UnitCounts) -> UnitCounts:
        self.samples += other.samples
        self.entries += other.entries
        self.calls += other.calls
        self._merge(other.counts, other.moments)
        self.axes, self.shape, self.known = other.axes, other.shape, self.known and other.known
        for axis, mine in self.alternatives.items():
            theirs = other.alternatives.get(axis)
            alike = mine is not None and theirs is not None and mine.units == theirs.units
            self.alternatives[axis] = mine.__iadd__(theirs) if alike else None  # type: ignore[union-attr, arg-type]
        self.gradients += other.gradients
        if other.reached is not None:
            reached = other.reached.to(self.counts.device)
            self.reached = reached.clone() if self.reached is None else self.reached + reached
        return self

    def clone(self) -> UnitCounts:
        """Return counts of their own, with the same numbers."""
        return self.load(self._numbers(UnitCounts.clone), self.counts.device)

    def state(self) -> dict[str, Any]:
        """Return all numbers, on the host, for another process to `load`."""
        values = self._numbers(UnitCounts.state)
        return {name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in values.items()}

    def _numbers(self, of_counts: Callable[[UnitCounts], Any]) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in _STATE}
        alternatives = {axis: counts and of_counts(counts) for axis, counts in self.alternatives.items()}
        return {**values, "alternatives": alternatives}

    @classmethod
    def load(cls, state: dict[str, Any], device: torch.device) -> UnitCounts:
        """Make counts of what `state` returned."""
        counts = cls(state["counts"].shape[1], device)
        for name, value in state.items():
            if name in ("counts", "moments"):
                getattr(counts, name).copy_(value)
            elif name == "alternatives":
                counts.alternatives = {
                    axis: cls.load(each, device) if isinstance(each, dict) else each for axis, each in value.items()
                }
            else:
                setattr(counts, name, value.to(device, copy=True) if isinstance(value, torch.Tensor) else value)
        return counts

    def unit_axis(self, rectifier: Rectifier) -> UnitAxis:
        """Return where the units lie, as data of a report."""
        others = {axis: counts.read(rectifier) for axis, counts in self.alternatives.items() if counts is not None}
        return UnitAxis(self.axes, self.shape, self.known, {} if self.known else others)

    @overflow_allowed
    def read(self, rectifier: Rectifier) -> Counts:
        """Return what the activation made of the inputs, as counts on the host."""
        above, nan, saturated, middle, rest = self.counts.cpu().numpy()
        middle_mean, middle_m2, rest_mean, rest_m2 = self.moments.double().cpu().numpy()
        slope = slope_of(rectifier)
        if rectifier.rest is None:
            rest_outputs = rest
            of_rest = slope * rest_mean, slope**2 * rest_m2 + rectifier.slope_variance * (rest_m2 + rest * rest_mean**2)
        else:  # a constant, even at -infinity
            rest_outputs = self.samples - above - nan
            of_rest = np.full(self.units, rectifier.rest), np.zeros(self.units)
        top = rectifier.ceiling if math.isfinite(rectifier.ceiling) else 0.0
        pieces = (
            (middle.astype(np.float64), middle_mean, middle_m2),
            (rest_outputs.astype(np.float64), *of_rest),
            (saturated.astype(np.float64), np.full(self.units, top), np.zeros(self.units)),
        )
        outputs, mean, m2 = merge_moments(merge_moments(pieces[0], pieces[1]), pieces[2])
        return Counts(
            samples=self.samples,
            calls=self.calls,
            positive=above,
            nan=nan,
            saturated=saturated,
            outputs=middle + rest_outputs + saturated,
            mean=np.where(outputs > 0, (mean - rectifier.shift) / rectifier.scale, 0.0),
            m2=m2 / rectifier.scale**2,
            # Of inputs barely above the threshold, the rounded mean may lie below it.
            relu_sum=np.maximum((middle_mean - rectifier.low) * middle + (top - rectifier.low) * saturated, 0.0),
            gradients=self.gradients,
            reached=None if self.reached is None else self.reached.cpu().numpy(),
            entries=self.entries,
        )


@lru_cache(maxsize=1024)
def _extent(shape: tuple[int, ...], strides: tuple[int, ...], axis: int) -> tuple[int, int, int, int, int] | None:
    """Return how a tensor lies in memory that is dense in the order of some of its axes; None where there are gaps.

    That is: runs before those of a unit, units, elements of a unit that are neighbors, samples, and batch entries.
    """
    if len(shape) < 2:  # one sample of so many units
        shape, strides, axis = (1, math.prod(shape)), (0, *(strides or (1,))), 1
    n = math.prod(shape)
    order = list(range(len(shape)))
    if not _is_dense(shape, strides, order):
        order.sort(key=lambda place: -strides[place])
        if n and not _is_dense(shape, strides, order):
            return None
    before, behind = order[: order.index(axis)], order[order.index(axis) + 1 :]
    outer, inner = (math.prod(shape[place] for place in places) for places in (before, behind))
    entries = shape[0] if axis else 1
    return outer, shape[axis], inner, outer * inner if n else 0, entries if n else 0


def _is_dense(shape: tuple[int, ...], strides: tuple[int, ...], order: list[int]) -> bool:
    expected = 1
    for place in reversed(order):
        if shape[place] != 1:
            if strides[place] != expected:
                return False
            expected *= shape[place]
    return True


def _with_samples(x: Tensor, axis: int) -> tuple[Tensor, int]:
    """Return the tensor with at least one axis beside that of the units. A scalar is one unit."""
    return (x, axis) if x.ndim > 1 else (x.reshape(1, -1), 1)


def slope_of(rectifier: Rectifier) -> Any:
    """Return the slope as a number or as one a unit, in float64."""
    if isinstance(rectifier.slope, (float, int)):
        return float(rectifier.slope)
    slope = rectifier.slope.detach().double().cpu().numpy().reshape(-1)
    return float(slope[0]) if slope.size == 1 else slope
