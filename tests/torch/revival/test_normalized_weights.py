"""Units in front of and behind weights that are normalized by row: standardized, or by a weight norm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from leakyrelu.torch import diagnose, revive

WIDTH = 8


class Standardized(nn.Conv2d):
    """A convolution whose weights are standardized by row, with a gain, by the words of two libraries."""

    def __init__(self, *args, how="batch_norm", **options):
        super().__init__(*args, **options)
        self.gain, self.how = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1)), how

    def forward(self, x):
        if self.how == "batch_norm":
            rows = self.weight.reshape(1, self.out_channels, -1)
            weight = F.batch_norm(rows, None, None, weight=(self.gain * 0.7).view(-1), training=True, eps=1e-6)
            weight = weight.reshape_as(self.weight)
        elif self.how == "mean and variance":
            mean = self.weight.mean([1, 2, 3], keepdim=True)
            variance = self.weight.var([1, 2, 3], keepdim=True, unbiased=False)
            weight = (self.weight - mean) / torch.sqrt(variance + 1e-5) * self.gain
        else:  # not by row
            weight = (self.weight - self.weight.mean()) / self.weight.std() * self.gain
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def network(how="batch_norm", groups=1):
    options = {"padding": 1, "how": how}
    model = nn.Sequential(
        *(Standardized(3, WIDTH, 3, **options), nn.ReLU()),
        *(Standardized(WIDTH, WIDTH, 3, groups=groups, **options), nn.ReLU()),
        *(Standardized(WIDTH, WIDTH, 1, how=how), nn.ReLU()),
        nn.Conv2d(WIDTH, 3, 1),
    )
    return model.double().eval()


@torch.no_grad()
def plant(layer, units):
    layer.weight[units], layer.gain[units], layer.bias[units] = 0.0, 0.0, -100.0


def check(model, x):
    before, report = model(x), diagnose(model, x)
    done = revive(model, report)
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)
    return report, done, diagnose(model, x)


@pytest.mark.parametrize("how", ["batch_norm", "mean and variance"])
@torch.no_grad()
def test_all_but_one_unit_in_front_of_standardized_weights(how):
    model, x = network(how), torch.randn(4, 3, 8, 8).double()
    for place in (0, 2, 4):
        plant(model[place], [1, 4, 5])
    _, done, after = check(model, x)
    assert done.revived == {"1": (4, 5), "3": (4, 5), "5": (1, 4, 5)}  # behind the last one are plain weights
    assert {(name, units) for name, units, _ in done.left} == {("1", (1,)), ("3", (1,))}
    assert all(
        reason == "the next weights are standardized, so that no column of them becomes 0 unless another holds what it "
        "held of the mean: this unit stays silent for that"
        for _, _, reason in done.left
    )
    assert [layer.silent_units.tolist() for layer in after.layers] == [[1], [1], []]


@torch.no_grad()
def test_weights_that_are_standardized_together_are_left():
    model, x = network("all"), torch.randn(4, 3, 8, 8).double()
    plant(model[0], [1, 4])
    state = {name: value.clone() for name, value in model.state_dict().items()}
    _, done, _ = check(model, x)
    ((name, units, reason),) = done.left
    assert (name, units) == ("1", (1, 4))
    assert reason.startswith("the weights of 2 are computed by mul()"), reason
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


class Stream(nn.Module):
    """A stream that blocks of standardized convolutions are added to, and that each of them rectifies."""

    def __init__(self):
        super().__init__()
        self.stem = Standardized(3, WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList(
            [nn.ModuleList([Standardized(WIDTH, WIDTH, 1), Standardized(WIDTH, WIDTH, 3, padding=1)]) for _ in "ab"]
        )
        self.out = nn.Linear(WIDTH, 3)

    def forward(self, x):
        x = self.stem(x)
        for first, second in self.blocks:
            x = second(F.relu(first(F.relu(x)))) * 0.2 + x
        return self.out(F.relu(x).mean((2, 3)))


@torch.no_grad()
def test_one_unit_is_the_same_along_a_stream():
    model, x = Stream().double(), torch.randn(6, 3, 8, 8).double()
    plant(model.stem, [1, 4, 5])
    for _, second in model.blocks:
        plant(second, [1, 4, 5])
    report, done, after = check(model, x)
    stream = [report.layers[place].name for place in (0, 2, 4)]
    assert all(done.revived[name] == (4, 5) for name in stream), done
    assert all(after[name].silent_units.tolist() == [1] for name in stream)


@settings(max_examples=30, deadline=None)
@given(
    dead=st.lists(st.sets(st.integers(0, 6), max_size=5), min_size=3, max_size=3),
    groups=st.sampled_from([1, 2, 4]),
    how=st.sampled_from(["batch_norm", "mean and variance"]),
    seed=st.integers(0, 1000),
)
def test_outputs_stay_and_each_group_keeps_one_silent_unit(dead, groups, how, seed):
    torch.manual_seed(seed)
    model, x = network(how, groups), torch.randn(3, 3, 6, 6).double()
    for place, units in zip((0, 2, 4), dead, strict=True):
        plant(model[place], sorted(units))
    with torch.no_grad():
        report, done, _ = check(model, x)
    silent = [layer.silent_units.tolist() for layer in report.layers]
    kept = len({unit // (WIDTH // groups) for unit in silent[0]}) + bool(silent[1])
    assert done.units == report.silent - kept


WEIGHT_NORMS = {
    "parametrization": nn.utils.parametrizations.weight_norm,
    "hook": nn.utils.weight_norm,
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("how", WEIGHT_NORMS)
@pytest.mark.parametrize("grad", [False, True])
def test_units_between_weights_of_a_weight_norm(how, grad):
    norm = WEIGHT_NORMS[how]
    layers = [norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), norm(nn.Conv2d(8, 8, 3, groups=2)), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*layers, norm(nn.Linear(8 * 9, 4))).double().eval()
    x = torch.randn(4, 3, 7, 7).double()
    with torch.no_grad():
        model[0].bias[[1, 4, 5]] = -100.0
        model[2].bias[[2, 3]] = -100.0
    if grad:
        model(x).sum().backward()
    with torch.no_grad():
        report, done, after = check(model, x)
    assert done.units == report.silent >= 5
    assert not done.left
    assert after.silent == 0
    with torch.no_grad():
        assert bool((model[2].weight[:4, 1] == 0).all())
        assert bool((model[5].weight.reshape(4, 8, 9)[:, [2, 3]] == 0).all())


@torch.no_grad()
def test_a_spectral_norm_is_left():
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.utils.parametrizations.spectral_norm(nn.Linear(6, 2))).eval()
    model[0].bias[[1, 4]] = -100.0
    x = torch.randn(40, 6)
    before = model(x)
    ((_, _, reason),) = revive(model, diagnose(model, x)).left
    assert reason == "the weights of 2 are parametrized"
    assert torch.equal(model(x), before)


@torch.no_grad()
def test_finding_out_what_weights_are_writes_nothing_into_the_model():
    model, x = network("not by row"), torch.randn(4, 3, 8, 8).double()
    plant(model[0], [1, 4])
    report = diagnose(model, x)
    written = {name: parameter._version for name, parameter in model.named_parameters()}
    assert revive(model, report).units == 0
    assert {name: parameter._version for name, parameter in model.named_parameters()} == written
