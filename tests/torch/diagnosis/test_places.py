"""Every place where an activation is called is a row of its own, with what feeds it; a dead unit at one is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.torch import diagnose, watch


def silent(report):
    return {layer.name: layer.silent_units.tolist() for layer in report.layers}


class Sums(nn.Module):
    """Three residual sums into one activation; the biases decide how much of each sum is positive."""

    def __init__(self, kind, act) -> None:
        super().__init__()
        self.layers = nn.ModuleList([kind(4, 4) for _ in range(3)])
        self.act = act

    def forward(self, x):
        for layer in self.layers:
            x = self.act(x + layer(x))
        return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("act", [nn.ReLU(), nn.LeakyReLU(0.1), F.relu, nn.ReLU(inplace=True)])
def test_three_sums_into_one_activation_are_three_rows(act, dtype):
    torch.manual_seed(0)
    model = Sums(nn.Linear, act).to(dtype)
    with torch.no_grad():
        model.layers[1].bias[2] = -1e3  # dead at the second place,
        model.layers[2].bias[2] = 1e3  # always on at the third
    report = diagnose(model, torch.rand(50, 4).to(dtype))
    name = "act" if isinstance(act, nn.Module) else "relu()"
    names = [name, f"{name}, call 2", f"{name}, call 3"]
    assert [layer.name for layer in report.layers] == names
    assert silent(report)[names[1]] == [2]
    assert 2 not in silent(report)[names[0]] + silent(report)[names[2]]
    assert 2 in report[names[2]].always_on_units
    assert [layer.place.after for layer in report.layers] == [
        "layers.0",
        f"{name} + layers.1",
        f"{name} + layers.2",
    ]
    assert all(layer.axis.known and layer.axis.axes == (1,) for layer in report.layers)


def test_sums_without_weights_are_told_apart_by_their_order():
    class Shifts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            for shift in (0.0, -100.0, 100.0):
                x = self.act(x + shift)
            return x

    report = diagnose(Shifts(), [torch.rand(9, 3), torch.rand(4, 3)])
    assert silent(report) == {"act": [], "act, call 2": [0, 1, 2], "act, call 3": []}
    assert [layer.calls for layer in report.layers] == [2, 2, 2]


def test_parameters_that_feed_an_activation_identify_its_place():
    class Biases(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (nn.Parameter(torch.full((3,), bias)) for bias in (-9.0, 1.0))
            self.act = nn.ReLU()

        def forward(self, x, swap=False):
            biases = (self.second, self.first) if swap else (self.first, self.second)
            return [self.act(x + bias) for bias in biases]

    model = Biases()
    with watch(model) as census:
        model(torch.rand(5, 3))
        model(torch.rand(5, 3), swap=True)  # the order of the calls changes, and the places stay what they are
    assert silent(census.report()) == {"act": [0, 1, 2], "act, call 2": []}
    assert [layer.calls for layer in census.report().layers] == [2, 2]


def test_steps_of_a_recurrent_network_are_one_place():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inputs, self.state, self.act = nn.Linear(3, 4), nn.Linear(4, 4), nn.ReLU()

        def forward(self, x):
            h = torch.zeros(len(x), 4)
            for step in x.unbind(1):
                h = self.act(self.inputs(step) + self.state(h))
            return F.relu(self.state(h) - 1)

    report = diagnose(Recurrent(), [torch.randn(6, 5, 3), torch.randn(6, 8, 3)])
    assert [(layer.name, layer.calls) for layer in report.layers] == [("act", 13), ("relu()", 2)]
    assert report["act"].place.after == "inputs + state"


def test_a_place_says_where_it_is():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            return F.relu(self.bn2(self.conv(x)))

    model = nn.Sequential(nn.Sequential(Block()), nn.ReLU())
    report = diagnose(model, torch.randn(2, 3, 4, 4))
    lines = Path(__file__).read_text().splitlines()
    line = 1 + next(i for i, text in enumerate(lines) if "F.relu(self.bn2(self.conv(x)))" in text)
    place = report["0.0.relu()"].place
    assert (place.inside, place.after, place.source) == ("0.0", "0.0.bn2", f"test_places.py:{line}")
    assert report["1"].place.after == "0.0.relu()"


def test_unit_axis_for_one_place_of_several():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.act = nn.Linear(5, 5), nn.Linear(5, 5), nn.ReLU()

        def forward(self, x):
            return self.act(self.two(self.act(self.one(x))))

    x = torch.randn(2, 7, 5)
    assert [layer.units for layer in diagnose(Twice(), x, unit_axis={"act, call 2": 1}).layers] == [5, 7]
    assert [layer.units for layer in diagnose(Twice(), x, unit_axis={"act": 1}).layers] == [7, 7]
    with pytest.raises(ValueError, match="unit_axis names 'art, call 2', which is not watched"):
        watch(Twice(), unit_axis={"art, call 2": 1})
