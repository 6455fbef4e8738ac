"""The census against planted truth, and against NumPy counting over all activations held in memory."""

from __future__ import annotations

import copy
import gc
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from leakyrelu.torch import CenteredLeakyReLU, LeakyReLU, diagnose, watch

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def held(x: torch.Tensor, axis: int) -> np.ndarray:
    """All values of each unit, (units, n), in float64."""
    array = x.detach().double().numpy()
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


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


def test_nan_and_infinity_are_told_apart_from_silence():
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
        (nn.Sequential(nn.Conv2d(3, 5, 1), nn.Flatten(), nn.ReLU()), (4, 3, 2, 2), 1),
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
    assert [layer.name for layer in report.layers] == ["relu after one", "relu after two"]
    assert [layer.units for layer in report.layers] == list(widths)
    assert 1 in report["relu after two"].silent_units


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
    assert [layer.name for layer in report.layers] == ["1 after 0", "1 after 2"]


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


def test_watches_nest_and_leave_nothing_behind():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    with watch(model) as outer:
        model(torch.ones(1, 2))
        inner = watch(model)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), inner:
            model(torch.ones(1, 2)), model(torch.ones(1, 3))
        with pytest.raises(RuntimeError, match="already open"):
            outer.__enter__()
        model(torch.ones(1, 2))
    assert (outer.report().layers[0].samples, inner.report().layers[0].samples) == (3, 1)
    assert hooks(model) == 0


def test_copies_made_while_watched_are_not_watched():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    with watch(model) as census:
        twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        buffer = io.BytesIO()
        torch.save(model, buffer)
        for twin in twins:
            twin(torch.ones(5, 2))
        model(torch.ones(1, 2))
    assert census.report().layers[0].samples == 1
    assert hooks(pickle.loads(pickle.dumps(model))) == hooks(copy.deepcopy(model)) == 0


def test_memory_does_not_grow_with_the_batches():
    def tensors() -> int:
        gc.collect()
        return sum(t.numel() for t in gc.get_objects() if type(t) is torch.Tensor)

    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    x = torch.randn(1000, 4)
    sizes = []
    with watch(model) as census, torch.no_grad():
        for _ in range(3):
            for _ in range(20):
                model(x)
            sizes.append(tensors())
    assert sizes[0] == sizes[1] == sizes[2]
    (counts,) = census._counts.values()
    held_tensors = [value for value in vars(counts).values() if isinstance(value, torch.Tensor)]
    assert [tuple(value.shape) for value in held_tensors] == [(5, 8), (4, 8)]


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


class Smooth(nn.Module):
    def forward(self, x):
        return torch.tanh(x).clamp(min=1e-6).clamp(-1, 1)


@pytest.mark.parametrize(
    ("model", "data", "error", "text"),
    [
        ("net", [torch.ones(1, 1)], TypeError, r"model must be a torch\.nn\.Module, not str"),
        (
            Smooth(),
            [torch.ones(1, 1)],
            ValueError,
            r"no rectifier was called in Smooth: neither nn\.ReLU, nn\.LeakyReLU, nn\.PReLU, nn\.RReLU, nn\.ReLU6, "
            r"nn\.Threshold, a layer of leakyrelu\.torch or a subclass among its 1 modules, nor F\.relu, x\.relu_\(\), "
            r"x\.clamp\(min=0\) and the like\. Fused or compiled kernels are not seen: run the model without them",
        ),
        (nn.ReLU(), [], ValueError, r"data holds no batch: an empty loader, or a generator that was used up"),
        (nn.ReLU(), iter(()), ValueError, r"data holds no batch"),
        (
            nn.ReLU(),
            3,
            TypeError,
            r"an iterable of batches, not int: .*DataLoader\(dataset, batch_size=64\) of a data set",
        ),
        (nn.ReLU(), "batch", TypeError, r"data must be an iterable of batches, not str"),
        (nn.ReLU(), np.ones((2, 2)), TypeError, r"batch 0 is an ndarray: .* \(torch\.from_numpy makes a tensor"),
        (nn.ReLU(), [torch.ones(1, 1), "x"], TypeError, r"batch 1 is a str: a batch must be a tensor, a tuple or list"),
        (nn.ReLU(), [("x", 1)], TypeError, r"batch 0 is a tuple that starts with a str: "),
        (nn.ReLU(), [()], TypeError, r"batch 0 is a tuple: "),
        (
            nn.ReLU(),
            [{1: torch.ones(1)}],
            TypeError,
            r"batch 0 is a dict of keyword arguments, but its key 1 is not a string",
        ),
        (
            torch.compile(nn.ReLU(), backend="eager"),
            [torch.ones(1)],
            ValueError,
            r"the model is compiled by torch\.compile",
        ),
    ],
)
def test_errors_say_cause_and_remedy(model, data, error, text):
    with pytest.raises(error, match=text):
        diagnose(model, data)
    if isinstance(model, nn.Module):
        assert hooks(model) == 0


def test_the_activations_own_error_comes_through():
    model = nn.ReLU()
    with watch(model), pytest.raises(TypeError):
        model()


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
    assert [layer.name for layer in report.layers] == ["relu after linear", "relu after another operation"]


def test_diagnose_runs_in_evaluation_mode_without_gradients():
    seen = []
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.9), nn.ReLU())
    model[1].register_forward_hook(lambda module, args, y: seen.append((module.training, y.requires_grad)))
    diagnose(model.train(), [torch.randn(4, 2)])
    assert seen == [(False, False)]


def test_a_failed_start_leaves_no_hook():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())

    class Full(nn.ReLU):
        def register_forward_pre_hook(self, *args, **kwargs):
            raise RuntimeError("no more hooks")

    model.append(Full())
    with pytest.raises(RuntimeError, match="no more hooks"), watch(model):
        pass
    assert hooks(model) == 0


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


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"unit_axis": 3}, "unit_axis must be a mapping from names to axes, such as .*, not int: 3"),
        ({"unit_axis": ["1"]}, "unit_axis must be a mapping from names to axes, .* not list"),
        ({"unit_axis": {1: 1}}, "unit_axis maps names to integers, .* not 1 to 1"),
        ({"unit_axis": {"1": "a"}}, "unit_axis maps names to integers, .* not '1' to 'a'"),
        ({"unit_axis": {"1": 1.0}}, "unit_axis maps names to integers, .* not '1' to 1.0"),
        ({"unit_axis": {"1": None}}, "unit_axis maps names to integers, .* not '1' to None"),
        ({"every": 1.5}, "every must be an integer, not float: 1.5"),
        ({"every": "a"}, "every must be an integer, not str: 'a'"),
        ({"every": 5, "keep": 1.5}, "keep must be an integer, not float: 1.5"),
    ],
)
def test_options_of_a_wrong_kind_are_refused_by_name(options, text):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(TypeError, match=text):
        watch(model, **options)


def test_integers_of_numpy_are_integers():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    assert diagnose(model, torch.ones(5, 2), unit_axis={"1": np.int64(0)}).units == 5
    assert watch(model, every=np.int32(2)).history.steps == ()


class Plain(nn.Module):
    def forward(self, x):
        return torch.relu(x)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda x: x.to_sparse(), r"sparse \(torch.sparse_coo\)"),
        (lambda x: x.to_sparse_csr(), r"sparse \(torch.sparse_csr\)"),
        (lambda x: torch.nested.nested_tensor([x, x[:2]]), "nested"),
        (lambda x: torch.nested.nested_tensor([x, x[:2]], layout=torch.jagged), "nested"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "quantized"),
    ],
)
def test_a_tensor_that_cannot_be_counted_is_named(make, kind):
    with watch(Plain()) as census, pytest.raises(TypeError, match=rf"'relu\(\)' is called on a {kind} tensor"):
        census.model(make(torch.randn(5, 3)))


def test_a_complex_input_is_refused_in_the_words_of_pytorch():
    with pytest.raises((RuntimeError, NotImplementedError)) as plain:
        torch.relu(torch.ones(2, 3) + 1j)
    with pytest.raises(type(plain.value)) as watched:
        diagnose(Plain(), torch.ones(2, 3) + 1j)
    assert str(watched.value) == str(plain.value)
