"""Units that give out a constant behind a weight that is added: one of them goes on to do it for the others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leakyrelu.torch import diagnose, revive


class Affine(nn.Module):
    """A learnable scale and bias of all units behind the activation, as in HGNetV2."""

    def __init__(self, bias) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.tensor([1.5])), nn.Parameter(torch.tensor([bias]))

    def forward(self, x):
        return self.scale * x + self.bias


class Net(nn.Module):
    def __init__(self, bias=0.7, second=None) -> None:
        super().__init__()
        self.one, self.act, self.affine = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), Affine(bias)
        self.two = second or nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.norm, self.three = nn.BatchNorm2d(6), nn.Conv2d(14, 4, 1, bias=False)

    def forward(self, x):
        x = self.affine(self.act(self.one(x)))
        return self.three(torch.cat([x, self.norm(self.two(x))], 1))


def planted(dead, **options):
    torch.manual_seed(0)
    model = Net(**options).double().eval()
    with torch.no_grad():
        model.one.bias.fill_(1.0)
        model.one.bias[dead] = -100.0
    return model, torch.randn(30, 3, 6, 6, dtype=torch.float64)


@pytest.mark.parametrize("bias", [0.7, -0.2])
def test_one_unit_gives_out_the_constant_of_all(bias):
    model, x = planted([1, 4, 6], bias=bias)
    before = model(x)
    report = diagnose(model, x)
    done = revive(model, report)
    assert done.revived == {"act": (4, 6)}
    ((name, units, reason),) = done.left
    assert (name, tuple(units)) == ("act", (1,))
    assert reason == (
        "what they give out on average cannot be folded into two: it has no bias; this unit goes on to do it for the "
        "others"
    )
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)
    assert diagnose(model, x).silent < 3
    for layer in (model.two, model.three):
        assert bool((layer.weight[:, [4, 6]] == 0).all())
        assert bool((layer.weight[:, 1] != 0).any())


def test_a_single_unit_with_a_constant_is_left():
    model, x = planted([2])
    done = revive(model, diagnose(model, x))
    assert not done.revived
    assert "cannot be folded into two: it has no bias" in done.left[0][2]


def test_a_grouped_convolution_takes_units_apart():
    model, x = planted([1, 4], second=nn.Conv2d(8, 6, 3, padding=1, bias=False, groups=2))
    before = model(x)
    done = revive(model, diagnose(model, x))
    assert not done.revived
    assert "cannot be left to one of them in two" in done.left[0][2]
    assert torch.equal(model(x), before)
