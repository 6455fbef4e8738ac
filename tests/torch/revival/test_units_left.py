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
        (Residual, "their output goes into an addition"),
        (Branching, "torch.fx cannot trace the model (TraceError: symbolically traced variables"),
        (Twice, "their producer, inner, has other consumers too"),
        (shared, "0 is used in several places"),
        (Tied, "the weights of inner are tied to those of another layer"),
        (sequential(nn.ReLU()), "they are the network's output"),
        (
            sequential(nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 1)),
            "between them and their weights stands 1 (L",
        ),
        (sequential(nn.ReLU(), nn.Softmax(-1), nn.Linear(6, 1)), "their output goes into 2"),
        (sequential(nn.ReLU(), nn.Unflatten(1, (6, 1)), nn.Conv1d(6, 1, 1)), "their output goes into 2"),
    ],
)
@torch.no_grad()
def test_what_cannot_be_traced_is_left_and_said(make, reason):
    model = make()
    target = next(module for module in model.modules() if isinstance(module, nn.LayerNorm | nn.Linear) and module)
    if isinstance(model, nn.Sequential) and isinstance(model[1], nn.LayerNorm):
        target = model[1]
    kill(target)
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
    assert done.left[0][2] == "2 takes 6 inputs, which are not 6 units"


class Parts(nn.Module):
    """Takes each sample apart, or all of a batch together, in front of a linear layer."""

    def __init__(self, *size, inputs, behind):
        super().__init__()
        self.conv, self.act, self.linear = nn.Conv1d(1, 6, 3), nn.ReLU(), nn.Linear(inputs, 4)
        self.size, self.behind = size, nn.ReLU() if behind else nn.Identity()

    def forward(self, x):
        return self.behind(self.linear(self.act(self.conv(x)).view(*self.size)))


@pytest.mark.parametrize(
    ("size", "inputs", "behind", "fine"),
    [
        ((-1, 24), 24, True, True),
        ((30, -1), 24, True, True),
        ((30, 24), 24, True, True),
        ((-1, 24), 24, False, False),  # nothing counted behind it
        ((-1, 12), 12, True, False),  # halves of a sample
        ((-1, 48), 48, True, False),  # pairs of samples
        ((10, -1), 72, True, False),
    ],
)
@torch.no_grad()
def test_a_view_in_numbers_flattens_samples_where_the_report_shows_so(size, inputs, behind, fine):
    model = Parts(*size, inputs=inputs, behind=behind)
    kill(model.conv)
    x = torch.randn(30, 1, 6)
    expected = model(x)
    done = revive(model, diagnose(model, x))
    assert ("act" in done.revived) is fine
    assert torch.allclose(model(x), expected, atol=1e-6)
    if not fine:
        assert done.left[0][2] == (
            "their output goes into view() with a size in numbers, and the report does not show that a row is a sample "
            "behind it: call flatten(1) in its place"
        )


class ByWidth(Parts):
    def forward(self, x):
        x = self.act(self.conv(x))
        return self.behind(self.linear(x.view(x.size(2), -1)))


@torch.no_grad()
def test_a_view_by_another_size_than_the_batch_is_left():
    model = ByWidth(inputs=6 * 30, behind=True)
    kill(model.conv)
    done = revive(model, diagnose(model, torch.randn(30, 1, 6)))
    assert done.left[0][::2] == ("act", "their output goes into view()")


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
    ("front", "reason"),
    [(True, "what inner makes is pooled along the units"), (False, "their output goes into pool")],
)
@torch.no_grad()
def test_units_that_are_pooled_with_each_other_are_left(front, reason):
    model = AlongUnits(front)
    kill(model.inner, [2, 3, 4])
    x = torch.randn(40, 6)
    expected = model(x)
    done = revive(model, diagnose(model, x))
    assert (done.revived, done.left[0][2]) == ({}, reason)
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
def test_a_padded_convolution_behind_a_norm_cannot_take_a_constant():
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, padding=1))
    kill(model[0])
    model[2].bias.fill_(0.3)
    done = revive(model, diagnose(model, torch.randn(30, 1, 8, 8)))
    assert done.left[0][2] == "what they give out on average cannot be folded into 3: it pads"


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


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("twice", "the activation is called 2 times"),
        ("mode", "the model calls other functions in training than in evaluation"),
    ],
)
@torch.no_grad()
def test_a_call_that_is_not_one_call_is_left(how, reason):
    model, x = Called(how), torch.randn(50, 6)
    kill(model.inner)
    report = diagnose(model, x)
    ((name, units, why),) = revive(model, report).left
    assert (name, set(DEAD) <= set(units), why) == ("relu()", True, reason)


@torch.no_grad()
def test_a_call_that_the_trace_does_not_show_is_left():
    model, x = Called("once"), torch.randn(50, 6)
    kill(model.inner)
    report = diagnose(model, x)
    other = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 1))
    ((name, _, why),) = revive(other, report).left
    assert (name, why) == ("relu()", "the activation is a call of a function, not a module")
    ((name, _, why),) = revive(Called("twice"), report + Report([replace(report["relu()"], name="relu()#2")])).left[:1]
    assert (name, why) == ("relu()", "torch.fx sees other calls of relu() than the report")
    assert revive(model, report).left == ()
