"""A pass that repeats an earlier one is not recorded again; where the model takes another path, rows stay right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from leakyrelu.torch import LeakyReLU, diagnose, watch
from leakyrelu.torch.graph.recording import Recording


@pytest.fixture
def recorded(monkeypatch):
    """Count the calls that are recorded."""
    calls = []
    add = Recording.add
    monkeypatch.setattr(
        Recording, "add", lambda self, *args, **kwargs: (calls.append(args[1]), add(self, *args, **kwargs))
    )
    return calls


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers, self.act = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)]), nn.ReLU()

    def forward(self, x):
        for layer in self.layers:
            x = self.act(layer(x) + x)
        return F.leaky_relu(self.layers[0](x), 0.1)


@pytest.mark.parametrize("model", [Blocks(), nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.PReLU(6))])
def test_a_repeated_pass_is_not_recorded_and_counts_the_same(model, recorded):
    torch.manual_seed(0)
    batches = [torch.randn(size, 6) for size in (7, 7, 4, 7, 4, 7)]
    together = diagnose(model, batches)
    shapes = len(recorded)
    assert shapes > 0
    diagnose(model, batches[:1])
    once = len(recorded) - shapes
    assert shapes == 2 * once  # one recording for each of the two shapes
    parts = [diagnose(model, batch) for batch in batches]
    total = sum(parts[1:], parts[0])
    for one, other in zip(together.layers, total.layers, strict=True):
        np.testing.assert_array_equal(one.counts.positive, other.counts.positive)
        assert (one.name, one.samples, one.calls) == (other.name, other.samples, other.calls)


class Experts(nn.Module):
    """Sends each batch to an expert that the data chooses; all of them share an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.experts, self.act = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)]), nn.ReLU()

    def forward(self, x):
        x = self.act(self.first(x))
        return self.act(self.experts[int(x.sum() * 1000) % 3](x))


def test_experts_chosen_by_the_data_keep_their_rows():
    torch.manual_seed(1)
    model = Experts()
    with torch.no_grad():
        for number, expert in enumerate(model.experts):
            expert.bias[number] = -1e3
    batches = [torch.randn(5, 6) for _ in range(40)]
    chosen = [int(model.act(model.first(batch)).sum() * 1000) % 3 for batch in batches]
    assert set(chosen[:6]) == {0, 1, 2}
    report = diagnose(model, batches)
    rows = {layer.place.after: layer for layer in report.layers}
    assert set(rows) == {"first", "experts.0", "experts.1", "experts.2"}
    for number in range(3):
        row = rows[f"experts.{number}"]
        assert number in row.silent_units
        assert row.calls == chosen.count(number)
        inputs = [
            model.experts[number](model.act(model.first(x)))
            for x, k in zip(batches, chosen, strict=True)
            if k == number
        ]
        np.testing.assert_array_equal(row.counts.positive, (torch.cat(inputs) > 0).sum(0).numpy())


class Weights(nn.Module):
    """Takes weights that the data chooses, by a function, of the same shapes in every pass."""

    def __init__(self, kind) -> None:
        super().__init__()
        weights = [nn.Parameter(torch.eye(4)[[row] * 4] * 0 + 1.0) for row in range(2)]
        self.kind, self.act = kind, nn.ReLU()
        if kind == "list":
            self.weights = nn.ParameterList(weights)
        elif kind == "index":
            self.weights = nn.Parameter(torch.stack([weight.detach() for weight in weights]))
        else:
            self.first, self.second = weights

    def chosen(self, choice):
        return (self.second if choice else self.first) if self.kind == "attributes" else self.weights[choice]

    def forward(self, x):
        return self.act(F.linear(x, self.chosen(int(x[0, 0] > 0.5))))


@pytest.mark.parametrize("kind", ["list", "index", "attributes"])
def test_weights_that_the_data_chooses_are_looked_at_in_every_pass(kind, recorded):
    model = Weights(kind)
    with torch.no_grad():
        model.chosen(1)[2] = -1.0  # a unit that is dead with the second weights alone
    batches = [torch.full((3, 4), value) for value in (0.1, 0.2, 0.9, 0.3, 0.8)]
    report = diagnose(model, batches)
    assert len([name for name in recorded if name == "linear"]) == 5
    assert [layer.silent_units.tolist() for layer in report.layers] == [[], [2]]
    assert [layer.calls for layer in report.layers] == [3, 2]


class Skips(nn.Module):
    """Skips a block, or calls one more function, where the data says so."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.act = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)]), nn.ReLU()

    def forward(self, x):
        choice = int(x[0, 0]) % 4
        for number, layer in enumerate(self.layers):
            if choice != number:
                x = self.act(x + layer(x))
        return F.relu(-x) if choice == 3 else x


def test_blocks_that_are_skipped_and_functions_that_are_rarely_called():
    torch.manual_seed(2)
    model = Skips()
    choices = [0, 0, 0, 1, 0, 2, 2, 3, 1, 0]
    batches = [torch.cat([torch.full((1, 4), float(choice)), torch.randn(8, 4)]) for choice in choices]
    report = diagnose(model, batches)
    assert report["relu()"].calls == 1  # in the one pass that calls it
    assert sum(layer.calls for layer in report.layers) == 1 + sum(2 if choice < 3 else 3 for choice in choices)
    assert all(layer.axis.known for layer in report.layers)
    total = [layer for layer in report.layers if "layers.2" in layer.place.after]
    assert sum(layer.calls for layer in total) == sum(choice != 2 for choice in choices)


def test_a_pass_that_fails_is_not_taken_for_an_example():
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.act, self.fail = nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU(), True

        def forward(self, x):
            x = self.act(self.one(x))
            if self.fail:
                raise RuntimeError("stop")
            return self.act(self.two(x))

    model = Fails()
    with watch(model) as census:
        with pytest.raises(RuntimeError, match="stop"):
            model(torch.randn(2, 3))
        model.fail = False
        for _ in range(3):
            model(torch.randn(2, 3))
    assert [(layer.place.after, layer.calls) for layer in census.report().layers] == [("one", 4), ("two", 3)]


@pytest.mark.parametrize("act", [nn.ReLU, LeakyReLU])
def test_a_rectifier_under_a_mode_of_others_is_counted_once(act):
    class Other(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    class UnderMode(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.act = nn.Linear(3, 3), act()

        def forward(self, x):
            with Other():
                return self.act(self.linear(x)) + 0

    report = diagnose(UnderMode(), [torch.randn(5, 3)] * 3)
    assert [(layer.name, layer.calls) for layer in report.layers] == [("act", 3)]
