"""The counts of every layer of a network, as data: no finding, no text, no picture.

A *unit* is an output channel: a feature of a linear layer, a map of a convolution. Counted are signs of what goes
*into* the activation, over every sample and every position, so that the answer does not depend on the slope; a share of
zero *elements* would call a healthy ReLU half dead and a leaky network with silent units healthy.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, Self, TypeVar

from leakyrelu.diagnosis.input_check import merge_checks
from leakyrelu.diagnosis.layer import Layer, share_dormant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from leakyrelu.diagnosis.input_check import InputCheck


_Named = TypeVar("_Named", bound=Any)

SOURCES: Final = ("model", "onnx", "torchscript", "exported")
"""What was run: a live model, or a frozen program in a file, which none of the remedies can change."""


class NamedLayers(Generic[_Named]):
    """Layers that are looked up by name, and iterated over in their order."""

    layers: Sequence[_Named]

    def __getitem__(self, name: str) -> _Named:
        for layer in self:
            if layer.name == name:
                return layer
        raise KeyError(f"no layer {name!r}; there are {', '.join(repr(layer.name) for layer in self) or 'none'}")

    def __iter__(self) -> Iterator[_Named]:
        return iter(self.layers)

    def __contains__(self, name: object) -> bool:
        return any(layer.name == name for layer in self)


@dataclass(frozen=True, eq=False)
class Census(NamedLayers[Layer]):
    """The layers of a network, in the order of their first call.

    Parameters
    ----------
    layers
        What was counted.
    unused
        Names of activations that were looked at and never called.
    source
        What was run, one of `SOURCES`: it decides which remedies can be followed.
    command
        The arguments of the command line that counted, its name first, to be run again as a check; empty where no
        command did.
    data
        What the data held, one entry for each input of the network; empty where the data were not looked at.
    program
        What the model called while it was watched, for `leakyrelu.torch.revive`; None where that is not known. It
        adds up with the counts, and is left out of files, copies and pickles.
    """

    layers: Sequence[Layer]
    unused: Sequence[str] = ()
    source: str = "model"
    command: Sequence[str] = ()
    data: Sequence[InputCheck] = ()
    program: Any = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "program": None}

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source is {self.source!r}, which is none of {', '.join(map(repr, SOURCES))}")
        for name in ("layers", "unused", "command", "data"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        names = [layer.name for layer in self.layers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two layers have the name {twice[0]!r}: names must differ within a report")

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

    def dormant_ratio(self, tau: float) -> float:
        """Return the share of units that are tau-dormant, all layers together: `Layer.dormant_ratio`.

        Sokar et al. leave the output layer of the network out. Here every activation that was called counts: an output
        layer without an activation is not among them, one behind an activation is.
        """
        return share_dormant([layer.dormancy for layer in self.layers], tau)

    @property
    def first_nan_layer(self) -> Layer | None:
        """The first layer, in the order of calls, that saw a NaN; None where no layer did."""
        return next((layer for layer in self.layers if len(layer.nan_units)), None)

    def __add__(self, other: Census) -> Self:
        """Both taken together: as if all the data had been seen at once, in either order.

        Counts are exact; means and deviations agree to float64 rounding. A layer that ran in one of the two only is
        kept as it is.
        """
        if not isinstance(other, Census):
            return NotImplemented
        second = {layer.name: layer for layer in other.layers}
        together = [layer + second.pop(layer.name) if layer.name in second else layer for layer in self.layers]
        together += second.values()
        ran = {layer.name for layer in together}
        unused = [name for name in dict.fromkeys([*self.unused, *other.unused]) if name not in ran]
        command = self.command if self.command == other.command else ()
        data = merge_checks([*self.data, *other.data])
        known = self.program is not None and other.program is not None
        program = self.program + other.program if known else None
        return replace(self, layers=together, unused=unused, command=command, data=data, program=program)


class CensusSeries(Protocol):
    """The censuses of a training: its steps and, for each, the census taken at it."""

    @property
    def steps(self) -> Sequence[int]:
        """Steps of the training, oldest first."""

    @property
    def reports(self) -> Sequence[Census]:
        """One census a step."""
