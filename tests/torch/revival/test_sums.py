"""Units in front of a residual sum and behind it: revived where no weights but their own show them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support.revived_networks import DEAD
from torch import nn

from leakyrelu.diagnosis import Report
from leakyrelu.torch import diagnose, revive

WIDTH = 8
NORMS = {
    "batch": nn.BatchNorm2d,
    "instance": lambda width: nn.InstanceNorm2d(width, affine=True),
    "group": lambda width: nn.GroupNorm(2, width),
    "none": lambda width: nn.Identity(),
}


class Block(nn.Module):
    """Two convolutions and a skip, with the activation behind the sum."""

    def __init__(self, inputs, width, norm, changed):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, width, 3, padding=1), NORMS[norm](width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1), NORMS[norm](width)
        self.skip = nn.Sequential(nn.Conv2d(inputs, width, 1), NORMS[norm](width)) if changed else nn.Identity()
        self.act1, self.act2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)

    def forward(self, x):
        skip = self.skip(x)
        x = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        x += skip
        return self.act2(x)


class Net(nn.Module):
    """Stages of blocks; the first block of each changes the skip."""

    def __init__(self, stages, norm="batch"):
        super().__init__()
        self.stages = nn.ModuleList()
        for number, count in enumerate(stages):
            inputs = WIDTH if number else 3
            blocks = [Block(WIDTH if place else inputs, WIDTH, norm, not place) for place in range(count)]
            self.stages.append(nn.Sequential(*blocks))
        self.out = nn.Linear(WIDTH, 3)

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return self.out(x.mean((2, 3)))


def constant(layer, units, value):
    """Let channels of a convolution or norm give out a number."""
    with torch.no_grad():
        layer.weight[units], layer.bias[units] = 0.0, value


def last(block, norm):
    return block.conv2 if norm == "none" else block.norm2


def check(model, x):
    """Revive all silent units; the outputs stay."""
    before, report = model(x), diagnose(model, x)
    done = revive(model, report)
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)
    return report, done, diagnose(model, x)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("culprit", ["branch", "skip"])
@torch.no_grad()
def test_a_sum_whose_output_goes_into_layers_alone(norm, culprit):
    model, x = Net([1], norm).double().eval(), torch.randn(8, 3, 9, 9).double()
    block = model.stages[0][0]
    skip = block.skip[0] if norm == "none" else block.skip[1]
    dead, kept = (last(block, norm), skip) if culprit == "branch" else (skip, last(block, norm))
    constant(dead, DEAD, -50.0)
    state = [tensor.clone() for tensor in (kept.weight, kept.bias)]
    report, done, after = check(model, x)
    assert report["stages.0.0.act2"].silent_units.tolist() == DEAD
    assert done.revived["stages.0.0.act2"] == tuple(DEAD)
    assert not done.left
    assert after["stages.0.0.act2"].silent_units.tolist() == []
    share = after["stages.0.0.act2"].positive_share[DEAD]
    if norm == "batch":
        assert ((share > 0.1) & (share < 0.9)).all(), share
    assert all(torch.equal(*pair) for pair in zip((kept.weight, kept.bias), state, strict=True))
    assert (model.out.weight[:, DEAD] == 0).all()


@torch.no_grad()
def test_the_mean_of_the_other_branch_is_made_up_for():
    model, x = Net([2]).double().eval(), torch.randn(8, 3, 9, 9).double()
    block = model.stages[0][1]
    constant(block.norm2, DEAD, -50.0)
    constant(model.stages[0][0].skip[1], DEAD, 20.0)  # the skip of the second block is about 20 there
    _, done, after = check(model, x)
    assert done.revived["stages.0.1.act2"] == tuple(DEAD)
    share = after["stages.0.1.act2"].positive_share[DEAD]
    assert ((share > 0.1) & (share < 0.9)).all(), share


@torch.no_grad()
def test_a_unit_that_a_sum_adds_to_one_that_fires_is_left():
    model, x = Net([2]).double().eval(), torch.randn(8, 3, 9, 9).double()
    first, second = model.stages[0]
    constant(first.norm2, DEAD, -50.0), constant(second.norm2, DEAD, -50.0)
    constant(first.norm2, 7, -50.0)  # and fires behind the next sum
    constant(second.norm2, 7, 50.0)
    _, done, after = check(model, x)
    ((name, units, reason),) = [each for each in done.left if each[0] == "stages.0.0.act2"]
    assert (name, units) == ("stages.0.0.act2", (7,))
    assert reason == (
        "their output goes into a sum with stages.0.1.norm2 (add() in stages.0.1), so they are units of both branches"
    )
    assert done.revived["stages.0.0.act2"] == done.revived["stages.0.1.act2"] == tuple(DEAD)
    assert after["stages.0.0.act2"].silent_units.tolist() == [7]


@settings(max_examples=40, deadline=None)
@given(
    stages=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    norm=st.sampled_from([*NORMS]),
    data=st.data(),
    seed=st.integers(0, 1000),
)
def test_a_chain_of_sums_is_revived_where_all_of_it_is_silent(stages, norm, data, seed):
    torch.manual_seed(seed)
    model, x = Net(stages, norm).double().eval(), torch.randn(4, 3, 6, 6).double()
    places = [(i, j) for i, count in enumerate(stages) for j in range(count)]
    for i, j in places:
        block = model.stages[i][j]
        constant(last(block, norm), sorted(data.draw(st.sets(st.integers(0, 5), max_size=6))), -1e3)
    with torch.no_grad():
        report, done, _ = check(model, x)
    silent = {place: set(report["stages.{}.{}.act2".format(*place)].silent_units.tolist()) for place in places}
    expected = set()
    for i, j in places:
        chain = [silent[place] for place in places if place[0] == i and place[1] >= j]
        expected |= {(i, j, unit) for unit in set.intersection(*chain)}
    found = {(i, j, u) for i, j in places for u in done.revived.get(f"stages.{i}.{j}.act2", ())}
    assert found == expected
    left = {name: reason for name, _, reason in done.left}
    assert all("goes into a sum" in reason and name.endswith("act2") for name, reason in left.items()), left


@pytest.mark.parametrize("norm", NORMS)
@torch.no_grad()
def test_a_report_that_was_read_back(norm):
    model, x = Net([2, 2], norm).double().eval(), torch.randn(8, 3, 9, 9).double()
    for stage in model.stages:
        for block in stage:
            constant(last(block, norm), DEAD, -50.0)
    before, report = model(x), diagnose(model, x)
    done = revive(model, Report.from_json(report.to_json()))
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)
    assert all(done.revived[f"stages.1.{place}.act2"] == tuple(DEAD) for place in (0, 1)), done


class Stream(nn.Module):
    """A stream that is added to without an activation: each block rectifies it, as in networks without norms."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 1)
        self.convs = nn.ModuleList([nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(3)])
        self.out = nn.Linear(WIDTH, 3)

    def forward(self, x):
        x = self.stem(x)
        for conv in self.convs:
            x = conv(F.relu(x)) * 0.2 + x
        return self.out(F.relu(x).mean((2, 3)))


@pytest.mark.parametrize("fires", [False, True])
@torch.no_grad()
def test_units_that_several_activations_take_of_one_stream(fires):
    model, x = Stream().double(), torch.randn(8, 3, 9, 9).double()
    for conv in model.convs:
        constant(conv, DEAD, 0.0)
    constant(model.stem, DEAD, -1.0)
    if fires:
        constant(model.convs[2], DEAD, 10.0)
    report, done, after = check(model, x)
    names = [layer.name for layer in report.layers]
    assert len(names) == 4
    if not fires:
        assert not done.left
        assert all(done.revived[name] == tuple(DEAD) for name in names)
        assert after.silent == 0
    else:  # what the last activation shows is part of the output
        assert not done.revived
        makers = {reason.split(", ")[1] for _, _, reason in done.left if reason.endswith("has other consumers too")}
        assert makers == {"stem", "convs.1"}
        assert len(done.left) == 3


class Fused(nn.Module):
    """Branches that are added, and nothing but their sum is taken."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList([nn.Conv2d(3, WIDTH, 3, padding=1, stride=stride) for stride in (1, 2, 4)])
        self.fusion = nn.Conv2d(WIDTH, 4, 3, padding=1)

    def forward(self, x):
        first, *others = [F.relu(branch(x)) for branch in self.branches]
        for each in others:
            first = first + F.interpolate(each, first.shape[2:], mode="bilinear")
        return self.fusion(first)


@torch.no_grad()
def test_a_sum_of_branches_that_are_all_silent():
    model, x = Fused().double(), torch.randn(8, 3, 8, 8).double()
    for branch in model.branches:
        constant(branch, DEAD, -1.0)
    constant(model.branches[1], 7, -1.0)  # beside two that fire
    report, done, after = check(model, x)
    assert [tuple(layer.silent_units) for layer in report.layers] == [tuple(DEAD), (*DEAD, 7), tuple(DEAD)]
    assert all(done.revived[layer.name] == tuple(DEAD) for layer in report.layers)
    ((_, units, reason),) = done.left
    assert units == (7,)
    assert reason.startswith("their output goes into a sum with relu() (add())"), reason
    assert [tuple(layer.silent_units) for layer in after.layers] == [(), (7,), ()]


class Scaled(nn.Module):
    """A weight for each unit, or one, that is added behind a sum."""

    def __init__(self, shift):
        super().__init__()
        self.one, self.other, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2, bias=False)
        self.shift = nn.Parameter(shift)

    def forward(self, x):
        hidden = F.relu(self.one(x))
        return self.out(F.relu(hidden + self.other(x)) + self.shift)


@torch.no_grad()
def test_a_constant_behind_a_sum_is_left():
    model, x = Scaled(torch.tensor([0.5])).double(), torch.randn(40, 6).double()
    constant(model.one, DEAD, -1.0), constant(model.other, DEAD, -50.0)
    report, done, _ = check(model, x)
    first, second = (layer.name for layer in report.layers)
    reasons = {name: reason for name, _, reason in done.left}
    assert reasons[first] == "shift is added behind a sum that they go into (add())"
    assert done.revived == {second: tuple(DEAD[1:])}  # one of them gives out the constant


class Rectified(nn.Module):
    """The activation behind a sum takes what other activations made, as in a V-Net."""

    def __init__(self):
        super().__init__()
        self.down, self.conv, self.out = (
            nn.Conv2d(3, WIDTH, 3),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.Linear(WIDTH, 3),
        )

    def forward(self, x):
        down = F.relu(self.down(x))
        return self.out(torch.relu(F.relu(self.conv(down)) + down).mean((2, 3)))


@pytest.mark.parametrize("fires", [False, True])
@torch.no_grad()
def test_an_activation_behind_silent_activations(fires):
    model, x = Rectified().double(), torch.randn(8, 3, 9, 9).double()
    constant(model.down, [1, 4, 5, 7] if fires else DEAD, -1.0), constant(model.conv, DEAD, -1.0)
    if fires:
        constant(model.conv, 7, 1.0)
    report, done, after = check(model, x)
    silent = [tuple(layer.silent_units) for layer in report.layers]
    assert silent == [(1, 4, 5, 7) if fires else tuple(DEAD), tuple(DEAD), tuple(DEAD)]
    assert [done.revived[layer.name] for layer in report.layers] == [tuple(DEAD)] * 3
    assert [units for _, units, _ in done.left] == ([(7,)] if fires else [])
    assert after.silent == len(done.left)


class Exchanged(Rectified):
    """A stream whose second activation takes it with the units exchanged."""

    def forward(self, x):
        down = self.down(x)
        return self.out((torch.relu(F.relu(down) + F.relu(self.conv(x)).roll(1, 1))).mean((2, 3)))


@torch.no_grad()
def test_units_that_arrive_at_others_keep_the_outputs():
    model, x = Exchanged().double(), torch.randn(8, 3, 9, 9).double()
    model.conv = nn.Conv2d(3, WIDTH, 3).double()
    for layer in (model.down, model.conv):
        constant(layer, DEAD, -1.0)
    report, done, after = check(model, x)
    first, second, _ = (layer.name for layer in report.layers)
    assert done.revived[first] == (5,)  # unit 4 of the other is added to it
    assert done.revived[second] == (4,)
    assert after.silent == report.silent - done.units


class Octave(nn.Conv1d):
    """As an octave convolution: two tensors out of one parameter, by functions, in a forward method of its own."""

    def forward(self, x):
        return F.conv1d(x, self.weight, self.bias), F.conv1d(F.avg_pool1d(x, 2), self.weight, self.bias)


class Octaves(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = Octave(2, 4, 1), nn.Conv1d(4, 1, 1)

    def forward(self, x):
        return self.last(F.relu(self.first(x)[0]))


def test_a_layer_with_a_forward_method_of_its_own():
    model, x = Octaves().double(), torch.randn(8, 2, 6, dtype=torch.float64)
    with torch.no_grad():
        model.first.weight[1], model.first.bias[1] = 0.0, -1.0
        expected = model(x)
        done = revive(model, diagnose(model, x))
        assert done.left == ()
        torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    assert 1 not in diagnose(model, x).layers[0].silent_units


class Positions(nn.Module):
    """As in transformers: a table is read at positions that are a buffer, and a layer takes the sum."""

    def __init__(self):
        super().__init__()
        self.table, self.first, self.last = nn.Embedding(7, 3), nn.Linear(3, 4), nn.Linear(4, 1)
        self.register_buffer("positions", torch.arange(5).repeat(8, 1))

    def forward(self, x):
        return self.last(F.relu(self.first(x.sin() + self.table(self.positions))))


def test_what_is_made_of_weights_alone_has_no_mean_of_the_data():
    model, x = Positions().double(), torch.randn(8, 5, 3, dtype=torch.float64)
    with torch.no_grad():
        model.first.weight[2], model.first.bias[2] = 0.0, -1.0
        expected = model(x)
        assert revive(model, diagnose(model, x)).left == ()
        torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    assert diagnose(model, x).silent == 0
