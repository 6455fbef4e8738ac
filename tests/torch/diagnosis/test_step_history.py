"""Watching a training: history of the units, gradients, writers, several processes."""

from __future__ import annotations

import copy
import gc
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leakyrelu.torch import watch


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 2)
        self.relu = nn.ReLU()

    def forward(self, x):
        return F.relu(self.two(self.relu(self.one(x))))


def steps(model, count, x=None, bias=None):
    """Train with a learning rate of 0, so that the units do what `bias` says, step by step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for step in range(count):
        if bias is not None:
            with torch.no_grad():
                model.one.bias.copy_(torch.tensor(bias(step)))
                model.one.weight.zero_()
        model(torch.ones(5, 3) if x is None else x).sum().backward()
        optimizer.step()


def planted(step):
    # on; silent from step 4; silent at 2 to 5 and back; never positive
    return [1.0, -1.0 if step >= 4 else 1.0, -1.0 if 2 <= step <= 5 else 1.0, -1.0]


def test_history_says_when():
    with watch(model := Net(), every=1) as census:
        steps(model, 8, bias=planted)
    history = census.history
    units = history["relu"]
    assert units.last_positive.tolist() == [7, 3, 7, -1]
    assert units.silent_since.tolist() == [-1, 4, -1, 0]
    assert units.revivals.tolist() == [0, 0, 1, 0]
    assert units.silent_units.tolist() == [1, 3]
    assert units.revived_units.tolist() == [2]
    assert units.never_positive_units.tolist() == [3]
    assert (units.units, units.observations) == (4, 8)
    assert history.steps == tuple(range(8))
    assert [len(report["relu"].silent_units) for report in history.reports] == [1, 1, 2, 2, 3, 3, 2, 2]
    assert (census.report()["relu"].samples, census.report()["relu"].entries) == (40, 40)
    assert [report["relu"].entries for report in history.reports] == [5] * 8
    assert "'relu': 4 units, 2 silent, 1 revived at least once, 8 steps counted" in repr(history)
    with pytest.raises(KeyError, match=r"no layer 'x'; there are 'relu', 'relu\(\)'"):
        history["x"]


def test_every_counts_one_step_in_so_many_and_keeps_the_latest():
    with watch(model := Net(), every=3, keep=2) as census:
        steps(model, 11, bias=planted)
    history = census.history
    assert history.steps == (6, 9)  # of 0, 3, 6, 9
    assert history["relu"].observations == 4
    assert history["relu"].last_positive.tolist() == [9, 3, 9, -1]
    assert history["relu"].silent_since.tolist() == [-1, 6, -1, 0]
    assert census.report()["relu"].calls == 4
    np.testing.assert_allclose(history.silent_share(), [report.silent / 6 for report in history.reports])


def test_only_training_is_counted_and_gradients_may_be_accumulated():
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    other = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    with watch(model, every=2) as census:
        for _ in range(4):
            for _ in range(3):  # three batches a step
                model(torch.randn(2, 3)).sum().backward()
            optimizer.step()
            other.step()  # of another model
            model.eval()
            model(torch.randn(100, 3))
            model.train()
    assert census.history.steps == (0, 2)
    assert [layer.samples for layer in census.report().layers] == [12, 12]
    model(torch.randn(2, 3)).sum().backward()
    optimizer.step()
    assert census.history.steps == (0, 2)


def test_steps_by_hand_and_the_step_under_way():
    model = Net()
    with watch(model, every=2) as census:
        model(torch.ones(3, 3))
        assert census.report()["relu"].samples == 3
        assert census.history.steps == ()
        census.step()
        model(torch.ones(3, 3))
        census.step()
        model(torch.ones(4, 3))
        assert census.report()["relu"].samples == 7
        assert census.report()["relu"].samples == 7  # asking changes nothing
    assert census.history.steps == (0,)


def test_watching_a_training_changes_nothing():
    def train(watched):
        torch.manual_seed(0)
        model = Net()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        census = watch(model, every=2, gradients=True)
        with census if watched else torch.enable_grad():
            for _ in range(6):
                optimizer.zero_grad()
                model(torch.randn(8, 3)).square().sum().backward()
                optimizer.step()
        return [p.detach() for p in model.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(train(True), train(False), strict=True))


def attached(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_steps_that_are_not_counted_run_without_hooks():
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hooks, modes = [], []
    model.two.register_forward_hook(lambda *_: modes.append(torch._C._len_torch_function_stack()))
    with watch(model, every=3) as census:
        for _ in range(7):
            hooks.append(attached(model) - 1)
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()
    assert [count > 0 for count in hooks] == [True, False, False, True, False, False, True]
    assert modes == [1, 0, 0, 1, 0, 0, 1]
    assert attached(model) == 1
    assert census.history.steps == (0, 3, 6)
    with census:  # opened again, it goes on where it was: at step 7
        assert attached(model) == 1
        census.step()
        census.step()
        assert attached(model) > 1


def test_a_step_inside_of_a_call_takes_the_hooks_when_the_call_has_ended():
    class Stepping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            x = F.relu(self.layer(x))
            census.step()
            assert attached(model) > 0
            return F.relu(x - 1)

    model = Stepping()
    with watch(model, every=2) as census:
        model(torch.ones(2, 3))
        assert attached(model) == 0
        assert torch._C._len_torch_function_stack() == 0
        census.step()
        model(torch.ones(4, 3))
    assert [(layer.name, layer.samples) for layer in census.report().layers] == [("relu()", 6), ("relu(), call 2", 6)]


def test_a_network_of_known_layers_runs_without_a_mode_and_counts_the_same():
    seen = []

    class Looks(nn.Linear):  # a subclass may call anything, so nothing is known of it
        def forward(self, x):
            seen.append(torch._C._len_torch_function_stack())
            return super().forward(x)

    class Hooked(nn.ReLU):
        def forward(self, x):
            seen.append(torch._C._len_torch_function_stack())
            return super().forward(x)

    torch.manual_seed(0)
    x, reports = torch.randn(9, 3), []
    for kind in (nn.Linear, Looks):
        model = nn.Sequential(kind(3, 4), Hooked(), nn.Dropout(0.0), nn.Linear(4, 2), nn.ReLU6())
        for parameter in model.parameters():
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(parameter)))
        with watch(model, every=2) as census:
            model(x)
            model[4](model[3](model[1](model[0](x))))  # its layers one by one
            model.eval()
            model(x)
        reports.append(census.report())
    assert seen == [0, 0, 0, 1, 1, 1, 1, 0, 0]
    assert [(layer.name, layer.units, layer.calls) for layer in reports[0].layers] == [("1", 4, 2), ("4", 2, 2)]
    assert reports[0].to_json() == reports[1].to_json()


def test_a_clone_of_unit_counts_holds_everything():
    from leakyrelu.torch.diagnosis.rectifiers import Rectifier
    from leakyrelu.torch.diagnosis.unit_counts import Location, UnitCounts

    counts, x = UnitCounts(3, torch.device("cpu")), torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    assumed = Location((5, 3, 4), (1,), False)
    counts.add_located(x, assumed, Rectifier("relu", rest=0.0))
    counts.add_gradient(x, 1)
    twin = counts.clone()
    counts.add_located(x, assumed, Rectifier("relu", rest=0.0))
    assert twin.state()["reached"].tolist() == [20, 20, 20]
    twin += twin.clone()
    first, second = twin.state(), counts.state()
    assert [first.pop("alternatives").keys(), second.pop("alternatives").keys()] == [{2}, {2}]
    np.testing.assert_array_equal(twin.alternatives[2].counts, counts.alternatives[2].counts)
    for name, value in second.items():
        if name not in ("gradients", "reached"):
            np.testing.assert_allclose(first[name], value, rtol=1e-12)
    assert (twin.gradients, counts.gradients) == (40, 20)


def test_memory_of_the_history_is_bounded():
    def held():
        gc.collect()
        return sum(1 for t in gc.get_objects() if type(t) is torch.Tensor)

    model, sizes = Net(), []
    with watch(model, every=1, keep=3) as census:
        for _ in range(4):
            steps(model, 6)
            sizes.append(held())
    assert sizes[1] == sizes[2] == sizes[3]
    assert len(census.history.reports) == 3


class Board:
    """Takes what TensorBoard's SummaryWriter takes."""

    def __init__(self) -> None:
        self.scalars, self.histograms = {}, {}

    def add_scalar(self, tag, scalar_value, global_step=None):
        self.scalars.setdefault(tag, []).append((global_step, scalar_value))

    def add_histogram(self, tag, values, global_step=None):
        self.histograms.setdefault(tag, []).append((global_step, np.asarray(values).tolist()))


def test_writers():
    board, seen = Board(), []
    with watch(model := Net(), every=2, to=[board, lambda step, report: seen.append((step, report.silent))]) as census:
        steps(model, 5, bias=planted)
    assert board.scalars["silent/relu"] == [(0, 0.25), (2, 0.5), (4, 0.75)]
    assert [step for step, _ in board.scalars["units/silent"]] == [0, 2, 4]
    assert board.histograms["positive share/relu"][1] == (2, [1.0, 1.0, 0.0, 0.0])
    assert seen == [
        (step, report.silent) for step, report in zip(census.history.steps, census.history.reports, strict=True)
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"every": 0}, ValueError, "every must be at least 1, got 0"),
        ({"every": 2, "keep": 0}, ValueError, "keep must be at least 1, got 0"),
        ({"to": print}, ValueError, "`to` takes one census at a time: say how often, with every=50"),
        ({"every": 1, "to": 3}, TypeError, r"`to` must be a SummaryWriter .* or a callable .*, not int"),
    ],
)
def test_errors(arguments, error, text):
    with pytest.raises(error, match=text):
        watch(Net(), **arguments)


def test_no_history_without_every():
    census = watch(Net())
    with pytest.raises(
        RuntimeError, match=r"no history is kept: say how often to count, with watch\(model, every=50\)"
    ):
        _ = census.history
    with pytest.raises(RuntimeError, match="steps are counted for the history only"):
        census.step()


# Gradients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("functional", [False, True])
def test_units_that_a_gradient_reaches(inplace, functional):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 1)
            self.relu = nn.ReLU(inplace)

        def forward(self, x):
            h = self.one(x)
            return self.two(F.relu(h, inplace) if functional else self.relu(h))

    model = Two()
    with torch.no_grad():
        model.one.weight.zero_()
        model.one.bias.copy_(torch.tensor([1.0, -1.0, 1.0, 1.0]))
        model.two.weight.copy_(torch.tensor([[1.0, 1.0, 0.0, 1.0]]))
    with watch(model, gradients=True) as census:
        for _ in range(2):
            model(torch.ones(5, 3)).sum().backward()
    (layer,) = census.report().layers
    assert layer.counts.reached.tolist() == [10, 0, 0, 10]  # silent; nothing behind it; and two that learn
    assert layer.gradient_share == 0.5
    assert layer.unreached_units.tolist() == [1, 2]
    assert layer.counts.gradients == 10
    again = type(census.report()).from_json(census.report().to_json())
    assert again.layers[0].gradient_share == 0.5
    twice = census.report() + census.report()
    assert twice.layers[0].counts.reached.tolist() == [20, 0, 0, 20]


def test_a_leak_lets_the_gradient_through():
    for slope, share in ((0.0, 0.0), (0.01, 1.0)):
        model = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(slope), nn.Linear(4, 1))
        with torch.no_grad():
            model[0].bias.fill_(-50.0)
        with watch(model, gradients=True) as census:
            model(torch.ones(5, 3)).sum().backward()
        assert census.report().layers[0].gradient_share == share


def test_gradients_not_watched_or_not_there():
    model = Net()
    with watch(model) as census:
        model(torch.ones(1, 3)).sum().backward()
    layer = census.report().layers[0]
    assert np.isnan(layer.gradient_share)
    assert layer.counts.reached is None
    assert layer.unreached_units.size == 0
    with watch(model, gradients=True) as census, torch.no_grad():
        model(torch.ones(1, 3))
    assert np.isnan(census.report().layers[0].gradient_share)


# Several processes --------------------------------------------------------------------------------------------------


def make_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.LeakyReLU(0.1), nn.Linear(6, 4), Branch(), nn.ReLU6()).double()


class Branch(nn.Module):
    """Calls a function on one of the ranks only."""

    def forward(self, x):
        return F.relu(x + 1) if len(x) == 13 else x + 1


def _rank(rank, file, results):
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    model, x = make_network(), torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    parts = [x[:13], x[13:]]
    with watch(model, gradients=True) as census:
        model(parts[rank]).sum().backward()
    first, again = census.reduce(), census.reduce()
    assert first.to_json() == again.to_json()
    results.put((rank, first.to_json(), census.report().to_json()))
    distributed.barrier()
    distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    from leakyrelu.diagnosis.report import Report

    context = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    workers = [context.Process(target=_rank, args=(rank, tmp_path / "meet", results)) for rank in range(2)]
    for worker in workers:
        worker.start()
    got = {rank: (total, own) for rank, total, own in (results.get() for _ in workers)}
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert got[0][0] == got[1][0]  # every rank has the same total, to the last bit
    model, x = make_network(), torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    with watch(model, gradients=True) as census:
        model(x[:13]).sum().backward()
        model(x[13:]).sum().backward()
    alone, together = census.report(), Report.from_json(got[0][0])
    assert [layer.name for layer in together.layers] == [layer.name for layer in alone.layers] == ["1", "3.relu()", "4"]
    for one, other in zip(alone.layers, together.layers, strict=True):
        for name in ("positive", "nan", "saturated", "outputs", "reached"):
            np.testing.assert_array_equal(getattr(one.counts, name), getattr(other.counts, name))
        assert (one.samples, one.calls, one.counts.gradients) == (other.samples, other.calls, other.counts.gradients)
        np.testing.assert_allclose(one.output_mean, other.output_mean, rtol=1e-12)
        np.testing.assert_allclose(one.output_std, other.output_std, rtol=1e-12)
        assert one.entries == other.entries == (13 if one.name == "3.relu()" else 40)
    assert Report.from_json(got[0][1]).layers[0].entries == 13  # its own counts are as they were


def test_reduce_without_a_group_is_the_report():
    with watch(model := Net()) as census:
        model(torch.ones(2, 3))
    assert census.reduce().to_json() == census.report().to_json()


# Lightning ----------------------------------------------------------------------------------------------------------


def lightning(monkeypatch):
    """Put a package in place that has what the callback asks of Lightning: the class to derive from."""
    package, pytorch = types.ModuleType("lightning"), types.ModuleType("lightning.pytorch")
    pytorch.Callback = type("Callback", (), {"setup": lambda *_, **__: None})
    package.pytorch = pytorch
    monkeypatch.setitem(sys.modules, "lightning", package)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", pytorch)
    return pytorch


class Trainer:
    """Calls hooks in the order in which Lightning's trainer does."""

    def __init__(self, callback, fails=False) -> None:
        self.callback, self.fails, self.logged = callback, fails, []
        self.loggers = [types.SimpleNamespace(log_metrics=lambda metrics, step: self.logged.append((step, metrics)))]

    def fit(self, model):
        self.callback.setup(self, model, stage="fit")
        try:
            self.callback.on_fit_start(self, model)
            steps(model, 4, bias=planted)
            if self.fails:
                raise OSError("the disk is full")
            self.callback.on_fit_end(self, model)
        except OSError as error:
            self.callback.on_exception(self, model, error)
            raise


def test_lightning_callback(monkeypatch):
    pytorch = lightning(monkeypatch)
    from leakyrelu.torch.lightning import watch_callback

    callback = watch_callback(every=2)
    assert isinstance(callback, pytorch.Callback)
    trainer = Trainer(callback)
    model = Net()
    trainer.fit(model)
    assert [step for step, _ in trainer.logged] == [0, 2]
    assert trainer.logged[1][1]["silent/relu"] == 0.5
    assert callback.census.history["relu"].observations == 2
    assert not model._forward_hooks
    failing = Trainer(watch_callback(every=2), fails=True)
    with pytest.raises(OSError, match="the disk is full"):
        failing.fit(model)
    assert not model._forward_hooks
    copy.deepcopy(model)


def test_lightning_is_asked_for_by_name(monkeypatch):
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    from leakyrelu.torch.lightning import watch_callback

    with pytest.raises(
        ImportError, match=r"the callback needs the package .lightning., which is not installed: pip install lightning"
    ):
        watch_callback()


def test_a_history_is_gone_through_by_layer_and_asked_by_name():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU())
    with watch(model, every=1) as census:
        model(torch.ones(4, 2))
        census.step()
    history = census.history
    assert [units.name for units in history] == ["1", "3"]
    assert "3" in history
    assert "2" not in history
