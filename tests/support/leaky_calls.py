"""Networks that call ReLU in many ways, each beside its Leaky ReLU written by hand."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.torch import replace_relu

SLOPE = 0.3


def leaky(x, slope=SLOPE):
    return F.leaky_relu(x, slope)


class Block(nn.Module):
    """Calls ReLU in many forms, and functions that look like it; `by_hand` is the Leaky ReLU of all of them."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)
        self.register_buffer("index", torch.tensor([-3, 2, 5]))

    def forward(self, x):
        x = torch.relu(self.one(x))
        x = F.dropout(x, 0.5, training=self.training)
        y = self.two(x)
        y = y.relu() + F.relu(y) + F.relu(y - 1.0, inplace=True) + F.relu(input=y + 1.0)
        y = y.clamp(min=0) + torch.clamp(y, 0) + y.clip(0.0) + torch.clamp_min(y, 0)
        y = y.clone().relu_() + (y - 0.5).clamp_(min=0) + F.relu_(y + 0.5) + (y - 2).clamp_min_(0)
        y = y + y.clamp(0, 1) + y.clamp(max=0) + y.clamp(min=-1) + F.relu6(y)
        return self.norm(y.relu())[:, self.index.clamp(min=0)]

    def by_hand(self, x, slope=SLOPE):
        def act(t):
            return F.leaky_relu(t, slope)

        x = act(self.one(x))
        x = F.dropout(x, 0.5, training=self.training)
        y = self.two(x)
        y = act(y) + act(y) + act(y - 1.0) + act(y + 1.0)
        y = act(y) * 4
        y = act(y) + act(y - 0.5) + act(y + 0.5) + act(y - 2)
        y = y + y.clamp(0, 1) + y.clamp(max=0) + y.clamp(min=-1) + F.relu6(y)
        return self.norm(act(y))[:, [0, 2, 5]]


class Special(nn.ReLU):
    pass


class Network(nn.Module):
    """A module with calls of its own, blocks with calls, a ReLU module, and a subclass of ReLU that is left."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.blocks = nn.Sequential(Block(), nn.ReLU(), nn.Linear(3, 6), Block())
        self.special = Special()

    def forward(self, x, scale=1.0):
        return self.special(self.blocks(F.relu(self.stem(x))) * scale)

    def by_hand(self, x, scale=1.0):
        x = leaky(self.blocks[0].by_hand(leaky(self.stem(x))))
        return torch.maximum(self.blocks[3].by_hand(self.blocks[2](x)) * scale, torch.zeros(()))


def rewritten(make=Network, slope=SLOPE, **options):
    torch.manual_seed(0)
    model = make()
    reference = copy.deepcopy(model)
    return model, reference, replace_relu(model, slope, **options)


def outcome(model, run, x, seed=1):
    """Output, gradients and buffers of one step."""
    torch.manual_seed(seed)
    x = x.clone().requires_grad_()
    y = run(x)
    (y * torch.arange(y.numel()).view(y.shape).cos()).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return {"y": y.detach(), "x": x.grad, **gradients, **{name: b.clone() for name, b in model.named_buffers()}}


def check(model, reference, x, run=None):
    run = model if run is None else run
    torch.testing.assert_close(outcome(model, run, x), outcome(reference, reference.by_hand, x))


class Own(nn.Module):
    subclasses = ()

    def __init_subclass__(cls, *, label, **options):
        Own.subclasses += (label,)

    def __init__(self, size=6):
        super().__init__()
        self.line, self.made = nn.Linear(size, size), f"from {size}"

    def __reduce__(self):
        return type(self), (6,), {"line": self.line}

    def __setstate__(self, state):
        self.line = state["line"]

    def forward(self, x):
        return self.line(x).relu()

    def by_hand(self, x):
        return leaky(self.line(x))


class Plain(nn.Module):
    def forward(self, x):
        return F.relu(x - 0.1)
