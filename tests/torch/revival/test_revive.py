"""Reviving: the network computes what it computed, and the revived units live again."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support.revived_networks import (
    DEAD,
    Called,
    depthwise,
    flattened,
    functional,
    kill,
    mlp,
    norm_behind,
    plain,
    pooled,
    statements,
    transposed,
    tutorial,
)
from torch import nn

from leakyrelu.torch import CenteredLeakyReLU, diagnose, revive


@torch.no_grad()
def test_calls_are_found_by_what_feeds_them():
    model, x = functional()
    report = diagnose(model, x)
    clamps = ["clamp()", "clamp(), call 2", "clamp(), call 3"]
    makers = {
        "relu()": model.conv1,
        "relu(), call 2": model.conv2,
        **dict(zip(clamps, model.linears, strict=True)),
        "block.relu()": model.block.inner,
    }
    assert [layer.name for layer in report.layers] == list(makers)
    old = {name: layer.weight.clone() for name, layer in makers.items()}
    out = {"relu()": model.conv2, "block.relu()": model.out, "relu(), call 2": model.linears[0]}
    out |= {clamps[i]: model.linears[i + 1] for i in range(2)}
    out[clamps[2]] = model.block.inner
    revive(model, report)
    for layer in report.layers:
        silent = layer.silent_units.tolist()
        new = (makers[layer.name].weight != old[layer.name]).flatten(1)
        assert new[silent].any(1).all()
        alive = [unit for unit in range(layer.units) if unit not in silent]
        columns = [c for one in report.layers if out[one.name] is makers[layer.name] for c in one.silent_units]
        kept = [c for c in range(makers[layer.name].weight.shape[1]) if c not in columns]
        assert torch.equal(makers[layer.name].weight[alive][:, kept], old[layer.name][alive][:, kept])
        assert (out[layer.name].weight[:, silent] == 0).all()


@pytest.mark.parametrize(
    "make", [mlp, plain, flattened, pooled, transposed, norm_behind, depthwise, functional, tutorial, statements]
)
@torch.no_grad()
def test_the_network_computes_what_it_computed_and_its_units_live(make):
    model, x = make()
    before, report = model.eval()(x), diagnose(model, x)
    assert all(set(DEAD) <= set(layer.silent_units) for layer in report.layers)
    done = revive(model, report)
    assert done.left == ()
    assert done.units == report.silent
    torch.testing.assert_close(model.eval()(x), before, rtol=1e-4, atol=1e-5)
    after = diagnose(model, x)
    assert after.silent < report.silent / 2  # fresh, but not all of them need to be active


@torch.no_grad()
def test_what_is_fresh_and_what_is_zero():
    model, x = mlp()
    report = diagnose(model, x)
    old = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    revive(model, report, initializer=lambda layer: nn.init.constant_(layer.weight, 0.25))
    silent = report.layers[0].silent_units.tolist()
    alive = [unit for unit in range(9) if unit not in silent]
    assert (model[0].weight[silent] == 0.25).all()
    torch.testing.assert_close(model[0].weight[alive], old["0.weight"][alive], rtol=0, atol=0)
    torch.testing.assert_close(model[0].bias[alive], old["0.bias"][alive], rtol=0, atol=0)
    assert (model[2].weight[:, silent] == 0).all()
    assert (model[4].weight[:, report.layers[1].silent_units] == 0).all()
    assert (model[2].weight[0, alive] != 0).all()


@torch.no_grad()
def test_rows_are_drawn_as_the_layer_draws_them():
    model = nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 1))
    model[0].bias.fill_(-1000.0)
    revive(model, diagnose(model, torch.randn(50, 300)))
    bound = 300**-0.5  # nn.Linear: uniform within 1 / sqrt(fan_in), weights and biases
    weight = model[0].weight
    assert bound * 0.99 < weight.abs().max() <= bound
    assert abs(weight.std() / (bound / 3**0.5) - 1) < 0.02
    assert model[0].bias.abs().max() <= bound


@torch.no_grad()
def test_what_gives_out_a_constant_is_left_unless_it_is_folded():
    model = nn.Sequential(nn.Linear(5, 9), nn.Threshold(0.1, 2.0), nn.Linear(9, 2))
    kill(model[0])
    x = torch.randn(60, 5)
    before, report = model(x), diagnose(model, x)
    assert revive(model, report).left[0][2].startswith("they still give out a constant, so cutting them off would")
    assert torch.equal(model(x), before)
    assert revive(model, report, fold_mean=True).left == ()
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda p: torch.optim.Adam(p, amsgrad=True), {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}),
        (lambda p: torch.optim.AdamW(p, foreach=True), {"exp_avg", "exp_avg_sq"}),
        (lambda p: torch.optim.SGD(p, lr=1e-6, momentum=0.9), {"momentum_buffer"}),
        (lambda p: torch.optim.RMSprop(p, momentum=0.5, centered=True), {"square_avg", "momentum_buffer", "grad_avg"}),
        (lambda p: torch.optim.Adagrad(p, initial_accumulator_value=0.5), {"sum"}),
    ],
)
def test_the_optimizer_forgets_these_entries_and_no_others(make, names):
    model, x = mlp()
    optimizer = make(model.parameters())
    for _ in range(5):  # every entry gets a history, those of the dead units by decree
        optimizer.zero_grad()
        model(x).square().sum().backward()
        for parameter in model.parameters():
            parameter.grad += 0.1
        optimizer.step()
    kill(model[0]), kill(model[2])
    report = diagnose(model, x)
    old = {p: {k: v.clone() for k, v in s.items() if torch.is_tensor(v)} for p, s in optimizer.state.items()}
    done = revive(model, report, optimizer)
    assert done.left == ()
    first, second = (layer.silent_units.tolist() for layer in report.layers)
    touched = {p: torch.zeros_like(p, dtype=torch.bool) for p in model.parameters()}
    touched[model[0].weight][first] = touched[model[0].bias][first] = True
    touched[model[2].weight][second] = touched[model[2].bias][second] = True
    touched[model[2].weight][:, first] = touched[model[4].weight][:, second] = True
    for parameter, mask in touched.items():
        for name in names:
            now, then = optimizer.state[parameter][name], old[parameter][name]
            assert (now[mask] == (0.5 if name == "sum" else 0.0)).all()
            assert torch.equal(now[~mask], then[~mask])
            assert (then[mask] != 0).all()
        if "step" in old[parameter]:
            assert optimizer.state[parameter]["step"] == 5
    assert all(name in done.optimizer[0] for name in names)
    assert any("step is one number" in line for line in done.optimizer) == ("exp_avg_sq" in names)


def test_training_goes_on_and_the_revived_units_learn():
    model, x = mlp()
    y = torch.randint(2, (300,))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    done = revive(model, diagnose(model, x), optimizer)
    assert done.optimizer == ()  # it has not stepped yet
    units = list(done.revived["1"])
    start = model[0].weight[units].detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert (model[2].weight[:, units] != 0).any()
    assert not torch.equal(model[0].weight[units], start)


@torch.no_grad()
def test_units_of_a_slope_change_their_sign_or_fold_their_mean():
    model = nn.Sequential(nn.Linear(5, 9), nn.LeakyReLU(0.1), nn.Linear(9, 2)).double()
    x = torch.randn(400, 5, dtype=torch.float64)
    kill(model[0])
    model[0].weight[DEAD] *= 5
    report = diagnose(model, x)
    before, state = model(x), {name: value.clone() for name, value in model.state_dict().items()}
    done = revive(model, report)
    assert (done.left, done.revived, done.flipped) == ((), {"1": tuple(report.layers[0].silent_units)}, done.revived)
    assert f"1: {done.units} units, the sign of {done.units} changed, which are always on now" in repr(done)
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)
    assert set(done.revived["1"]) <= set(diagnose(model, x).layers[0].always_on_units)
    model.load_state_dict(state)
    silent = report.layers[0].silent_units
    hidden = model[1](model[0](x))[:, silent]
    lost = (hidden - hidden.mean(0)) @ model[2].weight[:, silent].T  # what deviates from the mean, and nothing else
    done = revive(model, report, fold_mean=True)
    assert done.left == ()
    torch.testing.assert_close(model(x), before - lost, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_centered_unit_gives_out_a_constant_that_is_folded():
    model = nn.Sequential(nn.Conv1d(1, 6, 2), CenteredLeakyReLU(0.0), nn.Conv1d(6, 2, 2)).double()
    kill(model[0])
    x = torch.randn(50, 1, 8, dtype=torch.float64)
    before, report = model(x), diagnose(model, x)
    assert "slope * x" in revive(model, report).left[0][2]
    assert revive(model, report, fold_mean=True).left == ()
    torch.testing.assert_close(model(x), before, rtol=1e-6, atol=1e-6)


def test_nothing_silent_changes_nothing():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].bias.fill_(5.0)
    done = revive(model, diagnose(model, torch.randn(10, 3)))
    assert (done.revived, done.left, repr(done)) == ({}, (), "0 units revived, 0 left")


def test_what_is_not_a_model_or_its_optimizer_is_refused():
    model, x = mlp()
    report = diagnose(model, x)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, not list"):
        revive([model], report)
    with pytest.raises(ValueError, match=r"the optimizer holds no parameter of this model: give the one"):
        revive(model, report, torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0))
    with pytest.raises(TypeError, match=r"report must be what diagnose or watch returned, a Report, not dict"):
        revive(model, {})
    with pytest.raises(TypeError, match=r"optimizer must be a torch\.optim\.Optimizer, not type"):
        revive(model, report, torch.optim.SGD)


def test_the_optimizer_forgets_what_feeds_a_call():
    model, x = Called("once"), torch.randn(50, 6)
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        for parameter in model.parameters():
            parameter.grad += 0.1
        optimizer.step()
    with torch.no_grad():
        kill(model.inner)
    report = diagnose(model, x)
    silent = report["relu()"].silent_units.tolist()
    alive = [unit for unit in range(6) if unit not in silent]
    revive(model, report, optimizer)
    for parameter, rows in ((model.inner.weight, True), (model.inner.bias, True), (model.out.weight, False)):
        for name in ("exp_avg", "exp_avg_sq"):
            state = optimizer.state[parameter][name]
            state = state if rows else state.T
            assert (state[silent] == 0).all()
            assert (state[alive] != 0).all()
