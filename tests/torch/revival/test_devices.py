"""Tensors that reviving puts together lie on one device: that of the model's."""

from __future__ import annotations

import copy

import pytest
import torch
from support.revived_networks import DEAD
from support.second_device import SecondDevice
from torch import nn

from leakyrelu.torch import diagnose, revive


def networks():
    relu, leaky = nn.ReLU(), nn.LeakyReLU(0.1)
    batch, bare = nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False)
    yield "plain", [nn.Conv2d(2, 8, 3), relu, nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(3)], False
    yield "norm in front", [nn.Conv2d(2, 8, 3), batch, relu, nn.Conv2d(8, 3, 3)], False
    yield "norm without weights behind", [nn.Conv2d(2, 8, 3), relu, bare, nn.Conv2d(8, 3, 3)], False
    yield "norm behind", [nn.Conv2d(2, 8, 3), relu, batch, nn.Conv2d(8, 3, 3)], False
    yield "group norm", [nn.Conv2d(2, 8, 3), nn.GroupNorm(2, 8), relu, nn.Conv2d(8, 3, 3)], False
    yield "slope", [nn.Conv2d(2, 8, 3), leaky, batch, nn.ConvTranspose2d(8, 3, 3)], False
    yield "mean of a slope", [nn.Conv2d(2, 8, 3), batch, leaky, nn.Conv2d(8, 3, 3)], True
    yield "mean of a slope, norm", [nn.Conv2d(2, 8, 3), leaky, batch, nn.Conv2d(8, 3, 3)], True
    yield "mean of a slope, bare norm", [nn.Conv2d(2, 8, 3), leaky, bare, nn.Conv2d(8, 3, 3)], True
    yield "mean of a slope, another", [nn.Conv2d(2, 8, 3), leaky, nn.PReLU(), nn.Conv2d(8, 3, 3)], True
    yield "two", [nn.Conv2d(2, 8, 3), relu, nn.Conv2d(8, 8, 3, padding=1), batch, nn.ReLU(), nn.Conv2d(8, 3, 3)], False


@pytest.mark.parametrize(("layers", "fold_mean"), [pytest.param(*rest, id=name) for name, *rest in networks()])
@torch.no_grad()
def test_a_model_on_another_device(layers, fold_mean):
    model = copy.deepcopy(nn.Sequential(*layers)).eval()
    x = torch.randn(6, 2, 9, 9)
    model(x)
    last = next(place for place, each in reversed([*enumerate(model)]) if isinstance(each, nn.ReLU | nn.LeakyReLU)) - 1
    model[last].weight[DEAD], model[last].bias[DEAD] = 0.0, -3.0
    report = diagnose(model, x)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    with SecondDevice(model):
        done = revive(model, report, optimizer, fold_mean=fold_mean)
    assert set(DEAD) <= set(done.revived[str(last + 1)]), done


@torch.no_grad()
def test_a_default_device():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].bias[DEAD] = -100.0
    report = diagnose(model, torch.randn(30, 4))
    with torch.device("meta"):  # where a tensor has no numbers
        assert revive(model, report).units == len(DEAD)
