"""Layers that make the units of an activation, and which of their channels these are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leakyrelu.torch.graph.calls import Call
    from leakyrelu.torch.revival.operations import NotRevivableError


@dataclass
class Producer:
    """A layer that makes units: the channels that they are, labeled, and what a sum adds to them in the mean.

    `beside` labels the units in other activations, which are silent there. `refusal` is why some are not in `channels`.
    """

    group: Sequence[Call]
    channels: Tensor
    beside: dict[Call, Tensor] = field(default_factory=dict)
    refusal: NotRevivableError | None = None
    branch: dict[int, float] = field(default_factory=dict)  # the mean of its branch, by unit
    others: dict[int, float] = field(default_factory=dict)  # that of the others, in its own scale

    @property
    def units(self) -> frozenset[int]:
        """Numbers of the units."""
        return frozenset(int(label) - 1 for label in self.channels.tolist() if label > 0)

    def of(self, units: frozenset[int], labels: Tensor | None = None) -> Tensor:
        """Keep the labels of these units, of the channels or of another tensor."""
        labels = self.channels if labels is None else labels
        kept = torch.tensor([unit + 1.0 for unit in units])
        return torch.where(torch.isin(labels, kept), labels, 0.0)


def lowest(producers: Sequence[Producer], missing: frozenset[int]) -> tuple[Producer, frozenset[int]]:
    """Return the first producer, and the units that it makes and for which no other gives out less in the mean."""
    first, *rest = producers
    covered = set(first.units & missing)
    for each in rest:
        covered -= {unit for unit in covered & each.units if each.branch.get(unit, 0.0) < first.branch.get(unit, 0.0)}
    return first, frozenset(covered)
