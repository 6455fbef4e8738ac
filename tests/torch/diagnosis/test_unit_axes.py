"""The axis of the units, and the layers that a report distinguishes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.watching import held, hooks
from torch import nn
from torch.nn import functional as F

from leakyrelu.torch import diagnose, watch


class Tokens(nn.Module):
    """Linear layers over (batch, time, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.relu = nn.Linear(3, 5), nn.ReLU()

    def forward(self, x):
        return self.relu(self.linear(x))


@pytest.mark.parametrize(
    ("model", "shape", "axis"),
    [
        (Tokens(), (4, 7, 3), 2),
        (Tokens(), (7, 3), 1),
        (Tokens(), (3,), 0),
        (nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.ReLU()), (2, 4, 6, 3), 3),
        (nn.Sequential(nn.Embedding(9, 5), nn.ReLU()), (2, 4), 2),
        (nn.Sequential(nn.Conv1d(3, 5, 1), nn.ReLU()), (4, 3, 9), 1),
        (nn.Sequential(nn.Conv1d(3, 5, 1), nn.ReLU()), (3, 9), 0),
        (nn.Sequential(nn.Conv1d(3, 5, 1), nn.BatchNorm1d(5), nn.Dropout(), nn.ReLU()), (4, 3, 9), 1),
        (nn.Sequential(nn.Conv1d(3, 5, 1), nn.MaxPool1d(2), nn.ReLU()), (4, 3, 9), 1),
        (nn.Sequential(nn.Conv2d(3, 5, 1), nn.GroupNorm(1, 5), nn.ReLU()), (4, 3, 9, 8), 1),
        (nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU()), (3, 9, 8), 0),
        (nn.Sequential(nn.ConvTranspose2d(3, 5, 2), nn.AvgPool2d(2), nn.ReLU()), (4, 3, 9, 8), 1),
        (nn.Sequential(nn.Conv3d(3, 5, 1), nn.ReLU()), (4, 3, 2, 9, 8), 1),
        (nn.Sequential(nn.ReLU()), (4, 6), 1),
        (nn.Sequential(nn.ReLU()), (4, 6, 2), 1),
        (nn.Sequential(nn.ReLU()), (4, 6, 2, 2), 1),
        (nn.Sequential(nn.ReLU()), (6,), 0),
        (nn.Sequential(nn.Linear(3, 4), nn.PReLU(7)), (2, 7, 3), 1),
    ],
)
def test_the_unit_axis_comes_from_the_layer_in_front(model, shape, axis):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(shape, generator=generator)
    if isinstance(model, nn.Sequential) and isinstance(model[0], nn.Embedding):
        x = torch.randint(9, shape, generator=generator)
    inside = []
    rectifier = next(m for m in model.modules() if isinstance(m, nn.ReLU | nn.PReLU))
    handle = rectifier.register_forward_pre_hook(lambda module, args: inside.append(args[0]))
    with watch(model) as census:
        model(x)
    handle.remove()
    layer = census.report().layers[0]
    values = held(inside[0], axis)
    assert (layer.units, layer.samples) == values.shape
    np.testing.assert_array_equal(layer.counts.positive, (values > 0).sum(axis=1))


def test_a_scalar_is_one_unit():
    layer = diagnose(nn.ReLU(), [torch.tensor(2.0)]).layers[0]
    assert (layer.units, layer.samples, layer.always_on_units.tolist()) == (1, 1, [0])
    assert layer.entries == 1


def test_samples_are_counted_whatever_the_size_of_a_batch():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 2), nn.LeakyReLU())
    nn.init.constant_(model[0].bias, -1000.0)
    x = torch.randn(30, 1, 9, 9)
    for size in (1, 7, 30):
        report = diagnose(model, x.split(size))
        assert [(layer.samples, layer.entries) for layer in report.layers] == [(30 * 49, 30), (30 * 36, 30)]
        assert report["1"].silent_bound.tolist() == [3 / 30] * 3
    with watch(model) as census:  # an image without a batch axis: its channels come first
        model(x[0])
        model(x[1])
    assert [(layer.samples, layer.entries) for layer in census.report().layers] == [(2 * 49, 2), (2 * 36, 2)]
    with watch(model) as census:
        model(x[:0])
        model(x[:4])
    assert [(layer.entries, layer.calls) for layer in census.report().layers] == [(4, 2), (4, 2)]


def test_the_last_axis_is_counted_behind_a_linear_layer():
    model = Tokens()
    x = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(6))
    layer = diagnose(model, [x]).layers[0]
    np.testing.assert_array_equal(layer.counts.positive, (held(model.linear(x), 2) > 0).sum(axis=1))
    assert (layer.samples, layer.entries) == (28, 4)


def test_unit_axis_overrides():
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(7))
    model = nn.Sequential(nn.ReLU())
    np.testing.assert_array_equal(
        diagnose(model, [x], unit_axis={"0": -1}).layers[0].counts.positive, (held(x, 2) > 0).sum(axis=1)
    )
    with pytest.raises(ValueError, match=r"unit_axis names 'act', which is not watched; watched are '0'"):
        watch(model, unit_axis={"act": 1})
    with pytest.raises(
        ValueError, match=r"axis 3 for '0', but its input has shape \(2, 3, 4\): give an axis from -3 to 2"
    ):
        diagnose(model, [x], unit_axis={"0": 3})
    assert hooks(model) == 0


class Block(nn.Module):
    """One activation used behind two layers, as residual blocks do."""

    def __init__(self, widths: tuple[int, int]) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, widths[0]), nn.Linear(widths[0], widths[1])
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.two(self.relu(self.one(x))))


@pytest.mark.parametrize("widths", [(5, 5), (5, 8)])
def test_one_module_behind_two_layers_is_two_layers(widths):
    model = Block(widths)
    with torch.no_grad():
        model.two.bias[1] = -1e3  # silent there, alive behind the first: counted together it would be hidden
    report = diagnose(model, [torch.randn(30, 4)])
    assert [layer.name for layer in report.layers] == ["relu", "relu, call 2"]
    assert [layer.place.after for layer in report.layers] == ["one", "two"]
    assert [layer.units for layer in report.layers] == list(widths)
    assert 1 in report["relu, call 2"].silent_units


def test_a_layer_called_in_a_loop_is_counted_together():
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.relu = nn.Linear(4, 4), nn.ReLU()

        def forward(self, x):
            for _ in range(3):
                x = self.relu(self.cell(x))
            return x

    (layer,) = diagnose(Loop(), [torch.randn(10, 4), torch.randn(5, 4)]).layers
    assert (layer.name, layer.samples, layer.calls) == ("relu", 45, 6)


def test_a_module_under_two_names_goes_by_the_first():
    relu = nn.ReLU()
    report = diagnose(nn.Sequential(nn.Linear(2, 3), relu, nn.Linear(3, 3), relu), [torch.randn(4, 2)])
    assert [layer.name for layer in report.layers] == ["1", "1, call 2"]
    assert [layer.place.after for layer in report.layers] == ["0", "2"]


def test_order_is_that_of_the_first_call_and_unused_ones_are_named():
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.late, self.early, self.never = nn.ReLU(), nn.LeakyReLU(), nn.PReLU()

        def forward(self, x):
            return self.late(self.early(x))

    report = diagnose(Backwards(), [torch.randn(4, 2)])
    assert [layer.name for layer in report.layers] == ["early", "late"]
    assert report.unused == ("never",)


class Functions(nn.Module):
    """Feeds its activation by functions, so that only shapes say which layer stood in front."""

    def __init__(self, first: nn.Module, second: nn.Module, between) -> None:
        super().__init__()
        self.first, self.second, self.between, self.act = first, second, between, nn.ReLU()

    def forward(self, x):
        return self.act(self.between(self.first(x), self.second(x)))


@pytest.mark.parametrize(
    ("model", "axis"),
    [
        # Of the same shape as the first, not the second: its axis counts, though the second is the more recent.
        (Functions(nn.Linear(6, 6), nn.Conv1d(5, 2, 1), lambda a, b: a + 1), 2),
        (Functions(nn.Conv1d(5, 3, 1), nn.Linear(6, 2), lambda a, b: 2 * a), 1),
        # Of no shape seen: the most recent output with as many axes.
        (Functions(nn.Linear(6, 4), nn.Linear(6, 7), lambda a, b: torch.cat([a, b], dim=2)), 2),
        (Functions(nn.Linear(6, 4), nn.Conv1d(5, 7, 1), lambda a, b: F.avg_pool1d(b, 2)), 1),
        # The tensor itself is remembered, although the layer after it made one of the same shape.
        (Functions(nn.Linear(6, 6), nn.Conv1d(5, 5, 1), lambda a, b: a), 2),
        (Functions(nn.GRU(6, 4, batch_first=True), nn.Identity(), lambda a, b: a[0]), 2),
    ],
)
def test_behind_functions_the_shape_finds_the_layer_in_front(model, axis):
    inside = []
    handle = model.act.register_forward_pre_hook(lambda module, args: inside.append(args[0]))
    layer = diagnose(model, [torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(11))]).layers[0]
    handle.remove()
    np.testing.assert_array_equal(layer.counts.positive, (held(inside[0], axis) > 0).sum(axis=1))


def test_a_sum_is_no_layers_output():
    # The same activation behind a layer, and behind a sum of that layer's shape: two places.
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.relu = nn.Linear(4, 4), nn.ReLU()

        def forward(self, x):
            return self.relu(x + self.relu(self.linear(x)))

    report = diagnose(Residual(), [torch.randn(8, 4)])
    assert [layer.name for layer in report.layers] == ["relu", "relu, call 2"]
    assert [layer.place.after for layer in report.layers] == ["linear", "relu"]
