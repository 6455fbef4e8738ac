"""Which code may call a rectifier by a function: with a name for it anywhere, yes; what cannot be read, yes."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.torch.diagnosis.rectifying_code import can_call_rectifier


def _helper(x):
    return _deeper(x)


def _deeper(x):
    return x.clamp(min=0)


def _harmless(x):
    return F.batch_norm(x, None, None, training=True) + 1


class Base(nn.Module):
    def activate(self, x):
        return torch.relu(x)


class Helper:
    def apply(self, x):
        return F.leaky_relu(x)


class OwnFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp_(min=0)


_TABLE = {"act": F.relu}


def module(forward, base=nn.Module, **attributes):
    made = type("Made", (base,), {"forward": forward})()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


CAN = {
    "function": module(lambda self, x: F.relu(x)),
    "method": module(lambda self, x: x.relu_()),
    "helper": module(lambda self, x: _helper(x)),
    "base class": module(lambda self, x: self.activate(x), Base),
    "nested": module(lambda self, x: [y.relu() for y in x]),
    "a function as an attribute": module(lambda self, x: self.act(x), act=F.relu),
    "a partial": module(lambda self, x: self.act(x), act=functools.partial(F.leaky_relu, negative_slope=0.1)),
    "a lambda as an attribute": module(lambda self, x: self.act(x), act=lambda x: x.clamp(min=0)),
    "in a list": module(lambda self, x: self.acts[0](x), acts=[F.relu]),
    "an object": module(lambda self, x: self.helper.apply(x), helper=Helper()),
    "an own function": module(lambda self, x: OwnFunction.apply(x)),
    "a table": module(lambda self, x: _TABLE["act"](x)),
    "by its name": module(lambda self, x: getattr(torch, "relu")(x)),  # noqa: B009
    "of a submodule's name without the submodule": module(lambda self, x: self.relu(x), relu=F.relu),
    "an operator": module(lambda self, x: torch.ops.aten.relu(x)),
    "a layer of PyTorch's own": nn.TransformerEncoderLayer(4, 1, 4),
}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        x = self.relu(x)
        return self.relu(x + 1)


CANNOT = {
    "an activation of its own": Block(),
    "a submodule": module(lambda self, x: self.relu(self.conv(x)) + x, relu=nn.ReLU(), conv=nn.Conv2d(3, 3, 1)),
    "a harmless helper": module(lambda self, x: _harmless(x)),
    "numbers and names": module(lambda self, x: x * self.scale, scale=2.0, label="first"),
    "a container": nn.Sequential(nn.ReLU()),
    "a type": module(lambda self, x: x, norm=nn.BatchNorm2d),
}


@pytest.mark.parametrize("name", CAN)
def test_what_can(name):
    assert can_call_rectifier(CAN[name])


@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot(name):
    assert not can_call_rectifier(CANNOT[name])
