"""Comparison of a model with itself before a change: a difference counts where it stays under roundings."""

import pytest
import torch
from torch import nn

from leakyrelu.torch.rewrite.outcome import Reference


class Scaled(nn.Module):
    """Multiplies by its weight; after `change`, also by a factor: always, or at the weight as it was alone."""

    def __init__(self, lengths=(5, 5)):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))
        self.factor, self.only_there, self.lengths = 1.0, False, lengths
        self.seen = []

    def change(self, factor, only_there):
        self.factor, self.only_there = factor, only_there

    def forward(self, x):
        self.seen.append(float(self.weight.detach()))
        is_there = self.weight.item() == torch.tensor(0.7).item()
        factor = self.factor if is_there or not self.only_there else 1.0
        return (x * self.weight * factor)[: self.lengths[not is_there]]


@pytest.mark.parametrize(
    ("factor", "only_there", "expected"),
    [
        (1.0, False, None),
        (1.00001, False, None),
        (1.01, False, "with it output 0 of the example differs"),
        (1.01, True, None),
        (float("nan"), False, "with it output 0 of the example differs"),
        (float("nan"), True, None),
    ],
)
def test_a_difference_counts_if_it_is_there_at_each_rounding(factor, only_there, expected):
    torch.manual_seed(0)
    model = Scaled()
    reference = Reference(model, torch.randn(5))
    model.change(factor, only_there)
    assert reference.difference() == expected
    assert model.weight.item() == torch.tensor(0.7).item()
    # The parameter was rounded in its last digit, not more.
    assert {abs(each - model.seen[0]) < 2e-7 for each in model.seen} == {True}
    assert len(set(model.seen)) > 1


def test_an_output_whose_length_depends_on_a_rounding_is_not_compared():
    torch.manual_seed(0)
    model = Scaled((5, 4))
    reference = Reference(model, torch.randn(5))
    assert reference.difference() is None
    model.lengths = (5, 3)
    assert reference.difference() is None


def test_an_error_is_named():
    model = Scaled()
    reference = Reference(model, torch.randn(5))

    def broken(x):
        raise RuntimeError("no\nmore")

    model.forward = broken
    assert reference.difference() == "with it the example raises: no"
