"""save_memory on learned slopes."""

import copy

import numpy as np
import pytest
import torch
from support.memory_networks import hooked, losses
from torch import nn

from leakyrelu.torch import PReLU, activation_memory, restore, save_memory


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
        (nn.Sequential(nn.Linear(3, 3), hooked(nn.PReLU())), "it carries 1 hook, which"),
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
