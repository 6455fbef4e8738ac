"""Pairs that save_memory leaves apart, and the reasons it gives."""

import copy

import pytest
import torch
import torch.nn.functional as F
from support.memory_networks import hooked
from torch import nn

from leakyrelu.torch import save_memory


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
        ("activation of a sum", (("bn", "act"),), None),
        ("function", (("bn", "leaky_relu()"),), None),
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
    for training in (True, False):
        model.train(training), twin.train(training)
        torch.testing.assert_close(model(x), twin(x))


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
        (hooked(nn.BatchNorm1d(4)), nn.LeakyReLU(), "it carries 1 hook, which"),
        (nn.BatchNorm1d(4), hooked(nn.LeakyReLU()), "it carries 1 hook, which"),
    ],
)
def test_layers_that_do_not_fit_are_left(norm, act, reason):
    report = save_memory(model := nn.Sequential(nn.Linear(4, 4), norm, act))
    assert report.joined == ()
    assert dict(report.left)["1"].startswith(reason)
    assert model[1] is norm


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
