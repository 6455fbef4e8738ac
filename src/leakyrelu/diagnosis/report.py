"""What every unit of a network did with the data it saw: per-unit counts, and the report read from them.

A *unit* is an output channel: a feature of a linear layer, a map of a convolution. Counted are signs of what goes
*into* the activation, over every sample and every position, so that the answer does not depend on the slope; a share of
zero *elements* would call a healthy ReLU half dead and a leaky network with silent units healthy.

`Counts` is what is held (exact integers, float64 moments, one number a unit), `Layer` derives everything else from it,
`Report` is the layers in the order they ran. Nothing here imports a framework: NumPy is all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from leakyrelu.diagnosis.findings import Finding
    from leakyrelu.diagnosis.layer import Layer

    IntArray = NDArray[np.int64]
    FloatArray = NDArray[np.float64]


__all__ = ["Report"]


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
    >>> from leakyrelu.diagnosis import Counts, Layer, Report
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
        from leakyrelu.diagnosis.findings import find

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
        from leakyrelu.diagnosis.render.text import format_table

        return format_table(self)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Every count and every number derived from it, as JSON; also written to `path` if one is given.

        The field ``version`` grows when the meaning of a field changes. NaN and infinity are written as null.
        """
        from leakyrelu.diagnosis.render.serialize import to_json

        return to_json(self, path)

    @staticmethod
    def from_json(text: str) -> Report:
        """Read back what `to_json` wrote: the counts, exactly."""
        from leakyrelu.diagnosis.render.serialize import from_json

        return from_json(text)

    def _repr_html_(self) -> str:
        from leakyrelu.diagnosis.render.notebook import to_notebook

        return to_notebook(self)

    def to_frame(self) -> Any:
        """Give a `pandas.DataFrame` with one row a unit: its layer, its number, its shares, mean and deviation.

        Needs pandas and says so where it is missing.
        """
        from leakyrelu.diagnosis.render.dataframe import to_frame

        return to_frame(self)

    def to_png(self, path: str | os.PathLike[str], *, title: str = "What the units do", scale: float = 2.0) -> None:
        """Write the strips as a PNG: one a layer, in each color as long as the share of its units that have it.

        Needs the extra ``report`` and says so where it is missing.
        """
        from leakyrelu.diagnosis.render.html import write_picture

        write_picture(self, path, title=title, scale=scale)

    def to_html(self, path: str | os.PathLike[str], *, title: str = "What the units do", history: Any = None) -> None:
        """Write one HTML page, which works offline: findings, a strip of units per layer, distributions and the table.

        A `history` of the training (whatever has ``steps`` and, for each, a report in ``reports``) is drawn too.

        Needs the extra ``report`` and says so where it is missing.
        """
        from leakyrelu.diagnosis.render.html import write_diagnosis

        write_diagnosis(self, path, title=title, history=history)
