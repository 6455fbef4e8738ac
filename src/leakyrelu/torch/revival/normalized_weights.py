"""Weights that are normalized row by row, with a gain: how units that a layer with such weights takes are cut off.

The weights of a row are ``gain * k * (w - mean(w))``, with k of the row's variance. Columns that become 0 change the
mean of the others, so a column of units that stay silent, the carrier, takes what they held of the sum: the others keep
their deviation from the mean, and the gain makes up for the variance. A weight norm, ``gain * w / norm(w)``, needs no
carrier.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from leakyrelu.torch.revival.layers import Layer
    from leakyrelu.torch.revival.unit_plan import Entries, Plan


def is_normalized(layer: Layer) -> bool:
    """Whether the weights of a layer are normalized by row and multiplied by a gain, which is found by trial."""
    weight, gain = layer.tensors["weight"], layer.tensors.get("gain")
    if not layer.centered:
        return True
    if layer.effective is None or gain is None or layer.kind not in ("linear", "convolution"):
        return False
    tolerance = 100 * torch.finfo(weight.dtype).eps ** 0.5
    count = weight.numel()
    waves = (
        torch.linspace(-1.0, 1.0, count, device="cpu").sin().add(0.3)
        * torch.linspace(7.0, 90.0, count, device="cpu").cos()
    )
    probe, ones = waves.reshape(weight.shape).to(weight), torch.ones_like(gain)
    other = torch.cat([-3.0 * probe[:1], probe[1:]])
    with torch.no_grad():
        first = layer.effective(probe, ones).flatten(1)
        second = layer.effective(other, 2.0 * ones).flatten(1)
    centered = probe.flatten(1) - probe.flatten(1).mean(1, keepdim=True)
    factor = (first * centered).sum(1, keepdim=True) / centered.square().sum(1, keepdim=True)
    by_row = torch.allclose(first, factor * centered, rtol=tolerance, atol=tolerance * float(first.abs().max()))
    return by_row and torch.allclose(second[1:], 2.0 * first[1:], rtol=tolerance)


def carriers(plans: Iterable[Plan]) -> dict[str, set[int]]:
    """Choose units that stay silent, by the name of their activation: those of one column of each layer and group."""
    columns: dict[int, dict[int, set[tuple[str, int]]]] = defaultdict(lambda: defaultdict(set))
    layers: dict[int, Layer] = {}
    for plan in plans:
        for layer, units in plan.balanced:
            if not layer.centered:
                continue
            layers[layer.key] = layer
            for column in (units > 0).nonzero().flatten().tolist():
                columns[layer.key][column].add((plan.name, int(units[column]) - 1))
    chosen: set[tuple[str, int]] = set()
    for key, found in columns.items():
        size = layers[key].tensors["weight"].shape[1]
        for group in sorted({column // size for column in found}):
            inside = [column for column in sorted(found) if column // size == group]
            chosen |= found[next((column for column in inside if found[column] <= chosen), inside[0])]
    by_name: dict[str, set[int]] = defaultdict(set)
    for name, unit in chosen:
        by_name[name].add(unit)
    return dict(by_name)


def balance(layer: Layer, columns: Tensor, carrying: Tensor) -> Entries:
    """Make columns of the standardized weights zero, and leave their sum to those that carry; return what was set."""
    weight, gain = layer.tensors["weight"], layer.tensors["gain"]
    effective = layer.effective
    assert effective is not None
    cut, carry = ((layer.columns(each.double()) > 0).to(weight.device) for each in (columns, carrying))
    kept = ~(cut | (carry & layer.centered))
    before = effective(weight, gain).double()
    rows = weight.double().flatten(1)
    if layer.centered:
        rows = rows - rows.mean(1, keepdim=True)
    rows = rows.reshape(weight.shape)
    sums = torch.where(kept, rows, 0.0).flatten(1).sum(1)
    shares = -sums / carry.flatten(1).sum(1).clamp(min=1)
    shares = shares.reshape(-1, *(1,) * (weight.ndim - 1)).expand(weight.shape)
    touched = cut.flatten(1).any(1)
    new = torch.where(cut, 0.0, torch.where(carry & layer.centered, shares, rows))
    weight[touched] = new[touched].to(weight)
    after = torch.where(kept, effective(weight, gain).double(), 0.0).flatten(1)
    before = torch.where(kept, before, 0.0).flatten(1)
    ratio = (before * before).sum(1) / (before * after).sum(1)
    ratio = torch.where(touched & ratio.isfinite(), ratio, 1.0)
    gain *= ratio.reshape(gain.shape).to(gain)
    return weight, cut


def balance_all(plans: Iterable[Plan], carrying: Mapping[int, Tensor]) -> Iterable[Entries]:
    """Cut off the units of all plans from each layer with standardized weights."""
    found: dict[int, tuple[Layer, Tensor]] = {}
    for plan in plans:
        for layer, units in plan.balanced:
            columns = found[layer.key][1] if layer.key in found else torch.zeros_like(units, dtype=torch.bool)
            found[layer.key] = layer, columns | (units > 0)
    for key, (layer, columns) in found.items():
        yield balance(layer, columns, carrying[key] & ~columns)


def columns_of(plans: Iterable[Plan]) -> dict[int, Tensor]:
    """Return which columns of each layer with standardized weights are of silent units."""
    found: dict[int, Tensor] = {}
    for plan in plans:
        for layer, units in plan.balanced:
            found[layer.key] = found[layer.key] | (units > 0) if layer.key in found else units > 0
    return found
