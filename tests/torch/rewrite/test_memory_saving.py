"""save_memory and restore: what is joined, what is left and why, and that no function changes."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.torch import LeakyReLU, NormLeakyReLU, PReLU, activation_memory, restore, save_memory


class Block(nn.Module):
    """As the blocks of nnU-Net: the same modules as attributes and within an nn.Sequential."""

    def __init__(self, channels_in, channels, slope=0.1):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.norm = nn.InstanceNorm2d(channels, affine=True)
        self.nonlin = nn.LeakyReLU(slope, inplace=True)
        self.all_modules = nn.Sequential(self.conv, self.norm, self.nonlin)

    def forward(self, x):
        return self.all_modules(x)


class Custom(nn.Module):
    """Calls its layers in an order that is not the one they are listed in."""

    def __init__(self):
        super().__init__()
        self.act = nn.LeakyReLU(0.2)
        self.bn = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.conv(self.act(self.bn(x))) + x


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.LeakyReLU(0.3), nn.GroupNorm(2, 4))
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x):
        y = self.body(x)
        if y.mean() > 1e9:
            return y
        return self.act(self.bn(y))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([Block(1, 4), Block(4, 6)])
        self.up = nn.ConvTranspose2d(6, 4, 2, 2)
        self.join = Block(8, 4)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        skip = self.down[0](x)
        deep = self.down[1](F.max_pool2d(skip, 2))
        return self.head(self.join(torch.cat([self.up(deep), skip], 1)))


def losses(model, shape, steps=20, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - x[:, :1].roll(1)).square().mean()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_a_unet_trains_to_the_same_losses(dtype, tolerance):
    torch.manual_seed(0)
    model = UNet().to(dtype)
    twin = copy.deepcopy(model)
    keys = list(model.state_dict())
    report = save_memory(model)
    assert report.joined == tuple((f"{block}.norm", f"{block}.nonlin") for block in ("down.0", "down.1", "join"))
    assert (report.swapped, report.left) == ((), ())
    assert type(model.join.norm) is NormLeakyReLU
    assert model.join.all_modules[1] is model.join.norm
    assert model.join.all_modules[2] is model.join.nonlin
    assert list(model.state_dict()) == keys
    np.testing.assert_allclose(
        losses(model, (2, 1, 8, 8), dtype=dtype), losses(twin, (2, 1, 8, 8), dtype=dtype), rtol=tolerance
    )
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[key], rtol=100 * tolerance, atol=100 * tolerance)


def test_restore_puts_the_very_same_modules_back():
    model = nn.ModuleDict({"unet": UNet(), "custom": Custom(), "lone": nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU())})
    before = dict(model.named_modules(remove_duplicate=False))
    save_memory(model)
    after = dict(model.named_modules(remove_duplicate=False))
    assert [name for name in before if before[name] is not after[name]] == [
        name for name, module in before.items() if isinstance(module, nn.LeakyReLU | nn.InstanceNorm2d | nn.BatchNorm2d)
    ]
    model.eval()
    assert restore(model) == 9
    again = dict(model.named_modules(remove_duplicate=False))
    assert all(again[name] is module for name, module in before.items())
    assert not any(module.training for module in model.modules())
    assert restore(model) == 0


def test_copies_can_be_restored_and_trained_weights_stay():
    model = UNet()
    save_memory(model)
    losses(model, (2, 1, 8, 8), 2, torch.float32)
    twin = copy.deepcopy(model)
    x = torch.randn(2, 1, 8, 8)
    expected = model(x)
    restore(twin)
    assert not any(isinstance(module, NormLeakyReLU) for module in twin.modules())
    torch.testing.assert_close(twin(x), expected)


def test_checkpoints_load_both_ways():
    torch.manual_seed(0)
    model, twin = UNet().eval(), UNet().eval()
    save_memory(twin)
    x = torch.randn(2, 1, 8, 8)
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(twin(x), model(x))
    fresh = UNet().eval()
    fresh.load_state_dict(twin.state_dict())
    torch.testing.assert_close(fresh(x), model(x))


def test_order_of_calls_and_not_of_listing_decides():
    model = nn.Sequential(Custom())
    x = torch.randn(2, 4, 3, 3)
    expected = copy.deepcopy(model)(x)
    assert save_memory(model).joined == (("0.bn", "0.act"),)
    torch.testing.assert_close(model(x), expected)


def test_what_cannot_be_traced_is_rewritten_by_structure_where_that_is_sure():
    model = Untraceable()
    x = torch.randn(2, 4, 3, 3)
    expected = copy.deepcopy(model)(x)
    report = save_memory(model)
    assert report.joined == (("body.1", "body.2"),)
    assert report.swapped == ("act",)
    assert [name for name, _ in report.left] == ["body.3", "bn"]
    assert report.left[0][1].startswith("its output leaves")
    assert "the forward method of Untraceable cannot be traced: " in report.left[1][1]
    torch.testing.assert_close(model(x), expected)


class Reused(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.way = way
        self.bn = nn.BatchNorm2d(4)
        self.bn2 = nn.BatchNorm2d(4)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x):
        if self.way == "output used twice":
            v = self.bn(x)
            return self.act(v) + v
        if self.way == "activation of a sum":
            return self.act(self.act(self.bn(x)) + x)
        if self.way == "function":
            return F.leaky_relu(self.bn(x), 0.1)
        if self.way == "another function":
            return F.elu(self.bn(x))
        if self.way == "only in training":
            return self.act(self.bn(x)) if self.training else self.bn(x)
        if self.way == "two norms":
            return self.act(self.bn2(self.act(self.bn(x))))
        if self.way == "norm twice":
            return self.bn(self.act(self.bn(x)))
        if self.way == "output":
            return self.bn(x), self.act(x)
        raise AssertionError


@pytest.mark.parametrize(
    ("way", "joined", "reason"),
    [
        ("output used twice", (), "its output is used 2 times"),
        ("activation of a sum", (), "its activation is also called on something else, so it has to stay"),
        (
            "function",
            (),
            "a call of leaky_relu comes after it, not a module; make it a leakyrelu.torch.LeakyReLU, which can be",
        ),
        ("another function", (), "a call of elu comes after it, not a module"),
        ("only in training", (), "its output leaves the part of the model that could be traced"),
        ("two norms", (("bn", "act"), ("bn2", "act")), None),
        ("norm twice", (), "its output leaves the part of the model that could be traced"),
        ("output", (), "its output leaves the part of the model that could be traced"),
    ],
)
def test_what_is_left_and_why(way, joined, reason):
    torch.manual_seed(0)
    model = Reused(way)
    x = torch.randn(2, 4, 3, 3)
    twin = copy.deepcopy(model)
    report = save_memory(model)
    assert report.joined == joined
    if reason:
        assert dict(report.left)["bn"].startswith(reason)
    assert ("LeakyReLU" in dict(report.left).get("bn", "")) == (way == "function")
    for training in (True, False):
        model.train(training), twin.train(training)
        torch.testing.assert_close(model(x), twin(x))


def hooked(module):
    module.register_forward_hook(lambda *_: None)
    return module


@pytest.mark.parametrize(
    ("norm", "act", "reason"),
    [
        (nn.BatchNorm1d(4), nn.ReLU(), "ReLU comes after it, which is no Leaky ReLU of fixed positive slope"),
        (nn.BatchNorm1d(4), nn.PReLU(), "PReLU comes after it, which is no Leaky ReLU of fixed positive slope"),
        (nn.BatchNorm1d(4), nn.Linear(4, 4), "Linear comes after it, not a Leaky ReLU"),
        (nn.BatchNorm1d(4), nn.LeakyReLU(0.0), "the slope of its activation is 0.0, which is not positive"),
        (nn.BatchNorm1d(4), nn.LeakyReLU(-0.5), "the slope of its activation is -0.5, which is not positive"),
        (nn.BatchNorm1d(4), type("Mine", (nn.LeakyReLU,), {})(), "its activation is a Mine, a subclass of nn.Leaky"),
        (type("Mine", (nn.BatchNorm1d,), {})(4), nn.LeakyReLU(), "Mine is a subclass of BatchNorm1d and may do more"),
        (hooked(nn.BatchNorm1d(4)), nn.LeakyReLU(), "it carries 1 hooks"),
        (nn.BatchNorm1d(4), hooked(nn.LeakyReLU()), "it carries 1 hooks"),
    ],
)
def test_layers_that_do_not_fit_are_left(norm, act, reason):
    report = save_memory(model := nn.Sequential(nn.Linear(4, 4), norm, act))
    assert report.joined == ()
    assert dict(report.left)["1"].startswith(reason)
    assert model[1] is norm


def test_lone_activations_are_swapped_and_shared_ones_stay_shared():
    act = nn.LeakyReLU(-0.5, inplace=True).eval()
    model = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2), act), "b": act, "ours": LeakyReLU(0.2)})
    ours = model["ours"]
    report = save_memory(model)
    assert report.swapped == ("a.1",)
    assert model["b"] is model["a"][1]
    assert (type(model["b"]), model["b"].negative_slope, model["b"].inplace) == (LeakyReLU, -0.5, True)
    assert not model["b"].training
    assert model["ours"] is ours


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        self.last = None
        self.act = nn.LeakyReLU()

    def forward(self, x):
        self.calls += 1
        self.last = x
        return self.act(x)


def test_tracing_leaves_nothing_behind():
    model = Counting().eval()
    save_memory(model)
    assert (model.calls, model.last, model.training, model.act.training) == (0, None, False, False)


class Written(nn.Module):
    """Changes the output of its pair in one of many ways."""

    def __init__(self, way):
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.LeakyReLU(0.1)
        self.dropout, self.relu = nn.Dropout2d(0.5, inplace=True), nn.ReLU(inplace=True)
        self.keep = nn.Dropout(0.0)
        self.out = nn.Conv2d(3, 2, 1)
        self.way = way

    def forward(self, x):
        return self.out(self.way(self, self.act(self.bn(self.conv(x))), x))


def added(self, y, x):
    y += x
    return y


def multiplied(self, y, x):
    y *= 2
    return y


def a_view_of_it(self, y, x):
    y.view(y.shape[0], -1).mul_(2.0)
    return y


def a_part_of_it(self, y, x):
    y[:, :1].zero_()
    return y


@pytest.mark.parametrize(
    ("way", "by"),
    [
        (added, "iadd"),
        (multiplied, "imul"),
        (a_view_of_it, "mul_"),
        (a_part_of_it, "zero_"),
        (lambda self, y, x: y.add_(x), "add_"),
        (lambda self, y, x: torch.add(x, x, out=y), "add"),
        (lambda self, y, x: torch.relu_(y), "relu_"),
        (lambda self, y, x: self.dropout(y), "Dropout2d"),
        (lambda self, y, x: self.relu(y), "ReLU"),
        (lambda self, y, x: nn.functional.relu(y, True), "relu"),
        (lambda self, y, x: nn.functional.elu(y, inplace=True), "elu"),
        (lambda self, y, x: y if self.training else self.keep(y).mul_(2.0), "mul_"),
    ],
)
def test_an_output_that_is_changed_in_place_is_kept_apart(way, by):
    original = Written(way)
    model = copy.deepcopy(original)
    report = save_memory(model)
    assert report.joined == ()
    assert report.left == (
        ("bn", f"{by} changes the output of its activation in place, which the backward pass would need"),
    )
    if by == "add":
        return  # PyTorch's own functions refuse out= where a gradient is asked for
    for training in (True, False):
        x = torch.randn(4, 3, 5, 5)
        gradients = []
        for each in (original, model):
            each.train(training).zero_grad()
            torch.manual_seed(0)
            each(x).square().sum().backward()
            gradients.append(each.conv.weight.grad)
        assert torch.allclose(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "way",
    [
        lambda self, y, x: y + x,
        lambda self, y, x: x.add_(1.0) + y,
        lambda self, y, x: (y + x).mul_(2.0),
        lambda self, y, x: x.clone().add_(y),
        lambda self, y, x: nn.functional.relu(y),
    ],
)
def test_an_output_that_is_only_read_is_no_obstacle(way):
    assert save_memory(Written(way)).joined == (("bn", "act"),)


def test_a_dropout_in_place_in_a_sequential_that_cannot_be_traced():
    class Picky(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.mean() < 9 else x

    inner = nn.Sequential(nn.BatchNorm1d(4), nn.LeakyReLU(), nn.Dropout(0.5, inplace=True), Picky(4, 4))
    inner[3].add_module("child", nn.Identity())  # else it would be one call
    report = save_memory(inner)
    assert report.joined == ()
    assert report.left[0][1].startswith("Dropout changes the output of its activation in place")


def test_a_forward_method_that_raises_without_a_word():
    class Silent(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.bn = nn.Sequential(nn.BatchNorm1d(4), nn.LeakyReLU()), nn.BatchNorm1d(4)

        def forward(self, x):
            if not isinstance(x, torch.Tensor):
                raise TypeError
            return self.bn(self.body(x))

    report = save_memory(Silent())
    assert report.joined == (("body.0", "body.1"),)
    assert report.left == (("bn", "the forward method of Silent cannot be traced: TypeError"),)


def test_a_hook_on_a_container_sees_what_it_saw():
    class Staged(nn.Module):
        def __init__(self):
            super().__init__()
            self.stage = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LeakyReLU(), nn.BatchNorm1d(4))
            self.act = nn.LeakyReLU()

        def forward(self, x):
            return self.act(self.stage(x))

    model, seen = Staged(), []
    model.stage.register_forward_hook(lambda module, args, output: seen.append(output.detach().clone()))
    x = torch.randn(50, 3)
    model(x)
    report = save_memory(model)
    assert report.joined == (("stage.1", "stage.2"),)
    assert report.left[0][0] == "stage.3"
    model(x)
    assert len(seen) == 2  # the tracing was no call
    assert torch.allclose(*seen, rtol=1e-4, atol=1e-4)


def test_report_reads_as_words():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LeakyReLU(), nn.LeakyReLU(), nn.BatchNorm1d(4))
    assert repr(save_memory(model)) == (
        "1 pairs joined, 1 Leaky ReLUs swapped, 1 left\n"
        "  joined  1 + 2\n"
        "  swapped 3\n"
        "  left    4: its output leaves the part of the model that could be traced, or is the model's own"
    )
    assert repr(model[2]) == "Absorbed(LeakyReLU(negative_slope=0.01))"


def test_the_model_itself_and_no_model():
    assert save_memory(nn.LeakyReLU()).left == (("", "it is the model itself"),)
    assert repr(save_memory(nn.LeakyReLU())).endswith("left    (model): it is the model itself")
    for function in (save_memory, restore):
        with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, not str: 'net'"):
            function("net")


def test_twice_is_once():
    model = UNet()
    save_memory(model)
    report = save_memory(model)
    assert (report.joined, report.swapped, report.left) == ((), (), ())
    assert restore(model) == 6


# Learned slopes


def test_learned_slopes_are_swapped_and_keep_their_parameters():
    torch.manual_seed(0)
    shared = nn.PReLU(4)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), shared, nn.Conv2d(4, 4, 1), shared, nn.Conv2d(4, 4, 1), nn.PReLU(4, 0.5)
    )
    twin = copy.deepcopy(model).double()
    model.double()
    parameters, keys = list(model.parameters()), list(model.state_dict())
    report = save_memory(model)
    assert report.swapped == ("1", "5")
    assert repr(report).splitlines()[1:] == ["  swapped 1", "  swapped 5"]
    assert type(model[1]) is type(model[5]) is PReLU
    assert model[1] is model[3]
    assert repr(model[5]) == "PReLU(num_parameters=4)"
    assert list(model.state_dict()) == keys
    assert all(mine is yours for mine, yours in zip(model.parameters(), parameters, strict=True))
    np.testing.assert_allclose(losses(model, (2, 1, 8, 8)), losses(twin, (2, 1, 8, 8)), rtol=1e-10)
    copied = copy.deepcopy(model)
    for each in (model, copied):
        each.float()
        assert restore(each) == 2
        assert type(each[1]) is nn.PReLU
        assert each[1] is each[3]
        assert each[1].weight.dtype is torch.float32
        torch.testing.assert_close(each[1].weight.double(), twin[1].weight, rtol=1e-6, atol=1e-6)
    assert model[1] is shared


def test_learned_slopes_keep_less_afterwards():
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.PReLU(8), nn.Conv2d(8, 8, 3, padding=1))
    x = torch.randn(4, 1, 64, 64)
    size = 4 * 8 * 64 * 64 * 4
    assert activation_memory(model, x).bytes == 2 * size
    save_memory(model)
    assert activation_memory(model, x).bytes == size + 4


class Overwriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.act = nn.Linear(3, 3), nn.PReLU()

    def forward(self, x):
        y = self.act(self.linear(x))
        y += x
        return y


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.PReLU(), "it is the model itself"),
        (nn.Sequential(nn.Linear(3, 3), hooked(nn.PReLU())), "it carries 1 hooks"),
        (Overwriting(), "iadd changes its output in place, which the backward pass would need"),
        (nn.Sequential(nn.PReLU(), nn.ReLU(inplace=True)), "ReLU changes its output in place"),
    ],
)
def test_learned_slopes_that_are_left_and_why(model, reason):
    modules = list(model.modules())
    report = save_memory(model)
    assert report.swapped == ()
    assert report.left[0][1].startswith(reason)
    assert list(model.modules()) == modules
    x = torch.randn(5, 3, requires_grad=True)
    (model(x * 1)).sum().backward()


# With an example


class Picking(nn.Module):
    """Uses what is between two layers of an nn.Sequential, in code that cannot be traced."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.first = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LeakyReLU(0.1))
        self.second = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LeakyReLU(0.1), nn.Dropout(0.5))
        self.act, self.slopes = nn.LeakyReLU(0.2), nn.PReLU()

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        between = self.first[1](self.first[0](x))
        x = self.act(self.second(self.first[2](between)))
        if self.way == "used twice":
            return x + between, x
        y = self.slopes(x)
        return {"y": y.mul_(2) if self.way == "in place" else y}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("way", "joined", "swapped", "left"),
    [
        ("fine", ["first.1", "second.1"], ["act", "slopes"], {}),
        ("used twice", ["second.1"], ["act", "slopes"], {"first.1": "with it output 0 of the example is another"}),
        ("in place", ["first.1", "second.1"], ["act"], {"slopes": "with it the example raises: one of the variables"}),
    ],
)
def test_an_example_finds_what_tracing_cannot(way, joined, swapped, left, training, monkeypatch):
    monkeypatch.setattr("leakyrelu.torch.activations.parametric._SMALL", 0)
    torch.manual_seed(0)
    model = Picking(way).train(training)
    x = torch.randn(16, 4)
    twin = copy.deepcopy(model)
    state = torch.get_rng_state()
    report = save_memory(model, example=x)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [norm for norm, _ in report.joined] == joined
    assert list(report.swapped) == swapped
    assert len(report.left) == len(left)
    for name, reason in report.left:
        assert reason.startswith(left[name])
    torch.manual_seed(1)
    found = model(x)
    torch.manual_seed(1)
    torch.testing.assert_close(found, twin(x))
    restore(model)
    assert [type(module) for module in model.modules()] == [type(module) for module in twin.modules()]


def test_an_example_that_does_not_fit_changes_nothing():
    model = Picking("fine")
    modules = list(model.modules())
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        save_memory(model, example=(torch.randn(2, 3),))
    assert list(model.modules()) == modules
