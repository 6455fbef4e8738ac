"""Networks that call one function, for the tests of the census."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Call(nn.Module):
    """A linear layer and a function behind it."""

    def __init__(self, function) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 6)
        self.function = function
        self.weight = nn.Parameter(torch.linspace(-0.5, 0.5, 6))

    def forward(self, x):
        x = self.linear(x)
        return self.function(x, self.weight) if self.function.__code__.co_argcount == 2 else self.function(x)


class Feed(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return F.relu(self.function(x))
