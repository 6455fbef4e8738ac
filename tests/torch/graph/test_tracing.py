"""Tracing a network: what it says of calls in place, and that it leaves nothing behind."""

import operator
import random

import numpy as np
import pytest
import torch
from torch import nn

from leakyrelu.torch import diagnose, revive, save_memory
from leakyrelu.torch.graph.tracing import trace


class Busy(nn.Module):
    """Changes everything that a forward method can reach."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("average", torch.ones(2))
        self.plain = torch.zeros(3)
        self.log, self.seen = [], {}
        self.body = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))

    def forward(self, x):
        self.calls += 1
        self.average.mul_(0.5)
        self.plain[0] = 7.0
        self.log.append(1)
        self.seen["x"] = 1
        self.last = x
        noise = random.random() + np.random.default_rng(0).random() + np.random.random()  # noqa: NPY002
        return self.body(x) * (1.0 + 0.0 * noise * torch.rand(()).item())


def dice():
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


def use_save_memory(model):
    save_memory(model)


def use_revive(model):
    assert revive(model, REPORT).units == 2


def use_trace(model):
    trace(model, lambda module: False)


REPORT = None


@pytest.fixture
def busy():
    global REPORT
    model = Busy()
    with torch.no_grad():
        model.body[0].bias[:2] = -100.0
        REPORT = diagnose(model, torch.randn(20, 6))
    model.log.clear()
    model.seen.clear()
    del model.last
    return model


@pytest.mark.parametrize("use", [use_save_memory, use_trace])
def test_nothing_is_left_behind(busy, use):
    buffers = [buffer.clone() for buffer in busy.buffers()]
    plain, log, body, before = busy.plain.clone(), busy.log, busy._modules["body"], dice()
    use(busy)
    assert all(torch.equal(now, then) for now, then in zip(busy.buffers(), buffers, strict=True))
    assert torch.equal(busy.plain, plain)
    assert busy.log is log
    assert (busy.log, busy.seen, hasattr(busy, "last")) == ([], {}, False)
    assert busy._modules["body"] is body
    assert dice() == before


def test_revive_counts_no_call(busy):
    calls, average = busy.calls.clone(), busy.average.clone()
    use_revive(busy)
    assert torch.equal(busy.calls, calls)
    assert torch.equal(busy.average, average)
    assert busy.log == []


def test_hooks_do_not_run():
    model, seen = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.ReLU()), []
    for kind in ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"):
        getattr(model[0], f"register_{kind}")(lambda *args: seen.append(args))
    trace(model, lambda module: False)
    assert seen == []
    model(torch.ones(1, 2))
    assert len(seen) == 2


class InPlace(nn.Module):
    def forward(self, x, z):
        x += z
        x -= z
        x *= z
        x /= z
        return x + z


def test_operators_in_place_are_distinguished_from_others():
    graph = trace(InPlace(), lambda module: False)
    calls = [node.target for node in graph.nodes if node.op == "call_function"]
    assert calls == [operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.add]
