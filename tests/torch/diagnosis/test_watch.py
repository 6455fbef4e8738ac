"""The census against planted truth, and against NumPy counting over all activations held in memory."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.watching import held, hooks
from torch import nn
from torch.nn import functional as F

from leakyrelu.torch import CenteredLeakyReLU, LeakyReLU, diagnose, watch

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Planted(nn.Module):
    """Convolutions or linear layers whose chosen units are forced off or on by their bias."""

    def __init__(self, dimensions: int, widths: list[int], make, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        layers: list[nn.Module] = []
        before = 2
        conv = {0: nn.Linear, 1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        for width in widths:
            layer = conv(before, width) if dimensions == 0 else conv(before, width, 1)
            with torch.no_grad():
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
                layer.bias.copy_(0.1 * torch.randn(layer.bias.shape, generator=generator))
            layers += [layer, make()]
            before = width
        self.body = nn.Sequential(*layers)
        self.shape = (2, *[3] * dimensions)

    def plant(self, dead: list[set[int]], on: list[set[int]]) -> None:
        linear = [layer for layer in self.body if hasattr(layer, "bias") and layer.bias is not None]
        for layer, off, up in zip(linear, dead, on, strict=True):
            with torch.no_grad():
                layer.bias[list(off)] = -1e4
                layer.weight[list(off)] *= 1e-6
                layer.bias[list(up)] = 1e4
                layer.weight[list(up)] *= 1e-6

    def forward(self, x):
        return self.body(x)


ACTIVATIONS = [
    nn.ReLU,
    lambda: nn.ReLU(inplace=True),
    lambda: nn.LeakyReLU(0.001),
    lambda: nn.LeakyReLU(0.5, inplace=True),
    lambda: LeakyReLU(0.2),
    lambda: CenteredLeakyReLU(0.7),
    lambda: nn.PReLU(init=0.1),
]


@FEW
@given(data=st.data())
def test_exactly_the_planted_units_are_found(data):
    dimensions = data.draw(st.integers(0, 3), "dimensions")
    widths = data.draw(st.lists(st.integers(2, 7), min_size=1, max_size=3), "widths")
    make = data.draw(st.sampled_from(ACTIVATIONS))
    model = Planted(dimensions, widths, make, data.draw(st.integers(0, 99), "seed"))
    dead, on = [], []
    for width in widths:
        dead.append(data.draw(st.sets(st.integers(0, width - 1), max_size=width - 1), "dead"))
        on.append(data.draw(st.sets(st.integers(0, width - 1), max_size=2), "on") - dead[-1])
    model.plant(dead, on)

    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    model.to(dtype)

    inside: list[list[np.ndarray]] = [[] for _ in widths]  # every activation of every batch, held
    feeding = [m for m in model.body if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    for place, layer in enumerate(feeding):
        layer.register_forward_hook(
            lambda module, args, output, place=place: inside[place].append(held(output, 1).copy())
        )
    x = torch.randn(24, *model.shape, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99), "data")))
    order = data.draw(st.permutations(range(24)), "order")
    size = data.draw(st.integers(1, 24), "batch size")
    report = diagnose(model, x.to(dtype)[torch.tensor(order)].split(size))

    assert [layer.units for layer in report.layers] == widths
    for layer, batches, off, up in zip(report.layers, inside, dead, on, strict=True):
        values = np.concatenate(batches, axis=1)
        assert (layer.samples, layer.entries) == (values.shape[1], 24)
        np.testing.assert_array_equal(layer.silent_bound, np.full(len(layer.silent_units), 3 / 24))
        np.testing.assert_array_equal(layer.counts.positive, (values > 0).sum(axis=1))
        assert set(layer.silent_units) == {i for i, v in enumerate(values) if v.max() <= 0}
        assert set(layer.always_on_units) == {i for i, v in enumerate(values) if v.min() > 0}
        assert off <= set(layer.silent_units)
        assert up <= set(layer.always_on_units)


def test_planted_units_and_no_others():
    model = nn.Sequential(nn.Linear(8, 40), nn.LeakyReLU(0.01))
    dead, on = [3, 17, 39], [0, 20]
    with torch.no_grad():
        nn.init.eye_(model[0].weight)
        model[0].weight[8:] = model[0].weight[:8].repeat(4, 1)
        model[0].bias.zero_()
        model[0].bias[dead] = -100.0
        model[0].bias[on] = 100.0
    layer = diagnose(model, torch.randn(500, 8, generator=torch.Generator().manual_seed(0)).split(33)).layers[0]
    assert layer.silent_units.tolist() == dead
    assert layer.always_on_units.tolist() == on
    assert layer.silent_bound.tolist() == [3 / 500] * 3


def test_a_census_that_counted_outputs_would_miss_what_ours_finds():
    # The same dead units behind a slope: no output is 0, so counting zeros finds none of them.
    model = nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(0.01))
    with torch.no_grad():
        model[0].bias[:2] = -50.0
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    assert (model(x) == 0).sum() == 0
    assert set(diagnose(model, [x]).layers[0].silent_units) >= {0, 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("make", ACTIVATIONS)
def test_every_number_against_numpy(make, dtype):
    x = (3 * torch.randn(50, 5, 4, 4, generator=torch.Generator().manual_seed(2)) + 0.5).to(dtype)
    activation = make().to(dtype)
    layer = diagnose(activation, [b.clone() for b in x.split(7)]).layers[0]
    slope = 0.0 if isinstance(activation, nn.ReLU) else layer.negative_slope
    v = held(x, 1)
    y = held(copy.deepcopy(activation).double()(x.double()), 1)  # as it is before it is rounded to the dtype
    p = (v > 0).mean(axis=1)
    np.testing.assert_array_equal(layer.counts.positive, (v > 0).sum(axis=1))
    np.testing.assert_allclose(layer.positive_share, p, rtol=1e-15)
    np.testing.assert_allclose(layer.effective_slope, slope + (1 - slope) * p, rtol=1e-14)
    np.testing.assert_allclose(layer.output_mean, y.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(layer.output_std, y.std(axis=1), rtol=1e-12)
    np.testing.assert_allclose(
        layer.mean_over_std, np.linalg.norm(y.mean(axis=1)) / np.linalg.norm(y.std(axis=1)), rtol=1e-12
    )
    activity = np.maximum(v, 0).mean(axis=1)
    np.testing.assert_allclose(layer.dormancy, activity / activity.mean(), rtol=1e-12)
    assert layer.samples == 50 * 16
    assert layer.kind == type(activation).__name__


def test_deviation_survives_a_mean_a_million_times_larger():
    x = 1e6 + torch.randn(4000, 3, generator=torch.Generator().manual_seed(3))
    layer = diagnose(nn.ReLU(), x.split(11)).layers[0]
    np.testing.assert_allclose(layer.output_std, x.double().numpy().std(axis=0), rtol=1e-9)


def test_relu6_counts_its_ceiling():
    x = torch.tensor([[-1.0, 7.0, 2.0], [1.0, 6.0, 3.0], [6.5, 9.0, 4.0]])
    layer = diagnose(nn.ReLU6(), x).layers[0]
    assert layer.ceiling == 6
    assert layer.counts.saturated.tolist() == [1, 3, 0]
    assert layer.saturated_units.tolist() == [1]
    assert layer.always_on_units.tolist() == [2]  # a unit at the ceiling is no straight line
    np.testing.assert_allclose(layer.effective_slope, [1 / 3, 0, 1])
    leaf = x.clone().requires_grad_()
    F.relu6(leaf).sum().backward()
    np.testing.assert_allclose(layer.effective_slope, leaf.grad.mean(dim=0))


def test_effective_slope_is_the_mean_derivative():
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(4), requires_grad=True)
    activation = nn.PReLU(6)
    with torch.no_grad():
        activation.weight.copy_(torch.linspace(-0.5, 1.5, 6))
    activation(x).sum().backward()
    layer = diagnose(activation, x.detach()).layers[0]
    assert layer.negative_slope.shape == (6,)
    np.testing.assert_allclose(layer.effective_slope, x.grad.double().mean(dim=0), rtol=1e-5)


def test_nan_and_infinity_are_distinguished_from_silence():
    nan, inf = float("nan"), float("inf")
    x = torch.tensor([[nan, nan, -1.0, inf], [nan, 2.0, -1.0, 1.0], [nan, -2.0, -inf, 3.0]])
    layer = diagnose(nn.LeakyReLU(0.5), x).layers[0]
    assert layer.counts.nan.tolist() == [3, 1, 0, 0]
    assert layer.nan_units.tolist() == [0, 1]
    assert layer.silent_units.tolist() == [2]
    assert layer.always_on_units.tolist() == [3]
    np.testing.assert_array_equal(layer.positive_share, [nan, 0.5, 0.0, 1.0])
    np.testing.assert_array_equal(layer.output_mean, [nan, 0.5, -0.5, 2.0])
    assert layer.counts.outputs.tolist() == [0, 2, 2, 2]
    np.testing.assert_allclose(layer.counts.relu_sum, [0, 2, 0, 4])


class Custom(nn.ReLU):
    pass


def test_subclasses_are_watched_under_their_own_kind():
    assert diagnose(Custom(), torch.ones(2, 2)).layers[0].kind == "Custom"


@pytest.mark.parametrize(
    "data",
    [
        [torch.ones(6, 2)],
        torch.ones(6, 2),  # one batch: its rows would have lost the batch axis
        {"input": torch.ones(6, 2)},
        [(torch.ones(2, 2), torch.zeros(2)), (torch.ones(4, 2), "label")],
        [[torch.ones(6, 2), None]],
        [{"input": torch.ones(3, 2)}] * 2,
        (torch.ones(2, 2) for _ in range(3)),
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(6, 2), torch.ones(6)), batch_size=4),
    ],
    ids=["list", "tensor", "dict", "tuples", "lists", "dicts", "generator", "loader"],
)
def test_every_kind_of_batch(data):
    layer = diagnose(nn.Sequential(nn.ReLU())[0], data).layers[0]
    assert (layer.units, layer.samples) == (2, 6)


def test_diagnose_restores_every_mode_and_leaves_no_gradient():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Dropout())
    model.train()
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    diagnose(model, [torch.randn(8, 2)])
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())

    def broken():
        yield torch.randn(8, 2)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        diagnose(model, broken())
    assert [m.training for m in model.modules()] == modes
    assert hooks(model) == 0


def test_watching_changes_nothing_and_training_goes_on():
    def train(watched: bool) -> list[torch.Tensor]:
        torch.manual_seed(8)
        model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(inplace=True), nn.Linear(6, 6), nn.PReLU(6), nn.Linear(6, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        census = watch(model)
        for _ in range(3):
            if watched:
                census.__enter__()
            model(torch.randn(16, 3)).square().mean().backward()
            optimizer.step()
            if watched:
                census.__exit__(None, None, None)
        if watched:
            assert census.report().layers[0].samples == 48  # opened again, it goes on counting
            np.testing.assert_array_equal(census.report()["3"].negative_slope, model[3].weight.detach().double())
        return [p.detach() for p in model.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(train(True), train(False), strict=True))


def test_report_inside_and_after():
    model = nn.ReLU()
    with watch(model) as census:
        with pytest.raises(
            RuntimeError, match=r"nothing counted yet: none of 'ReLU' was called\. Run the model itself"
        ):
            census.report()
        model(torch.ones(2, 3))
        first = census.report()
        model(-torch.ones(2, 3))
    model(torch.ones(100, 3))  # after the context: not counted
    assert first.layers[0].samples == 2
    assert census.report().layers[0].positive_share.tolist() == [0.5] * 3


def test_an_empty_batch_counts_nothing():
    layer = diagnose(nn.ReLU(), [torch.ones(0, 3), torch.ones(2, 3)]).layers[0]
    assert (layer.samples, layer.calls) == (2, 2)
    assert layer.output_mean.tolist() == [1.0] * 3
    empty = diagnose(nn.ReLU(), [torch.ones(0, 3)]).layers[0]
    assert empty.silent_units.size == empty.always_on_units.size == 0


def test_no_units_at_all():
    report = diagnose(nn.ReLU(), [torch.ones(4, 0)])
    assert report.layers[0].units == 0
    assert repr(report).startswith("1 layer, 0 units: nothing was seen")


def test_halves_add_up():
    model = nn.Sequential(nn.Linear(3, 6), nn.LeakyReLU(0.1), nn.Linear(6, 4), nn.ReLU6()).double()
    x = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    whole, sums = diagnose(model, x), diagnose(model, x[:13]) + diagnose(model, x[13:])
    for one, other in zip(whole.layers, sums.layers, strict=True):
        for name in ("positive", "nan", "saturated", "outputs"):
            np.testing.assert_array_equal(getattr(one.counts, name), getattr(other.counts, name))
        np.testing.assert_allclose(one.output_mean, other.output_mean, rtol=1e-12)
        np.testing.assert_allclose(one.output_std, other.output_std, rtol=1e-12)
        np.testing.assert_allclose(one.dormancy, other.dormancy, rtol=1e-12)
        assert one.samples == other.samples == one.entries == other.entries == 40


def test_under_autocast():
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(10))
    with watch(model) as census, torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    assert y.dtype == torch.bfloat16
    np.testing.assert_allclose(census.report().layers[0].output_mean, held(y, 1).mean(axis=1), rtol=1e-12)


def test_diagnose_runs_in_evaluation_mode_without_gradients():
    seen = []
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.9), nn.ReLU())
    model[1].register_forward_hook(lambda module, args, y: seen.append((module.training, y.requires_grad)))
    diagnose(model.train(), [torch.randn(4, 2)])
    assert seen == [(False, False)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", ACTIVATIONS)
def test_watching_writes_on_nothing(make, dtype):
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(12)).to(dtype)
    x[0, 0], x[1, 1], x[2, 2] = float("nan"), float("inf"), -float("inf")
    activation = make().to(dtype)
    alone, watched = x.clone(), x.clone()
    expected = activation(alone)
    with watch(activation):
        y = activation(watched)
    torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(watched, alone, rtol=0, atol=0, equal_nan=True)


def test_deviation_with_missing_outputs_far_from_zero():
    x = 1e4 + torch.randn(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(13))
    x[::5, 1] = float("nan")
    x[:499, 2] = float("inf")
    layer = diagnose(nn.ReLU(), x.split(50)).layers[0]
    np.testing.assert_allclose(
        layer.output_std[:2], [x[:, 0].std(correction=0), x[:, 1][~x[:, 1].isnan()].std(correction=0)], rtol=1e-6
    )
    np.testing.assert_allclose(layer.output_std[2], 0, atol=1e-3)
    assert layer.counts.outputs.tolist() == [500, 400, 1]
