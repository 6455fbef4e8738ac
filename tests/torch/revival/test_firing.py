"""New units fire on the data where what the report measured says how they can."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.torch import diagnose, revive

HALF = list(range(0, 32, 2))


def network(*between, feeds=None, width=32):
    """Two layers, the inputs of the second far from 0 in the mean; what is between it and its activation."""
    feeds = feeds or nn.Conv2d(32, width, 3, padding=1)
    model = nn.Sequential(nn.Conv2d(2, 32, 3), nn.ReLU(), feeds, *between, nn.ReLU(), nn.Conv2d(width, 3, 1))
    with torch.no_grad():
        model[0].bias += 3.0
        last = model[2 + len(between)]
        last.weight[HALF], last.bias[HALF] = 0.0, -1.0
    return model.double().eval()


def stale(norm):
    """Give a norm running statistics of other data."""
    with torch.no_grad():
        norm.running_mean.uniform_(-1.0, 1.0), norm.running_var.uniform_(0.5, 2.0)
    return norm


NETWORKS = {
    "convolution": lambda: network(),
    "batch norm": lambda: network(stale(nn.BatchNorm2d(32))),
    "two norms": lambda: network(stale(nn.BatchNorm2d(32)), stale(nn.BatchNorm2d(32))),
    "channels apart": lambda: network(stale(nn.BatchNorm2d(32)), feeds=nn.Conv2d(32, 32, 3, groups=32)),
    "transposed": lambda: network(stale(nn.BatchNorm2d(32)), feeds=nn.ConvTranspose2d(32, 32, 3)),
}


@pytest.mark.parametrize("kind", NETWORKS)
@torch.no_grad()
def test_all_new_units_fire(kind):
    model, x = NETWORKS[kind](), torch.randn(4, 2, 9, 9).double()
    before, report = model(x), diagnose(model, x)
    done = revive(model, report)
    assert done.units == report.silent >= len(HALF)
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)
    after = diagnose(model, x)
    assert after.silent == 0
    if kind == "batch norm":  # its running mean is that of the new rows: they fire on about half of the data
        assert (abs(after.layers[1].positive_share[HALF] - 0.5) < 0.35).all()


class TwoBranches(nn.Module):
    """The activation takes a batch norm of a sum, a slice, a product with a gate or a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem, self.one, self.other = nn.Conv2d(2, 16, 3), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.conv, self.norm, self.out = nn.Conv2d(32, 32, 3), stale(nn.BatchNorm2d(32)), nn.Conv2d(32, 3, 1)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = torch.cat([x[:, :8] * torch.sigmoid(x[:, 8:]), x[:, 8:], self.one(x) + self.other(x)], 1)
        return self.out(F.relu(self.norm(self.conv(F.avg_pool2d(x, 2)))))


@torch.no_grad()
def test_means_are_followed_through_branches():
    model, x = TwoBranches().double().eval(), torch.randn(4, 2, 16, 16).double()
    model.stem.bias += 3.0
    model.norm.weight[HALF], model.norm.bias[HALF] = 0.0, -1.0
    report = diagnose(model, x)
    assert revive(model, report).units == report.silent >= len(HALF)
    assert diagnose(model, x).silent == 0


@torch.no_grad()
def test_new_units_behind_a_layer_of_silent_units_take_those():
    model, x = network(), torch.randn(4, 2, 9, 9).double()
    model[0].weight[:], model[0].bias[:] = 0.0, -1.0
    before, report = model(x), diagnose(model, x)
    assert revive(model, report).units == report.silent >= 32 + len(HALF)
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)
    after = diagnose(model, x)
    assert after.silent == 0
    kept = [unit for unit in range(32) if unit not in report.layers[-1].silent_units]
    assert (model[2].weight[kept] == 0).all()


@torch.no_grad()
def test_an_initializer_is_left_as_it_is():
    model, x = network(), torch.randn(4, 2, 9, 9).double()
    revive(model, diagnose(model, x), initializer=lambda layer: nn.init.constant_(layer.weight, -0.5))
    assert (model[2].weight[HALF] == -0.5).all()
