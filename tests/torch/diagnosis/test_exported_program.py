"""Exported programs with their rectifiers as modules: the same numbers, and the units where they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.torch import diagnose
from leakyrelu.torch.diagnosis.exported_program import rectifiers_as_modules


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.linear, self.slopes = (
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.Linear(4, 6),
            nn.PReLU(6),
        )

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)) + 1)
        x = F.leaky_relu(self.linear(x.permute(0, 2, 3, 1)), 0.2)
        x = F.relu6(self.linear(x[..., :4]))
        x = F.hardtanh(self.slopes(x.mean((1, 2))), 0, 6)
        return x.clamp(min=0) + x.clamp(-1, 1) + x.clamp_min(0)


@torch.no_grad()
def test_the_numbers_are_the_same_and_the_units_are_found():
    torch.manual_seed(0)
    model = Everything().eval()
    nn.init.constant_(model.conv.bias[:2], -100.0)
    model.norm.running_mean.zero_()
    x = torch.randn(30, 1, 7, 7)
    module, unit_axis = rectifiers_as_modules(torch.export.export(model, (x,)))
    torch.testing.assert_close(module(x), model(x), rtol=0, atol=0)
    report = diagnose(module, [x], unit_axis=unit_axis)
    found = [(layer.kind, layer.units, layer.samples) for layer in report.layers]
    assert found == [
        ("relu", 4, 30 * 25),
        ("leaky_relu", 6, 30 * 25),
        ("relu6", 6, 30 * 25),
        ("PReLU", 6, 30),
        ("hardtanh", 6, 30),
        ("clamp", 6, 30),
        ("clamp", 6, 30),
    ]
    assert report.layers[0].silent_units.tolist() == [0, 1]
    assert report.layers[1].negative_slope == 0.2
    assert report.layers[3].negative_slope.tolist() == [0.25] * 6


class Bounds(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.register_buffer("table", torch.tensor([-1.0, 2.0, 0.0, 3.0]))

    def forward(self, x):
        return torch.clamp(self.linear(x), self.table) + torch.relu(self.table)


def test_rectifiers_of_buffers_are_read_and_clamps_by_buffers_are_left():
    module, unit_axis = rectifiers_as_modules(torch.export.export(Bounds().eval(), (torch.ones(5, 3),)))
    report = diagnose(module, torch.ones(5, 3), unit_axis=unit_axis)
    assert [(layer.name, layer.kind, layer.units, len(layer.silent_units)) for layer in report.layers] == [
        ("relu()", "relu", 4, 2)
    ]
