"""Reviving: the network computes what it computed, the units live again, and what cannot be traced is left."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.diagnosis.report import Report
from leakyrelu.torch import CenteredLeakyReLU, diagnose, restore, revive, save_memory

DEAD = [1, 4, 5]


@pytest.fixture(autouse=True)
def _alone():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def kill(layer, units=DEAD):
    with torch.no_grad():
        layer.bias[units] = -1000.0


class Plain(nn.Module):
    """A convolutional network in the words of most people: view in forward, functional pooling, a mean."""

    def __init__(self):
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(inplace=True)
        self.conv2, self.norm2, self.act2 = nn.Conv2d(8, 6, 3, groups=2), nn.BatchNorm2d(6), nn.ReLU()
        self.linear3, self.act3 = nn.Linear(6 * 4, 7), nn.ReLU()
        self.drop, self.linear4 = nn.Dropout(), nn.Linear(7, 3)

    def forward(self, x):
        x = F.max_pool2d(self.act1(self.conv1(x)), 2)
        x = self.act2(self.norm2(self.conv2(x)))
        x = self.act3(self.linear3(x.view(x.size(0), -1)))
        return self.linear4(self.drop(x))


def plain():
    model = Plain()
    kill(model.conv1), kill(model.norm2), kill(model.linear3)
    return model, torch.randn(64, 2, 8, 8)


def mlp():
    model = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 2))
    kill(model[0]), kill(model[2])
    return model, torch.randn(300, 5)


def flattened():
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6 * 9, 2))
    kill(model[0])
    return model, torch.randn(50, 1, 8, 8)


def pooled():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act, self.out = nn.Conv1d(1, 6, 3), nn.ReLU(), nn.Linear(6, 2)

        def forward(self, x):
            return self.out(self.act(self.conv(x)).mean(2))

    model = Pooled()
    kill(model.conv)
    return model, torch.randn(80, 1, 9)


def transposed():
    first, second = nn.ConvTranspose2d(4, 6, 2, groups=2), nn.ConvTranspose2d(6, 8, 2, groups=2)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Conv2d(8, 1, 1))
    kill(model[0]), kill(model[2])
    return model, torch.randn(40, 4, 4, 4)


def norm_behind():
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3))
    kill(model[0])
    with torch.no_grad():
        model[2].bias.copy_(torch.randn(6))
        model[2].running_mean.copy_(torch.rand(6))
    return model, torch.randn(40, 1, 8, 8)


def depthwise():
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3, padding=1, groups=6), nn.Flatten())
    kill(model[0])
    return model, torch.randn(40, 1, 6, 6)


class Functional(nn.Module):
    """Activations that are calls: several in one forward, in a loop, in a block, as functions and methods."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.norm2 = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6)
        self.drop, self.linears = nn.Dropout(), nn.ModuleList([nn.Linear(6, 7), nn.Linear(7, 7), nn.Linear(7, 7)])
        self.block, self.out = Inner(), nn.Linear(6, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = torch.relu(self.norm2(self.conv2(x))).mean((2, 3))
        for linear in self.linears:
            x = self.drop(linear(x)).clamp(min=0)
        return self.out(self.block(x))


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(7, 6)

    def forward(self, x):
        return self.inner(x).relu()


def functional():
    model = Functional()
    for layer in (model.conv1, model.norm2, *model.linears, model.block.inner):
        kill(layer)
    return model, torch.randn(64, 2, 9, 9)


class Tutorial(nn.Module):
    """Pooling in front of the activation, and a flatten whose size is a number: PyTorch's first MNIST example."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.drop = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 6, 3), nn.Dropout2d()
        self.pool, self.linear1, self.linear2 = nn.MaxPool2d(2), nn.Linear(6 * 4, 7), nn.Linear(7, 3)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(self.pool(self.drop(self.conv2(x))))
        x = x.view(-1, 6 * 4)
        x = F.dropout(F.relu(self.linear1(x)), training=self.training)
        return F.log_softmax(self.linear2(x), dim=1)


def tutorial():
    model = Tutorial()
    kill(model.conv1), kill(model.conv2), kill(model.linear1)
    return model, torch.randn(64, 1, 14, 14)


class Statements(nn.Module):
    """Activations in place, whose result nobody takes by name."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear1, self.linear2 = nn.Conv1d(1, 8, 3), nn.Linear(8 * 4, 7), nn.Linear(7, 6)
        self.linear3, self.out, self.act = nn.Linear(6, 6), nn.Linear(6, 2), nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.conv(x)
        x.relu_()
        x = self.linear1(x.reshape(x.shape[0], 8 * 4))
        F.relu(x, inplace=True)
        x = self.linear2(x)
        self.act(x)
        x = self.linear3(x)
        torch.relu_(x)
        return self.out(x)


def statements():
    model = Statements()
    for layer in (model.conv, model.linear1, model.linear2, model.linear3):
        kill(layer)
    return model, torch.randn(50, 1, 6)


@torch.no_grad()
def test_calls_are_found_by_what_feeds_them():
    model, x = functional()
    report = diagnose(model, x)
    makers = {
        "relu()": model.conv1,
        "relu()#2": model.conv2,
        **{f"clamp() after linears.{i}": linear for i, linear in enumerate(model.linears)},
        "block.relu()": model.block.inner,
    }
    assert [layer.name for layer in report.layers] == list(makers)
    old = {name: layer.weight.clone() for name, layer in makers.items()}
    out = {"relu()": model.conv2, "block.relu()": model.out, "relu()#2": model.linears[0]}
    out |= {f"clamp() after linears.{i}": model.linears[i + 1] for i in range(2)}
    out["clamp() after linears.2"] = model.block.inner
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
    assert after.silent < report.silent / 2  # fresh, but nobody promises that all of them fire


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
def test_units_of_a_slope_are_left_unless_their_mean_is_folded():
    model = nn.Sequential(nn.Linear(5, 9), nn.LeakyReLU(0.1), nn.Linear(9, 2)).double()
    x = torch.randn(400, 5, dtype=torch.float64)
    kill(model[0])
    model[0].weight[DEAD] *= 5
    report = diagnose(model, x)
    before, state = model(x), {name: value.clone() for name, value in model.state_dict().items()}
    done = revive(model, report)
    assert done.revived == {}
    ((name, units, reason),) = done.left
    assert (name, set(DEAD) <= set(units)) == ("1", True)
    assert reason.startswith("they still give out slope * x, so cutting them off would change the network")
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
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


def sequential(*layers):
    return lambda: nn.Sequential(nn.Linear(6, 6), *layers)


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


class Called(nn.Module):
    """Calls a function twice in one place, or in training another one."""

    def __init__(self, how):
        super().__init__()
        self.inner, self.out, self.how = nn.Linear(6, 6), nn.Linear(6, 1), how

    def forward(self, x):
        if self.how == "mode":
            x = F.relu(self.inner(x)) if self.training else torch.relu(self.inner(x))
        for _ in range(2 if self.how == "twice" else 0):
            x = F.relu(self.inner(x))
        return self.out(F.relu(self.inner(x)) if self.how == "once" else x)


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
