"""What is to be done to the tensors that make and take the units of one activation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from leakyrelu.torch.revival.layers import TRANSPOSED
from leakyrelu.torch.revival.operations import CarrierNeededError, NotRevivableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leakyrelu.torch.revival.layers import Layer
    from leakyrelu.torch.revival.means import Taken

Entries = tuple[Tensor, Tensor]
"""Entries of a tensor that were set, as a mask."""

_DRAWN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
_RESET = {"running_mean": 0.0, "running_var": 1.0, "weight": 1.0, "bias": 0.0}


@dataclass
class Plan:
    """Units of one activation, and what is done to the tensors that make and take them.

    Labels of tensors are 0, or 1 + the number of a unit. `flips` is whether the sign of the units is changed, so that
    they fire where they were silent, in place of drawing them again.
    """

    name: str
    units: tuple[int, ...]
    flips: bool
    carrier: int | None = None  # another silent unit, which gives out the constant of these, too
    set_first: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)  # tensor, labels, values by unit
    folded: list[tuple[Layer, Tensor, Tensor]] = field(default_factory=list)
    scaled: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)  # tensor, labels, factors by unit
    renewed: list[tuple[Layer, Tensor, Taken]] = field(default_factory=list)
    centered: list[tuple[Tensor | None, Tensor]] = field(default_factory=list)  # running mean of a norm, labels
    reset_to: list[tuple[Tensor, Tensor, float]] = field(default_factory=list)
    turned: list[tuple[Layer, Tensor, Taken]] = field(default_factory=list)
    shifted: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)  # bias, labels, values by unit
    carried: list[tuple[Tensor, int, int, Tensor, Tensor]] = field(default_factory=list)  # as `_carry` takes them
    cut: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    balanced: list[tuple[Layer, Tensor]] = field(default_factory=list)  # layers with standardized weights, units

    def extend(self, other: Plan) -> None:
        """Add what is done to layers in front of a normalization."""
        self.scaled += other.scaled
        self.renewed += other.renewed
        self.centered += other.centered
        self.reset_to += other.reset_to
        self.turned += other.turned

    # Layers that make the units

    def renew(self, layer: Layer, channels: Tensor, taken: Taken) -> None:
        """Draw the rows of a layer again, which is called on data of these means."""
        if not isinstance(layer.module, _DRAWN):
            raise NotRevivableError(f"the weights of {layer.name} are those of no layer that can draw them again")
        self.renewed.append((layer, channels, taken))

    def scale_rows(self, layer: Layer, channels: Tensor) -> None:
        """Change the sign of what a layer or normalization makes."""
        rows = layer.rows(channels)
        names = ("weight", "bias") if "weight" in rows else ("running_mean",)
        factors = torch.full((int(channels.max()),), -1.0, dtype=torch.float64)
        self.scaled += [(layer.tensors[name], rows[name], factors) for name in names if name in rows]

    def reset(self, layer: Layer, channels: Tensor) -> None:
        """Set weights and statistics of a normalization back to where they begin, the mean to that of the new rows."""
        self.reset_to += [(layer.tensors[name], channels, _RESET[name]) for name in layer.tensors]
        self.centered.append((layer.tensors.get("running_mean"), channels))

    def reset_affine(self, layer: Layer, channels: Tensor, taken: Taken) -> None:
        """Set the weights of a normalization alone, so that units fire where they never did."""
        self.turned.append((layer, channels, taken))

    def shift(self, layer: Layer, channels: Tensor, others: Mapping[int, float]) -> None:
        """Make up for what a sum adds to the units in the mean, by number of the unit."""
        if "bias" in layer.tensors:
            values = torch.tensor([-others.get(unit, 0.0) for unit in range(max(others) + 1)], dtype=torch.float64)
            labels = torch.where(channels <= len(values), channels, 0.0)
            self.shifted.append((layer.tensors["bias"], labels, values))

    # Layers that take them

    def take(self, layer: Layer, units: Tensor, constants: Tensor, slopes: Tensor, padded: bool) -> None:
        """Make every weight zero that takes the units, or scale it by what a change of sign takes."""
        columns = layer.columns(units)
        if layer.effective is not None:
            if self.flips or bool(constants.any()):
                raise NotRevivableError(f"the weights of {layer.name}, which takes them, are {layer.computed}")
            self.balanced.append((layer, units))
            return
        if self.flips:
            self.scaled.append((layer.tensors["weight"], columns, -slopes))
            return
        if self.carrier is not None:
            if bool(constants.any()):
                self._carry(layer, units, constants)
            columns = layer.columns(self._without_carrier(units))
        elif bool(constants.any()):
            if "bias" not in layer.tensors:
                raise CarrierNeededError(
                    f"what they give out on average cannot be folded into {layer.name}: it has no bias"
                )
            if layer.kind == "transposed" or padded:
                raise CarrierNeededError(f"what they give out on average cannot be folded into {layer.name}: it pads")
            self.folded.append((layer, columns, constants))
        self.cut.append((layer.tensors["weight"], columns))

    def _without_carrier(self, units: Tensor) -> Tensor:
        return torch.where(units == (self.carrier or 0) + 1, 0.0, units)

    def _carry(self, layer: Layer, units: Tensor, constants: Tensor) -> None:
        """Add the weights of the units to those of the carrier, which gives out the same, up to a factor."""
        carrier = self.carrier or 0
        places, rest = (
            (units == carrier + 1).nonzero().flatten(),
            (self._without_carrier(units) > 0).nonzero().flatten(),
        )
        made = units[rest].long() - 1
        alone = len(places) == 1 and len(set(made.tolist())) == len(made) and layer.groups == 1
        if not alone or not bool(constants[carrier] != 0):
            raise NotRevivableError(f"what they give out cannot be left to one of them in {layer.name}")
        axis = 0 if layer.kind == "transposed" else 1
        factors = constants[made] / constants[carrier]
        self.carried.append((layer.tensors["weight"], axis, int(places), rest, factors))

    def take_by_norm(self, layer: Layer, units: Tensor, constants: Tensor, slopes: Tensor) -> None:
        """Let a normalization give out what it gave out: its weight becomes zero, its bias that number."""
        mean, variance = layer.tensors.get("running_mean"), layer.tensors.get("running_var")
        weight, bias = layer.tensors["weight"], layer.tensors.get("bias")
        if layer.kind != "batch_norm":
            mean = variance = None
        if self.carrier is not None:
            units = self._without_carrier(units)
        rows = units > 0
        made = units[rows].long() - 1
        if self.flips:
            if mean is None or variance is None:
                raise NotRevivableError(
                    f"their output goes into {layer.name}, which has no running statistics to be scaled with them"
                )
            old = variance[rows].double().cpu()
            slope = slopes[made]
            new = old / slope**2
            factor = -slope * ((new + layer.eps) / (old + layer.eps)).sqrt()
            for tensor, factors in ((mean, -1 / slope), (variance, slope**-2), (weight, factor)):
                self.scaled.append((tensor, units, torch.zeros(len(slopes)).double().index_put_((made,), factors)))
            return
        out = torch.zeros(len(made), dtype=torch.float64)
        if mean is not None and variance is not None:
            deviation = (variance[rows].double() + layer.eps).sqrt().cpu()
            out = (constants[made] - mean[rows].double().cpu()) / deviation * weight[rows].double().cpu()
        if bias is None:
            if bool(out.any()):
                raise NotRevivableError(f"{layer.name} has no bias to hold what it gives out for them")
        else:
            values = torch.zeros(len(slopes), dtype=torch.float64)
            values[made] = (out + bias[rows].double().cpu()).detach()
            self.set_first.append((bias, units, values))
        self.set_first.append((weight, units, torch.zeros(len(slopes), dtype=torch.float64)))
        if mean is not None and variance is not None:
            self.reset_to += [(mean, units, 0.0), (variance, units, 1.0)]
