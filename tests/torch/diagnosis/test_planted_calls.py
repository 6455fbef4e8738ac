"""Planted units of activations that are calls: exactly these are found, at any slope."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.calling import Call
from torch import nn
from torch.nn import functional as F

from leakyrelu.torch import diagnose, leaky_relu

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Planted(nn.Module):
    """A random network whose inputs lie in [-1, 1] at every layer, so that weights and bias bound what a unit does."""

    def __init__(self, dimensions, widths, call, style, seed) -> None:
        super().__init__()
        kinds = {0: nn.Linear, 1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
        kernel = () if dimensions == 0 else (1,)
        before, self.layers = 3, nn.ModuleList()
        for width in widths:
            self.layers.append(kinds[dimensions](before, width, *kernel))
            before = width
        self.call, self.style = call, style
        self.shared = nn.LeakyReLU(0.1) if style == "shared" else None
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x):
        for layer in self.layers:
            h = layer(x)
            h = self.shared(h) if self.shared is not None else self.call(h)
            x = h + x if self.style == "residual" and h.shape == x.shape else h
            x = x / x.abs().amax().clamp(min=1e-30)  # all units of a layer may be dead
        return x


@FEW
@given(data=st.data())
@pytest.mark.parametrize("style", ["functional", "residual", "shared"])
def test_exactly_the_planted_units_are_found(style, data):
    dimensions = data.draw(st.integers(0, 3), "dimensions")
    width = data.draw(st.integers(3, 7), "width")
    widths = [width] * data.draw(st.integers(1, 3), "depth")
    slope = data.draw(st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5]), "slope")
    call = data.draw(
        st.sampled_from(
            [
                lambda h: F.leaky_relu(h, slope),
                lambda h: F.leaky_relu_(h, slope),
                lambda h: leaky_relu(h, slope, inplace=True),
                lambda h: F.prelu(h, torch.full((1,), slope, dtype=h.dtype)),
            ]
            + [lambda h: h.relu_()] * (slope == 0)
        )
    )
    model = Planted(dimensions, widths, call, style, data.draw(st.integers(0, 99), "seed"))
    kinds = data.draw(
        st.lists(st.sampled_from(["dead", "on", "rare", "free"]), min_size=width, max_size=width), "units"
    )
    n = 24
    rare = data.draw(st.integers(0, n - 1), "sample that wakes the nearly dead")
    x = torch.randn(n, 3, *[2] * dimensions, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    x[:, 0] = 0.0
    x[rare, 0] = 1.0
    x[:, 1] = torch.where(torch.arange(n).reshape(-1, *[1] * dimensions) % 2 == 0, 1.0, -1.0)
    for index, layer in enumerate(model.layers):
        for unit, kind in enumerate(kinds):
            with torch.no_grad():
                weight = layer.weight[unit]
                weight *= 2 / weight.abs().sum()  # inputs lie in [-1, 1], so what it adds to the bias is at most 2
                layer.bias[unit] = -5.0 if kind == "dead" else 5.0
                if index == 0 and kind in ("rare", "free"):
                    weight.zero_()
                    weight.reshape(-1)[0 if kind == "rare" else 1] = 10.0
                    layer.bias[unit] = -5.0 if kind == "rare" else 0.0
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16]), "dtype")
    model.to(dtype)
    order = torch.tensor(data.draw(st.permutations(range(n)), "order"))
    report = diagnose(model, x.to(dtype)[order].split(data.draw(st.integers(1, n), "batch size")))

    positions = 2**dimensions
    assert len(report.layers) == len(widths)
    for index, layer in enumerate(report.layers):
        planted = {kind: {u for u, k in enumerate(kinds) if k == kind} for kind in ("dead", "on", "rare", "free")}
        if index > 0:
            planted["on"] |= planted["rare"] | planted["free"]
        else:
            assert all(layer.counts.positive[unit] == positions for unit in planted["rare"])
            assert all(layer.counts.positive[unit] == n // 2 * positions for unit in planted["free"])
        assert set(layer.silent_units) == planted["dead"]
        assert set(layer.always_on_units) == planted["on"]
        assert layer.samples == n * positions


@pytest.mark.parametrize("slope", [0.001, 0.01, 0.1, 0.5])
def test_silent_at_every_slope_where_a_count_of_zeros_finds_nothing(slope):
    torch.manual_seed(0)
    model = Call(lambda x: F.leaky_relu(x, slope))
    with torch.no_grad():
        model.linear.bias[:3] = -50.0
    x = torch.randn(300, 4)
    assert (model(x) == 0).sum() == 0
    assert diagnose(model, x).layers[0].silent_units.tolist() == [0, 1, 2]
