"""Units that revive leaves as they are, and the reasons it gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support.revived_networks import DEAD, Called, kill, sequential
from torch import nn

from leakyrelu.diagnosis.report import Report
from leakyrelu.torch import diagnose, restore, revive, save_memory


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.act, self.out = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)

    def forward(self, x):
        return self.out(x + self.act(self.inner(x)))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.act, self.out = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)

    def forward(self, x):
        return self.out(self.act(self.inner(x))) if x.sum() > -1e9 else x


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.act, self.out = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)

    def forward(self, x):
        inner = self.inner(x)
        return self.out(self.act(inner)) + inner[:, :2]


def shared():
    linear, act = nn.Linear(6, 6), nn.ReLU()
    return nn.Sequential(linear, act, nn.Linear(6, 6), nn.Tanh(), linear)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.act, self.out = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)
        self.out.weight = self.inner.weight

    def forward(self, x):
        return self.out(self.act(self.inner(x)))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Residual, "their output goes into a sum with the network's input (add()), so they are units of both branches"),
        (Twice, "their producer, inner, has other consumers too"),
        (shared, "0 is used in several places"),
        (Tied, "the weights of inner are tied to those of another layer"),
        (sequential(nn.ReLU()), "they are the network's output"),
        (
            sequential(nn.LayerNorm(6, elementwise_affine=False), nn.ReLU(), nn.Linear(6, 1)),
            "between them and their weights stands 1, whose statistics are of several units together",
        ),
        (
            sequential(nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 1)),
            "their output goes into 2, whose statistics are of several units together",
        ),
        (sequential(nn.ReLU(), nn.Softmax(-1), nn.Linear(6, 1)), "their output goes into 2"),
    ],
)
@torch.no_grad()
def test_what_cannot_be_traced_is_left_and_said(make, reason):
    model = make()
    kill(next(module for module in model.modules() if isinstance(module, nn.Linear)))
    x = torch.randn(100, 6)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    done = revive(model, diagnose(model, x))
    assert done.revived == {}
    ((_, units, why),) = done.left
    assert set(DEAD) <= set(units)
    assert why.startswith(reason)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert f"left  {done.left[0][0]}: {len(units)} units, {reason}" in repr(done)


@torch.no_grad()
def test_a_convolution_in_front_of_a_linear_layer_along_positions_is_left():
    model = nn.Sequential(nn.Conv1d(1, 6, 3, padding=1), nn.ReLU(), nn.Linear(6, 2))  # 6 channels, and 6 positions
    kill(model[0])
    done = revive(model, diagnose(model, torch.randn(30, 1, 6)))
    assert done.left[0][2] == "2 takes them together with other units"


class Parts(nn.Module):
    """Takes each sample apart, or all of a batch together, in front of a linear layer."""

    def __init__(self, *size, inputs):
        super().__init__()
        self.conv, self.act, self.linear = nn.Conv1d(1, 6, 3), nn.ReLU(), nn.Linear(inputs, 4)
        self.size = size

    def forward(self, x):
        return self.linear(self.act(self.conv(x)).view(*self.size))


@pytest.mark.parametrize(
    ("size", "inputs", "fine"),
    [
        ((-1, 24), 24, True),
        ((30, -1), 24, True),
        ((30, 24), 24, True),
        ((-1, 12), 12, False),  # halves of a sample: an input is now of one unit, now of another
        ((-1, 48), 48, True),  # pairs of samples: two inputs are of one unit
        ((10, -1), 72, True),
        ((6, -1), 120, True),
        ((20, -1), 36, False),
    ],
)
@pytest.mark.parametrize("read_back", [False, True])
@torch.no_grad()
def test_a_view_in_numbers_is_followed_by_the_shapes_that_were_seen(size, inputs, fine, read_back):
    model = Parts(*size, inputs=inputs)
    kill(model.conv)
    x = torch.randn(30, 1, 6)
    expected = model(x)
    report = diagnose(model, x)
    done = revive(model, Report.from_json(report.to_json()) if read_back else report)
    assert ("act" in done.revived) is fine
    assert torch.allclose(model(x), expected, atol=1e-6)
    if not fine:
        assert done.left[0][2] == "linear takes them together with other units"


class ByWidth(Parts):
    def forward(self, x):
        x = self.act(self.conv(x))
        return self.linear(x.view(x.size(2), -1))


@pytest.mark.parametrize(("samples", "fine"), [(30, False), (4, True)])
@torch.no_grad()
def test_a_view_by_another_size_than_the_batch_is_followed_too(samples, fine):
    model = ByWidth(inputs=6 * samples)
    kill(model.conv)
    x = torch.randn(samples, 1, 6)
    expected = model(x)
    done = revive(model, diagnose(model, x))
    assert ("act" in done.revived) is fine
    assert torch.allclose(model(x), expected, atol=1e-6)


class AlongUnits(nn.Module):
    """Pools what a linear layer makes, each unit with the next, in front of the activation or behind it."""

    def __init__(self, front):
        super().__init__()
        self.inner, self.act, self.out = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)
        self.pool, self.front = nn.MaxPool1d(3, stride=1, padding=1), front

    def forward(self, x):
        x = self.inner(x)
        return self.out(self.act(self.pool(x)) if self.front else self.pool(self.act(x)))


@pytest.mark.parametrize(
    "front",
    [True, False],
)
@torch.no_grad()
def test_units_that_are_pooled_with_each_other_are_left(front):
    model = AlongUnits(front)
    kill(model.inner, [2, 3, 4])
    x = torch.randn(40, 6)
    expected = model(x)
    done = revive(model, diagnose(model, x))
    assert (done.revived, done.left[0][2]) == ({}, "max_pool1d() takes them together with other units")
    assert torch.equal(model(x), expected)


class Before(nn.Module):
    """What the layer makes is taken before it is rectified in place."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = self.inner(x)
        before = x.sum(1)
        x.relu_()
        return self.out(x) + before[:, None]


class Beside(Before):
    """What the layer makes is taken beside the activation, whose True is not about its place."""

    def forward(self, x):
        x = self.inner(x)
        return self.out(F.rrelu(x, 0.0, 0.0, True)) + x.sum(1)[:, None]


@pytest.mark.parametrize("make", [Before, Beside])
@torch.no_grad()
def test_what_is_taken_before_it_is_rectified_in_place_is_left(make):
    model = make()
    kill(model.inner)
    done = revive(model, diagnose(model, torch.randn(30, 6)))
    assert done.left[0][2] == "their producer, inner, has other consumers too"


@torch.no_grad()
def test_a_padded_convolution_cannot_take_a_constant():
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Threshold(0.1, 2.0), nn.Conv2d(6, 4, 3, padding=1))
    kill(model[0])
    done = revive(model, diagnose(model, torch.randn(30, 1, 8, 8)), fold_mean=True)
    assert done.left[0][2] == "what they give out on average cannot be folded into 2: it pads"


def test_a_network_of_joined_layers_says_what_to_do():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.LeakyReLU(0.1), nn.Linear(6, 1))
    with torch.no_grad():
        model[1].bias[:2] = -100.0
    x = torch.randn(50, 4)
    save_memory(model)
    ((_, units, reason),) = revive(model, diagnose(model, x), fold_mean=True).left
    assert units == (0, 1)
    assert reason.startswith("the model holds layers that save_memory joined: take them apart with restore(model)")
    restore(model)
    assert revive(model, diagnose(model, x), fold_mean=True).units == 2


@torch.no_grad()
def test_a_layer_in_a_loop_takes_what_is_not_of_its_units():
    model, x = Called("twice"), torch.randn(50, 6)
    kill(model.inner)
    ((name, units, why),) = revive(model, diagnose(model, x)).left
    assert (name, set(DEAD) <= set(units), why) == ("relu()", True, "inner is used in several places")


@torch.no_grad()
def test_a_report_without_a_recording_needs_a_trace_that_shows_the_same_calls():
    model, x = Called("once"), torch.randn(50, 6)
    kill(model.inner)
    report = diagnose(model, x)
    read = Report.from_json(report.to_json())
    other = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 1))
    ((name, _, why),) = revive(other, report).left
    assert (name, why) == ("relu()", "the report is of another model: inner is no Linear here")
    ((name, _, why),) = revive(other, read).left
    assert (name, why) == ("relu()", "torch.fx sees other calls of relu() than the report")
    ((name, _, why),) = revive(Called("twice"), read).left
    assert (name, why) == ("relu()", "torch.fx sees other calls of relu() than the report")
    ((name, _, why),) = revive(Branching(), read).left
    assert why.startswith("the report holds no recording, and torch.fx cannot trace the model (TraceError: symbolic")
    ((name, _, why),) = revive(model, Report([replace(layer, axis=None) for layer in read])).left
    assert why == "the report holds no shapes: diagnose the model again"
    assert revive(model, read).left == ()


@torch.no_grad()
def test_a_report_read_back_is_of_one_mode():
    model, x = Called("mode"), torch.randn(50, 6)
    kill(model.inner)
    read = Report.from_json(diagnose(model, x).to_json())
    ((_, _, why),) = revive(model, read).left
    assert why == "the model calls other functions in training than in evaluation"
