"""What every unit of a network did with the data it saw: per-unit counts, and the report read from them.

A *unit* is an output channel: a feature of a linear layer, a map of a convolution. Counted are signs of what goes
*into* the activation, over every sample and every position, so that the answer does not depend on the slope; a share of
zero *elements* would call a healthy ReLU half dead and a leaky network with silent units healthy.

`Counts` is what is held (exact integers, float64 moments, one number a unit), `Layer` derives everything else from it,
`Report` is the layers in the order they ran. Nothing here imports a framework: NumPy is all. The methods of `Report`
that write (table, JSON, HTML) hand over to `leakyrelu.report`, which imports this module, when they are called.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from leakyrelu.findings import Finding

    IntArray = NDArray[np.int64]
    FloatArray = NDArray[np.float64]

__all__ = ["Counts", "Layer", "Report", "merge_moments"]

_Array = TypeVar("_Array")


def merge_moments(
    first: tuple[_Array, _Array, _Array], second: tuple[_Array, _Array, _Array]
) -> tuple[_Array, _Array, _Array]:
    """Moments of two sets of numbers taken together, from the moments of each.

    With ``d = mean_2 - mean_1`` and ``n = n_1 + n_2``::

        mean = mean_1 + d n_2 / n
        m2   = m2_1 + m2_2 + d^2 n_1 n_2 / n

    No sum of squares is ever formed, so a mean far larger than the standard deviation costs no digits (Chan, Golub and
    LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).

    Parameters
    ----------
    first, second
        ``(n, mean, m2)``: how many, their mean (any finite number where n = 0), and the sum of their squared deviations
        from it. Float64 arrays of one shape, of NumPy or of anything that has its operators.

    Examples
    --------
    >>> one, other = np.array([1.0, 3.0]), np.array([5.0])
    >>> moments = [(np.float64(part.size), part.mean(), part.var() * part.size) for part in (one, other)]
    >>> [float(value) for value in merge_moments(*moments)]  # of 1, 3 and 5
    [3.0, 3.0, 8.0]
    """
    (n_1, mean_1, m2_1), (n_2, mean_2, m2_2) = _any(first), _any(second)
    n = n_1 + n_2
    share = n_2 / (n + (n == 0))  # 0 where nothing has been seen, rather than 0 / 0
    difference = mean_2 - mean_1
    return n, mean_1 + difference * share, m2_1 + m2_2 + difference * difference * (n_1 * share)


def _any(value: object) -> Any:
    return value


@dataclass(frozen=True, eq=False)
class Counts:
    """What is held of a layer: one number a unit, whatever the number of samples. Two of them add up.

    Parameters
    ----------
    samples
        Inputs seen by each unit, NaN included: samples x positions x calls.
    calls
        How often the activation was called.
    positive, nan, saturated
        int64, of shape (units,): inputs > 0, inputs that are NaN, and inputs at or above the ceiling of the activation.
    outputs, mean, m2
        Finite outputs, their mean (0 where there are none), the sum of their squared deviations from it.
    relu_sum
        Sum of the ReLU part ``min(max(x, 0), ceiling)`` over the finite inputs.
    gradients, reached
        Gradients seen by each unit, one for each input that was trained on, and how many of them were not 0; None where
        gradients were not watched.
    entries
        Entries of the batch axis seen, over all calls: of `samples` those that can be independent. The batch axis is
        the first; where that holds the units, a call is one entry. None where they were not counted.
    """

    samples: int
    calls: int
    positive: IntArray
    nan: IntArray
    saturated: IntArray
    outputs: IntArray
    mean: FloatArray
    m2: FloatArray
    relu_sum: FloatArray
    gradients: int = 0
    reached: IntArray | None = None
    entries: int | None = None

    def __post_init__(self) -> None:
        shapes = {}
        for name, dtype in _ARRAYS.items():
            if (value := getattr(self, name)) is None:
                continue
            array = np.array(value, dtype=dtype)  # our own copy: nobody changes a report afterwards
            array.setflags(write=False)
            object.__setattr__(self, name, array)
            shapes[name] = array.shape
        if len(set(shapes.values())) > 1 or self.positive.ndim != 1:
            raise ValueError(f"every count needs one number a unit, shape (units,), but the shapes are {shapes}")
        if min(self.positive.min(initial=0), self.nan.min(initial=0)) < 0 or (
            (self.positive + self.nan).max(initial=0) > self.samples
        ):
            raise ValueError(
                f"impossible counts: each unit saw {self.samples} inputs, but some count is negative or beyond that"
            )
        if self.entries is not None and not min(self.samples, 1) <= self.entries <= self.samples:
            raise ValueError(
                f"impossible counts: {self.samples} inputs a unit cannot come from {self.entries} entries of the batch "
                "axis: each entry has at least one (None says that they were not counted)"
            )

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.positive)

    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        if self.units != other.units:
            raise ValueError(f"counts of {self.units} and of {other.units} units cannot be added: not the same layer")
        _, mean, m2 = merge_moments(
            (self.outputs.astype(np.float64), self.mean, self.m2),
            (other.outputs.astype(np.float64), other.mean, other.m2),
        )
        return Counts(
            samples=self.samples + other.samples,
            calls=self.calls + other.calls,
            positive=self.positive + other.positive,
            nan=self.nan + other.nan,
            saturated=self.saturated + other.saturated,
            outputs=self.outputs + other.outputs,
            mean=mean,
            m2=m2,
            relu_sum=self.relu_sum + other.relu_sum,
            gradients=self.gradients + other.gradients,
            reached=_added(self.reached, other.reached),
            entries=None if self.entries is None or other.entries is None else self.entries + other.entries,
        )


_ARRAYS: dict[str, type[np.generic]] = {
    **dict.fromkeys(("positive", "nan", "saturated", "outputs"), np.int64),
    **dict.fromkeys(("mean", "m2", "relu_sum"), np.float64),
    "reached": np.int64,
}


def _added(first: IntArray | None, second: IntArray | None) -> IntArray | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


@dataclass(frozen=True, eq=False)
class Layer:
    """One activation of a network, and what its units did.

    Parameters
    ----------
    name
        Where it stands in the model.
    kind
        What it is, such as ``"ReLU"``.
    negative_slope
        alpha; an array of shape (units,) where each unit has its own (PReLU).
    counts
        What was counted.
    ceiling
        Where the activation saturates: 6 for ReLU6, infinity for the others.
    """

    name: str
    kind: str
    negative_slope: float | FloatArray
    counts: Counts
    ceiling: float = float("inf")

    def __post_init__(self) -> None:
        slope = np.array(self.negative_slope, dtype=np.float64)
        if slope.ndim == 0:
            object.__setattr__(self, "negative_slope", float(slope))
            return
        if slope.shape != (self.units,):
            raise ValueError(
                f"layer {self.name!r} has {self.units} units but slopes of shape {slope.shape}: "
                "give one slope, or one for each unit"
            )
        slope.flags.writeable = False
        object.__setattr__(self, "negative_slope", slope)

    @property
    def units(self) -> int:
        """Number of units."""
        return self.counts.units

    @property
    def samples(self) -> int:
        """Inputs seen by each unit: samples x positions x calls."""
        return self.counts.samples

    @property
    def entries(self) -> int | None:
        """Entries of the batch axis seen, such as images, over all calls; None where they were not counted."""
        return self.counts.entries

    @property
    def calls(self) -> int:
        """How often the activation was called."""
        return self.counts.calls

    @cached_property
    def _known(self) -> IntArray:
        """Inputs of each unit that are not NaN: those whose sign says something."""
        return np.asarray(self.samples - self.counts.nan)

    @cached_property
    def positive_share(self) -> FloatArray:
        """p, the share of inputs > 0 among those that are not NaN; NaN for a unit that saw no others."""
        return _ratio(self.counts.positive, self._known)

    @cached_property
    def saturated_share(self) -> FloatArray:
        """Share of inputs at or above the ceiling (ReLU6), where the derivative is 0 again."""
        return _ratio(self.counts.saturated, self._known)

    @cached_property
    def silent_units(self) -> IntArray:
        """Units never positive (p = 0). Under ReLU they are dead; under Leaky ReLU they learn alpha as fast.

        A unit that saw nothing but NaN is not among them: of that unit nothing is known (see `nan_units`).
        """
        return np.flatnonzero((self.counts.positive == 0) & (self._known > 0))

    @cached_property
    def silent_bound(self) -> FloatArray:
        """For each of `silent_units`, how large its p can still be: 3 / n at 95 %, with n = `entries`, at most 1.

        The rule of three: were the share of samples with a positive input 3 / n or more, none in n would have happened
        with a probability below 5 %; p is no larger than that share. Counted are entries of the batch axis, not inputs,
        since the positions of one image are not independent. Where some inputs were NaN, n is less by the same share.
        NaN where entries were not counted.
        """
        silent = self.silent_units
        if self.entries is None:
            return np.full(len(silent), np.nan)
        lost = np.ceil(self.counts.nan[silent].astype(np.float64) * self.entries / max(self.samples, 1))
        return np.asarray(np.minimum(3.0 / np.maximum(self.entries - lost, 1.0), 1.0))

    @cached_property
    def always_on_units(self) -> IntArray:
        """Units always positive (p = 1) and never at the ceiling: on this data they are a straight line."""
        return np.flatnonzero((self.counts.positive == self._known) & (self._known > 0) & (self.counts.saturated == 0))

    @cached_property
    def saturated_units(self) -> IntArray:
        """Units always at or above the ceiling (ReLU6): no gradient reaches them either."""
        return np.flatnonzero((self.counts.saturated == self._known) & (self._known > 0))

    @cached_property
    def nan_units(self) -> IntArray:
        """Units that saw at least one NaN. `positive_share` leaves these inputs out; `counts.nan` says how many."""
        return np.flatnonzero(self.counts.nan)

    @cached_property
    def gradient_share(self) -> float:
        """Share of units that any gradient reached, of the loss with respect to the input of the activation.

        NaN where gradients were not watched. A unit that a gradient never reached cannot learn from these data: all its
        inputs were where the derivative is 0, or nothing behind it passed a gradient on.
        """
        if self.counts.reached is None or self.counts.gradients == 0 or self.units == 0:
            return float("nan")
        return float(np.mean(self.counts.reached > 0))

    @cached_property
    def unreached_units(self) -> IntArray:
        """Units that no gradient reached; empty where gradients were not watched."""
        if self.counts.reached is None or self.counts.gradients == 0:
            return np.flatnonzero(np.zeros(0))
        return np.flatnonzero(self.counts.reached == 0)

    @cached_property
    def effective_slope(self) -> FloatArray:
        """The mean derivative, alpha + (1 - alpha) p (less the share at the ceiling, if there is one)."""
        return self.negative_slope + (1.0 - self.negative_slope) * self.positive_share - self.saturated_share

    @cached_property
    def output_mean(self) -> FloatArray:
        """Mean of the finite outputs; NaN for a unit that had none."""
        return np.where(self.counts.outputs > 0, self.counts.mean, np.nan)

    @cached_property
    def output_std(self) -> FloatArray:
        """Standard deviation of the finite outputs (dividing by n); NaN for a unit that had none."""
        return np.sqrt(_ratio(self.counts.m2, self.counts.outputs))

    @cached_property
    def mean_over_std(self) -> float:
        """Norm of `output_mean` over norm of `output_std`: 0 is centered, 0.68 is ReLU on N(0, 1) inputs."""
        mean = float(np.sqrt(np.nansum(self.output_mean**2)))
        std = float(np.sqrt(np.nansum(self.output_std**2)))
        if std == 0.0:
            return float("nan") if mean == 0.0 else float("inf")
        return mean / std

    @cached_property
    def dormancy(self) -> FloatArray:
        """``E|h_i|`` over its mean in the layer, where h is the ReLU part of the activation; 0 in a layer all silent.

        The score of Sokar, Agarwal, Castro and Evci, "The Dormant Neuron Phenomenon in Deep Reinforcement Learning",
        ICML 2023, taken on the ReLU part so that it means the same at every slope. 1 is the average unit of the layer;
        they call a unit tau-dormant when its score is at most tau.
        """
        activity = _ratio(self.counts.relu_sum, self._known)
        known = activity[~np.isnan(activity)]
        if known.size == 0 or known.mean() == 0.0:
            return np.where(np.isnan(activity), np.nan, 0.0)
        return np.asarray(activity / known.mean())

    def __add__(self, other: Layer) -> Layer:
        if not isinstance(other, Layer):
            return NotImplemented
        mine = (self.name, self.kind, self.units, self.ceiling)
        if mine != (other.name, other.kind, other.units, other.ceiling):
            raise ValueError(
                f"layers that differ cannot be added: {self._identity} and {other._identity}; "
                "add reports of the same model"
            )
        if not np.array_equal(self.negative_slope, other.negative_slope):
            raise ValueError(
                f"layer {self.name!r} has another slope in the second report: the model was trained in between, "
                "so their counts are not of one model"
            )
        return Layer(self.name, self.kind, self.negative_slope, self.counts + other.counts, self.ceiling)

    @property
    def _identity(self) -> str:
        return f"{self.name!r} ({self.kind}, {self.units} units)"

    def __repr__(self) -> str:
        return (
            f"<Layer {self._identity}: {len(self.silent_units)} silent, {len(self.always_on_units)} always on, "
            f"{self.samples} inputs a unit>"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """The layers of a network, in the order of their first call. Its repr is the table.

    Parameters
    ----------
    layers
        What was counted.
    unused
        Names of activations that were looked at and never called.

    Examples
    --------
    >>> counts = Counts(
    ...     samples=1000, calls=4, positive=[0, 480, 1000], nan=[0, 0, 0], saturated=[0, 0, 0],
    ...     outputs=[1000] * 3, mean=[0.0, 0.4, 1.9], m2=[0.0, 340.0, 250.0], relu_sum=[0.0, 400.0, 1900.0],
    ... )
    >>> report = Report([Layer("body.relu", "ReLU", 0.0, counts)])
    >>> report["body.relu"].silent_units, report["body.relu"].always_on_units
    (array([0]), array([2]))
    >>> report["body.relu"].positive_share
    array([0.  , 0.48, 1.  ])
    """

    layers: Sequence[Layer]
    unused: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "unused", tuple(self.unused))
        names = [layer.name for layer in self.layers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two layers have the name {twice[0]!r}: names must differ within a report")

    def __getitem__(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"no layer {name!r}; there are {', '.join(repr(layer.name) for layer in self.layers) or 'none'}")

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __contains__(self, name: object) -> bool:
        return any(layer.name == name for layer in self.layers)

    @property
    def units(self) -> int:
        """Units of all layers together."""
        return sum(layer.units for layer in self.layers)

    @property
    def silent(self) -> int:
        """Silent units of all layers together."""
        return sum(len(layer.silent_units) for layer in self.layers)

    @property
    def always_on(self) -> int:
        """Units of all layers together that are always on."""
        return sum(len(layer.always_on_units) for layer in self.layers)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What the numbers mean and what to do about it, the worst first; a healthy network is called so."""
        from leakyrelu.findings import find

        return find(self)

    def __add__(self, other: Report) -> Report:
        """Both taken together: as if all the data had been seen at once, in either order.

        Counts are exact; means and deviations agree to float64 rounding. A layer that ran in one of the two only is
        kept as it is.
        """
        if not isinstance(other, Report):
            return NotImplemented
        second = {layer.name: layer for layer in other.layers}
        together = [layer + second.pop(layer.name) if layer.name in second else layer for layer in self.layers]
        together += second.values()
        ran = {layer.name for layer in together}
        return Report(together, [n for n in dict.fromkeys([*self.unused, *other.unused]) if n not in ran])

    def __repr__(self) -> str:
        from leakyrelu.report.table import format_table

        return format_table(self)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Every count and every number derived from it, as JSON; also written to `path` if one is given.

        The field ``version`` grows when the meaning of a field changes. NaN and infinity are written as null.
        """
        from leakyrelu.report.serial import to_json

        return to_json(self, path)

    @staticmethod
    def from_json(text: str) -> Report:
        """Read back what `to_json` wrote: the counts, exactly."""
        from leakyrelu.report.serial import from_json

        return from_json(text)

    def _repr_html_(self) -> str:
        from leakyrelu.report.notebook import to_notebook

        return to_notebook(self)

    def to_frame(self) -> Any:
        """Give a `pandas.DataFrame` with one row a unit: its layer, its number, its shares, mean and deviation.

        Needs pandas and says so where it is missing.
        """
        from leakyrelu.report.frame import to_frame

        return to_frame(self)

    def to_png(self, path: str | os.PathLike[str], *, title: str = "What the units do", scale: float = 2.0) -> None:
        """Write the strips as a PNG: one a layer, in each color as long as the share of its units that have it.

        Needs the extra ``report`` and says so where it is missing.
        """
        from leakyrelu.report.diagnosis import write_picture

        write_picture(self, path, title=title, scale=scale)

    def to_html(self, path: str | os.PathLike[str], *, title: str = "What the units do", history: Any = None) -> None:
        """Write one HTML page, which works offline: findings, a strip of units per layer, distributions and the table.

        A `history` of the training (whatever has ``steps`` and, for each, a report in ``reports``) is drawn too.

        Needs the extra ``report`` and says so where it is missing.
        """
        from leakyrelu.report.diagnosis import write_diagnosis

        write_diagnosis(self, path, title=title, history=history)


def _ratio(part: NDArray[Any], whole: IntArray) -> FloatArray:
    """Part / whole, NaN where the whole is 0."""
    share: FloatArray = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return share
