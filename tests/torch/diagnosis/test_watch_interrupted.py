"""Errors, interrupts and other modes while a census is open."""

from __future__ import annotations

import contextlib

import pytest
import torch
from support.calling import Feed
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from leakyrelu.torch import watch


def test_an_error_inside_leaves_nothing_behind():
    def fails(x):
        raise KeyError("no such thing")

    model = nn.Sequential(Feed(fails), nn.ReLU())
    with watch(model) as census:
        for _ in range(2):
            with pytest.raises(KeyError):
                model(torch.ones(1, 2))
            assert torch._C._len_torch_function_stack() == 0
        model[1](torch.ones(4, 2))
    assert census.report()["1"].samples == 4


def test_an_interrupt_inside_leaves_nothing_behind():
    def interrupted(x):
        raise KeyboardInterrupt

    model = nn.Sequential(Feed(interrupted), nn.ReLU())
    census = watch(model)
    with pytest.raises(KeyboardInterrupt), census:
        model(torch.ones(1, 2))
    assert torch._C._len_torch_function_stack() == 0
    model[0].function = lambda x: x
    with census:
        model[0].function = interrupted
        with pytest.raises(KeyboardInterrupt):
            model(torch.ones(1, 2))
        model[0].function = lambda x: x
        model(torch.ones(4, 2))
    assert [(layer.name, layer.samples) for layer in census.report().layers] == [("0.relu()", 4), ("1", 4)]
    assert torch._C._len_torch_function_stack() == 0


class Raises(nn.Module):
    """Goes on where its layer has raised."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x):
        with contextlib.suppress(RuntimeError):
            self.layer(x[:, :2])
        return F.relu(self.layer(x)).clamp(min=0)


def test_calls_are_seen_behind_a_layer_that_raised():
    with watch(Raises()) as census:
        census.model(torch.ones(5, 3))
    assert [(layer.name, layer.samples) for layer in census.report().layers] == [("relu()", 5), ("clamp()", 5)]


def test_an_interrupt_within_a_layer_leaves_nothing_behind(monkeypatch):
    model = Raises()

    def interrupt(*_):
        raise KeyboardInterrupt

    with watch(model) as census:
        with monkeypatch.context() as patch:
            patch.setattr(F, "linear", interrupt)
            with pytest.raises(KeyboardInterrupt):
                model(torch.ones(5, 3))
        assert torch._C._len_torch_function_stack() == 0
        model(torch.ones(5, 3))
    assert torch._C._len_torch_function_stack() == 0
    assert [(layer.name, layer.samples) for layer in census.report().layers] == [("relu()", 5), ("clamp()", 5)]


@pytest.mark.parametrize("inside", [False, True])
def test_other_modes_see_what_they_saw(inside):
    class Names(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            names.append(func.__name__)
            return func(*args, **(kwargs or {}))

    class Mine(Raises):
        def forward(self, x):
            with Names() if inside else contextlib.nullcontext():
                return super().forward(x)

    found = []
    for watched in (False, True):
        names, model = [], Mine()
        with Names(), watch(model) if watched else contextlib.nullcontext():
            model(torch.ones(5, 3))
        found.append([name for name in names if name in ("linear", "relu", "clamp")])
    assert found[0].count("linear") == 2 + 2 * inside  # where it raised and where it did not
    assert found[0] == found[1]
