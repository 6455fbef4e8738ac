"""Reinitialization of units as planned: fresh rows, zero columns, and reset state of the optimizer."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from leakyrelu.torch.revival.normalized_weights import balance_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from leakyrelu.torch.revival.layers import Layer
    from leakyrelu.torch.revival.unit_plan import Entries, Plan


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
