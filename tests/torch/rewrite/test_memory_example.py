"""save_memory with an example: what symbolic tracing cannot see."""

import copy

import pytest
import torch
from torch import nn

from leakyrelu.torch import restore, save_memory


class Picking(nn.Module):
    """Uses what is between two layers of an nn.Sequential, in code that cannot be traced."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.first = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LeakyReLU(0.1))
        self.second = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LeakyReLU(0.1), nn.Dropout(0.5))
        self.act, self.slopes = nn.LeakyReLU(0.2), nn.PReLU()

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        between = self.first[1](self.first[0](x))
        x = self.act(self.second(self.first[2](between)))
        if self.way == "used twice":
            return x + between, x
        y = self.slopes(x)
        return {"y": y.mul_(2) if self.way == "in place" else y}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("way", "joined", "swapped", "left"),
    [
        ("fine", ["first.1", "second.1"], ["act"], {"slopes": "what it keeps is kept anyway"}),
        (
            "used twice",
            ["second.1"],
            ["first.2", "act"],
            {"first.1": "its output is used 2 times", "slopes": "what it keeps is kept anyway"},
        ),
        ("in place", ["first.1", "second.1"], ["act"], {"slopes": "what it keeps is kept anyway"}),
    ],
)
def test_an_example_finds_what_tracing_cannot(way, joined, swapped, left, training, monkeypatch):
    monkeypatch.setattr("leakyrelu.torch.activations.parametric._SMALL", 0)
    torch.manual_seed(0)
    model = Picking(way).train(training)
    x = torch.randn(16, 4)
    twin = copy.deepcopy(model)
    state = torch.get_rng_state()
    report = save_memory(model, example=x)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [norm for norm, _ in report.joined] == joined
    # Without the dropout, the pair in front of the activation keeps its input, too.
    assert list(report.swapped) == [name for name in swapped if training or name != "act"]
    expected = left if training else left | {"act": "what it keeps is kept anyway"}
    assert sorted(name for name, _ in report.left) == sorted(expected)
    for name, reason in report.left:
        assert reason.startswith(expected[name])
    torch.manual_seed(1)
    found = model(x)
    torch.manual_seed(1)
    torch.testing.assert_close(found, twin(x))
    restore(model)
    assert [type(module) for module in model.modules()] == [type(module) for module in twin.modules()]


def test_an_example_that_does_not_fit_changes_nothing():
    model = Picking("fine")
    modules = list(model.modules())
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        save_memory(model, example=(torch.randn(2, 3),))
    assert list(model.modules()) == modules
