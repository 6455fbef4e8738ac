"""Reinitialization of the units of one activation: fresh rows, zero columns, and reset state of the optimizer."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from leakyrelu.torch.revival.layers import TRANSPOSED
from leakyrelu.torch.revival.normalized_weights import balance_all
from leakyrelu.torch.revival.operations import CarrierNeededError, NotRevivableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from leakyrelu.torch.revival.layers import Layer
    from leakyrelu.torch.revival.means import Taken

    Entries = tuple[Tensor, Tensor]  # entries of a tensor that were set, as a mask

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


def carry_out(
    plans: Iterable[Plan], initializer: Callable[[nn.Module], object] | None, carrying: Mapping[int, Tensor]
) -> list[Entries]:
    """Change the model as planned; return the entries that were set. `carrying` is as for `balance_all`.

    What holds the present output goes first, and zero columns last: a revived unit may be an input of another.
    """
    changed: list[Entries] = []
    plans = list(plans)
    for plan in plans:
        for layer, columns, constants in plan.folded:
            weight, bias = layer.tensors["weight"], layer.tensors["bias"]
            bias += (weight * _by_unit(columns, constants, weight)).flatten(1).sum(1)
        for tensor, axis, place, others, factors in plan.carried:
            shape = [-1 if each == axis else 1 for each in range(tensor.ndim)]
            added = tensor.index_select(axis, others.to(tensor.device)) * factors.to(tensor).reshape(shape)
            tensor.select(axis, place).add_(added.sum(axis))
        for tensor, labels, values in plan.set_first:
            mask = _mask(labels, tensor)
            tensor[mask] = _by_unit(labels, values, tensor)[mask]
            changed.append((tensor, mask))
    for plan in plans:
        for tensor, labels, factors in plan.scaled:
            mask = _mask(labels, tensor)
            tensor[mask] *= _by_unit(labels, factors, tensor)[mask]
            changed.append((tensor, mask))
    for plan in plans:
        means = torch.zeros(max(plan.units) + 1, dtype=torch.float64, device="cpu")  # of the new units, by unit
        for layer, channels, taken in plan.renewed:
            fresh = _plain_copy(layer.module)
            fresh.reset_parameters() if initializer is None else initializer(fresh)
            rows = layer.rows(channels)
            if taken.shape:  # a trace knows none of the network's input
                made, known = taken.made(fresh)
                centered = known if plan.centered else torch.zeros_like(known)
                here = channels > 0
                means[channels[here].long() - 1] = torch.where(centered, made, 0.0)[here]
                if initializer is None:
                    _scale_rows(layer, fresh, torch.where(centered | (made >= 0), 1.0, -1.0))
            for name in ("weight", "bias", "gain"):
                if name in rows:
                    mask = _mask(rows[name], layer.tensors[name])
                    value = getattr(fresh, name, None)
                    if value is None:  # the gain of a weight norm
                        value = fresh.weight.flatten(1).norm(dim=1).reshape(layer.tensors[name].shape)
                    layer.tensors[name][mask] = value[mask]
                    changed.append((layer.tensors[name], mask))
        for tensor, labels, value in plan.reset_to:
            mask = _mask(labels, tensor)
            tensor[mask] = value
            changed.append((tensor, mask))
        for mean, labels in plan.centered:
            if mean is not None:
                mask = _mask(labels, mean)
                mean[mask] = _by_unit(labels, means, mean)[mask]
            means[labels[labels > 0].long() - 1] = 0.0  # behind the norm
        for layer, channels, taken in plan.turned:
            weight, center = layer.tensors["weight"], layer.tensors.get("running_mean")
            mask = _mask(channels, weight)
            above = weight <= 0
            if taken.means is not None and center is not None:
                above = taken.means.to(center) > center
            weight[mask] = torch.where(above[mask], 1.0, -1.0).to(weight)
            changed.append((weight, mask))
            if "bias" in layer.tensors:
                layer.tensors["bias"][mask] = 0.0
                changed.append((layer.tensors["bias"], mask))
        for bias, labels, values in plan.shifted:
            bias += _by_unit(labels, values, bias)
    for tensor, mask in _cut(plans):
        tensor[mask] = 0.0
        changed.append((tensor, mask))
    changed += balance_all(plans, carrying)
    return changed


def _plain_copy(module: Any) -> Any:
    """Copy a layer, with weights of its own where a weight norm computes them."""
    weight = module.weight
    fresh = copy.deepcopy(module, {} if isinstance(weight, nn.Parameter) else {id(weight): weight.detach()})
    if parametrize.is_parametrized(fresh, "weight"):
        del fresh.parametrizations  # `remove_parametrizations` would change the class, which the layer shares
        fresh.__class__ = type(module).__bases__[0]
        fresh.weight = nn.Parameter(weight.detach().clone())
    elif hasattr(fresh, "weight_g"):
        nn.utils.remove_weight_norm(fresh)
    return fresh


def _cut(plans: Iterable[Plan]) -> Iterable[Entries]:
    """Return the entries that become zero: not the rows of new units that are made of new units alone."""
    masks: dict[int, Entries] = {}
    for plan in plans:
        for tensor, labels in plan.cut:
            mask = _mask(labels, tensor)
            masks[id(tensor)] = tensor, masks[id(tensor)][1] | mask if id(tensor) in masks else mask
    for plan in plans:
        for layer, channels, _ in plan.renewed:
            if (key := id(layer.tensors["weight"])) in masks:
                tensor, mask = masks[key]
                rows = layer.rows(torch.arange(1, len(channels) + 1, device="cpu"))["weight"]
                kept = rows[~mask.cpu()].bincount(minlength=len(channels) + 1)[1:]
                only = layer.rows((channels > 0) & (kept == 0))["weight"]
                masks[key] = tensor, mask & ~only.to(mask.device)
    return masks.values()


def _scale_rows(layer: Layer, module: Any, factors: Tensor) -> None:
    """Multiply what a module like that of a layer makes, by channel."""
    for name, labels in layer.rows(torch.arange(1, len(factors) + 1, device="cpu")).items():
        if name == "gain":
            continue
        getattr(module, name).mul_(_by_unit(labels, factors, getattr(module, name)))


def _mask(labels: Tensor, tensor: Tensor) -> Tensor:
    return (labels > 0).to(tensor.device)


def _by_unit(labels: Tensor, values: Tensor, like: Tensor) -> Tensor:
    """Return a number for each entry: that of its unit, 0 for an entry of none."""
    padded = torch.cat([torch.zeros(1, dtype=torch.float64, device="cpu"), values.double()])
    return padded[labels.clamp(min=0).long()].to(like)


def reset_state(optimizer: torch.optim.Optimizer, changed: Iterable[Entries]) -> Iterator[str]:
    """Reset the state of an optimizer at these entries; yield what was reset, in words."""
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    names: set[str] = set()
    steps = False
    for parameter, where in changed:
        for name, value in optimizer.state.get(parameter, {}).items():
            if not isinstance(value, Tensor):
                continue
            if value.shape == parameter.shape and value.ndim:
                # Adagrad's sum starts at an argument of it, everything else at 0.
                group = groups.get(id(parameter), {})
                value[where] = float(group.get("initial_accumulator_value", 0.0)) if name == "sum" else 0.0
                names.add(name)
            elif name == "step":
                steps = True
    if names:
        yield f"optimizer ({type(optimizer).__name__}): {', '.join(sorted(names))} of these entries reset"
    if steps and "exp_avg_sq" in names:
        yield "  step is one number a parameter and stays: their first updates can exceed the learning rate"
