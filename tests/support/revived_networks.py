"""Networks with silent units, for the tests of reviving."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

DEAD = [1, 4, 5]


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
    """Activations in place, whose result is not assigned."""

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


def sequential(*layers):
    return lambda: nn.Sequential(nn.Linear(6, 6), *layers)


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
