"""Reviving in networks as people write them: every normalization, concatenations, branches, loops and slopes."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support.revived_networks import DEAD, kill
from torch import nn

from leakyrelu.torch import diagnose, revive


class NormAct(nn.BatchNorm2d):
    """A batch norm that carries its activation, and calls the function itself."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return self.act(x)


class LayerNorm2d(nn.LayerNorm):
    """A layer norm of the channels of an image."""

    def forward(self, x):
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


NORMS = {
    "batch": lambda: nn.BatchNorm2d(8),
    "sync": lambda: nn.SyncBatchNorm(8),
    "act": lambda: NormAct(8),
    "instance": lambda: nn.InstanceNorm2d(8, affine=True),
    "group of one": lambda: nn.GroupNorm(8, 8),
    "group": lambda: nn.GroupNorm(2, 8),
    "layer": lambda: LayerNorm2d(8),
}


def block(norm, act):
    """A convolution, a norm, an activation, a padded convolution."""
    layers = [nn.Conv2d(2, 8, 3), norm, *([] if isinstance(norm, NormAct) else [act]), nn.Conv2d(8, 3, 3, padding=1)]
    return nn.Sequential(*layers).double().eval()


def check(model, x, *, left=()):
    """Revive all silent units; outputs stay, units fire, and every producer can learn."""
    before, report = model(x), diagnose(model, x)
    done = revive(model, report)
    assert [reason for _, _, reason in done.left] == list(left)
    torch.testing.assert_close(model(x), before, rtol=1e-9, atol=1e-9)
    return report, done, diagnose(model, x)


@pytest.mark.parametrize(
    ("kind", "slope"), [(kind, slope) for kind in NORMS for slope in (0.0, 0.1) if not (slope and kind == "act")]
)
@torch.no_grad()
def test_units_behind_every_kind_of_norm(kind, slope):
    model = block(NORMS[kind](), nn.LeakyReLU(slope) if slope else nn.ReLU())
    model[1].weight[DEAD] = 0.0
    model[1].bias[DEAD] = -3.0
    report, done, after = check(model, torch.randn(6, 2, 9, 9).double())
    assert done.units == report.silent == len(DEAD)
    if slope:
        assert after.layers[0].always_on_units.tolist() == DEAD  # their sign is the other one
        assert (model[1].bias[DEAD] == 3.0).all()
    elif kind in ("group", "layer"):  # the convolution is left: it would change the statistics of the others
        assert after.silent == 0
        assert (model[1].weight[DEAD] == 1.0).all()


@torch.no_grad()
def test_a_norm_of_several_units_behind_them_names_itself():
    model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.GroupNorm(2, 8), nn.Conv2d(8, 3, 3)).double()
    kill(model[0])
    check(
        model,
        torch.randn(6, 2, 9, 9).double(),
        left=["their output goes into 2, whose statistics are of several units together"],
    )


class DenseBlock(nn.Module):
    """Everything before is concatenated, normalized and rectified, as in a DenseNet; inputs in place."""

    def __init__(self):
        super().__init__()
        self.stem, self.norms = nn.Conv2d(2, 6, 3), nn.ModuleList([nn.BatchNorm2d(6 + 4 * i) for i in range(3)])
        self.convs = nn.ModuleList([nn.Conv2d(6 + 4 * i, 4, 3, padding=1) for i in range(3)])

    def forward(self, x):
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)), inplace=True)))
        return torch.cat(features, 1)


@torch.no_grad()
def test_units_of_a_dense_block():
    model = DenseBlock().double().eval()
    for norm in model.norms:
        norm.weight[DEAD] = 0.0
        norm.bias[DEAD] = -1.0
    stem = model.stem.weight.clone()
    report, done, after = check(model, torch.randn(6, 2, 9, 9).double())
    assert done.units == report.silent >= 9
    assert after.silent == 0
    assert torch.equal(model.stem.weight, stem)  # it feeds the other norms too


class Skip(nn.Module):
    """A small U-Net: what the encoder makes goes down, and beside it into a concatenation behind other channels."""

    def __init__(self, act):
        super().__init__()
        self.down, self.deep, self.up = (
            nn.Conv2d(2, 6, 3, padding=1),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.Conv2d(12, 3, 1),
        )
        self.norm, self.act = nn.InstanceNorm2d(6, affine=True), act

    def forward(self, x):
        skip = self.act(self.norm(self.down(x)))
        deep = F.interpolate(torch.tanh(self.deep(F.avg_pool2d(skip, 2))), scale_factor=2)
        if float(x.sum()) > 1e9:  # not traceable
            deep = -deep
        return self.up(torch.cat([deep, skip], 1))


@pytest.mark.parametrize("act", [nn.ReLU(), nn.LeakyReLU(0.01, inplace=True)])
@torch.no_grad()
def test_a_skip_of_a_network_that_cannot_be_traced(act):
    model = Skip(act).double()
    model.norm.weight[DEAD], model.norm.bias[DEAD] = 0.0, -1.0
    report, done, _ = check(model, torch.randn(6, 2, 8, 8).double())
    assert done.units == report.silent == len(DEAD)
    if isinstance(act, nn.ReLU):
        assert (model.up.weight[:, [6 + unit for unit in DEAD]] == 0).all()
        assert (model.deep.weight[:, DEAD] == 0).all()
        assert (model.up.weight[:, :6] != 0).all()


class Shuffled(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 8, 3), nn.Conv2d(4, 3, 3)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = x.reshape(len(x), 2, 4, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
        left, right = x.chunk(2, 1)
        return self.second(left) + self.second(right)


@torch.no_grad()
def test_halves_that_go_through_one_layer_are_left():
    model = Shuffled().double()
    kill(model.first)
    check(model, torch.randn(6, 2, 9, 9).double(), left=["second is used in several places"])


@torch.no_grad()
def test_a_slope_in_front_of_a_maximum_is_left():
    model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Conv2d(8, 3, 3)).double()
    kill(model[0])
    check(
        model,
        torch.randn(6, 2, 9, 9).double(),
        left=["between them and their weights stands 2, which is not linear"],
    )


@torch.no_grad()
def test_a_batch_norm_behind_a_slope_is_scaled():
    model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.LeakyReLU(0.1), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 3, padding=1))
    model = model.double().eval()
    kill(model[0])
    model[2].running_mean.uniform_(), model[2].running_var.uniform_(0.1, 2.0)
    _, done, after = check(model, torch.randn(6, 2, 9, 9).double())
    assert done.flipped == {"1": tuple(DEAD)}
    assert after.layers[0].always_on_units.tolist()[: len(DEAD)] == DEAD


class TwoPaths(nn.Module):
    """Takes one of two layers, as the data are."""

    def __init__(self):
        super().__init__()
        self.inner, self.one, self.other = nn.Linear(6, 6), nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x):
        x = F.relu(self.inner(x))
        return self.one(x) if len(x) > 3 else self.other(x)


@torch.no_grad()
def test_every_path_that_was_taken_is_followed():
    model = TwoPaths().double()
    kill(model.inner)
    batches = [torch.randn(30, 6).double(), torch.randn(3, 6).double()]
    before = [model(x) for x in batches]
    done = revive(model, diagnose(model, batches))
    assert done.left == ()
    units = list(done.revived["relu()"])
    assert (model.one.weight[:, units] == 0).all()
    assert (model.other.weight[:, units] == 0).all()
    for x, expected in zip(batches, before, strict=True):
        torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_report_adds_up_and_is_copied_and_pickled():
    model = TwoPaths().double()
    kill(model.inner)
    parts = [diagnose(model, torch.randn(size, 6).double()) for size in (30, 3)]
    both = parts[0] + parts[1]
    assert len(both.program.passes) == 2
    for same in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):
        assert (same.program, same.silent) == (None, both.silent)
    assert revive(model, both).left == ()
    assert (model.other.weight[:, DEAD] == 0).all()


class Overwritten(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = F.relu(self.inner(x))
        x[:, :3].add_(1.0)
        return self.out(x)


@torch.no_grad()
def test_memory_that_is_changed_through_a_view_is_left():
    model = Overwritten().double()
    kill(model.inner)
    ((_, _, reason),) = revive(model, diagnose(model, torch.randn(30, 6).double())).left
    assert reason == "add() changes in place what other tensors still show"


@settings(max_examples=40, deadline=None)
@given(
    norms=st.lists(st.sampled_from([None, *NORMS]), min_size=1, max_size=3),
    slope=st.sampled_from([0.0, 0.2, -0.3]),
    dead=st.sets(st.integers(0, 7), max_size=6),
    seed=st.integers(0, 1000),
)
def test_outputs_stay_and_reasons_cover_the_rest(norms, slope, dead, seed):
    torch.manual_seed(seed)
    layers, channels = [], 2
    for kind in norms:
        layers.append(nn.Conv2d(channels, 8, 3, padding=1))
        if kind is not None:
            layers.append(NORMS[kind]())
        with torch.no_grad():
            layers[-1].weight[list(dead)] = 0.0
            layers[-1].bias[list(dead)] = -1.0
        if kind != "act":
            layers.append(nn.LeakyReLU(slope) if slope else nn.ReLU())
        channels = 8
    model = nn.Sequential(*layers, nn.Conv2d(8, 2, 3, padding=1)).double().eval()
    with torch.no_grad():
        report, done, _ = check(model, torch.randn(3, 2, 6, 6).double())
    assert done.units == report.silent


class Shifted(nn.Module):
    def __init__(self, shifts):
        super().__init__()
        self.inner, self.out, self.shift = nn.Linear(6, 6), nn.Linear(6, 2), nn.Parameter(torch.ones(shifts))

    def forward(self, x):
        return self.out(F.relu(self.inner(x)) + self.shift)


@pytest.mark.parametrize("shifts", [1, 6])
@torch.no_grad()
def test_a_weight_that_is_added_is_no_branch(shifts):
    model = Shifted(shifts).double()
    kill(model.inner)
    reason = "shift is added to their output (add()), so that they give out a constant"
    check(model, torch.randn(30, 6).double(), left=[reason] if shifts > 1 else [])


class FrozenBatchNorm2d(nn.Module):
    """A batch norm whose weights are buffers, as torchvision and detectron2 have it."""

    def __init__(self, channels):
        super().__init__()
        self.eps = 1e-5
        for name, value in (("weight", 1.0), ("bias", 0.1), ("running_mean", 0.2), ("running_var", 0.7)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x):
        scale = self.weight.reshape(1, -1, 1, 1) * (self.running_var.reshape(1, -1, 1, 1) + self.eps).rsqrt()
        bias = self.bias.reshape(1, -1, 1, 1) - self.running_mean.reshape(1, -1, 1, 1) * scale
        return x * scale + bias


@pytest.mark.parametrize("act", [nn.ReLU(), nn.LeakyReLU(0.1)])
@torch.no_grad()
def test_a_frozen_batch_norm_in_front(act):
    model = block(FrozenBatchNorm2d(8), act)
    model[1].bias[DEAD] = -100.0
    report, done, after = check(model, torch.randn(6, 2, 9, 9).double())
    assert done.units == report.silent == len(DEAD)
    assert after.silent == 0
    assert (model[1].bias[DEAD] == (0.0 if isinstance(act, nn.ReLU) else 100.0)).all()


@torch.no_grad()
def test_a_frozen_batch_norm_behind():
    model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), FrozenBatchNorm2d(8), nn.Conv2d(8, 3, 3, padding=1)).double()
    kill(model[0])
    report, done, _ = check(model, torch.randn(6, 2, 9, 9).double())
    assert done.units == report.silent >= len(DEAD)
    assert (model[2].weight[DEAD] == 0.0).all()
