"""Programs of TorchScript: every rectifier in them is found, named, and counted as in the model they were made from."""

from __future__ import annotations

import io
import pathlib
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leakyrelu.cli import main
from leakyrelu.torch import diagnose
from leakyrelu.torch.diagnosis.torchscript import rectifiers_as_modules

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


class Block(nn.Module):
    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(before, width, 3), nn.BatchNorm2d(width), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.norm(self.conv(x)))


class Net(nn.Module):
    """All kinds, as modules and as calls."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Block(3, 4), Block(4, 6))
        self.linear, self.head = nn.Linear(6, 5), nn.Linear(5, 4)
        self.slopes, self.leaky, self.six = nn.PReLU(5), nn.LeakyReLU(0.2), nn.ReLU6()
        self.slope = 0.3

    def forward(self, x):
        x = F.relu(self.body(x).mean(dim=(2, 3)) - 0.1)
        x = self.leaky(self.slopes(self.linear(x)))
        x = F.leaky_relu(x, self.slope)
        return torch.clamp(self.six(self.head(x)), min=0.0, max=2.0)


NAMES = ["body.0.act", "body.1.act", "relu()", "slopes", "leaky", "leaky_relu()", "six", "clamp()"]


def stored(program):
    file = io.BytesIO()
    torch.jit.save(program, file)
    file.seek(0)
    return torch.jit.load(file)


def net():
    torch.manual_seed(0)
    model = Net().eval()
    with torch.no_grad():
        model.body[0].norm.bias[1] = -50.0  # silent
        model.body[1].norm.bias[5] = 50.0  # always on
        model.linear.bias[2] = -50.0
        model.slopes.weight.copy_(torch.linspace(0, 0.4, 5))
    return model


X = torch.randn(12, 3, 9, 9, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("make", [torch.jit.script, lambda model: torch.jit.trace(model, X)])
def test_programs_are_counted_as_the_model(make, loaded):
    model = net()
    program = make(model)
    program = stored(program) if loaded else program
    opened, unit_axis = rectifiers_as_modules(program)
    report, plain = diagnose(opened, X.split(5), unit_axis=unit_axis), diagnose(model, X.split(5))
    assert [layer.name for layer in report.layers] == [layer.name for layer in plain.layers] == NAMES
    for one, other in zip(report.layers, plain.layers, strict=True):
        assert (one.kind, one.units, one.samples, one.calls) == (other.kind, other.units, other.samples, other.calls)
        assert one.entries == other.entries
        np.testing.assert_array_equal(one.negative_slope, other.negative_slope)
        assert one.ceiling == other.ceiling
        np.testing.assert_array_equal(one.counts.positive, other.counts.positive)
        np.testing.assert_allclose(one.output_mean, other.output_mean, rtol=1e-6)
    assert report["body.0.act"].silent_units.tolist() == [1]
    assert 5 in report["body.1.act"].always_on_units
    assert 2 in report["slopes"].silent_units
    assert report.unused == ()
    assert torch.equal(opened(X), model(X))
    assert "show" not in str(program.inlined_graph)  # the program itself is as it was


def test_a_frozen_program_has_no_names_and_still_every_rectifier():
    opened, unit_axis = rectifiers_as_modules(stored(torch.jit.freeze(torch.jit.script(net()))))
    report, plain = diagnose(opened, X, unit_axis=unit_axis), diagnose(net(), X)
    assert [layer.name for layer in report.layers] == [
        *("relu()", "relu(), call 2", "relu(), call 3", "prelu()", "leaky_relu()", "leaky_relu(), call 2"),
        *("hardtanh()", "clamp()"),
    ]
    for one, other in zip(report.layers, plain.layers, strict=True):
        np.testing.assert_array_equal(one.counts.positive, other.counts.positive)
        np.testing.assert_array_equal(one.negative_slope, other.negative_slope)
    assert report.layers[0].silent_units.tolist() == [1]


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.act = nn.Linear(3, 4), nn.ReLU()

    def forward(self, x, times: int = 3):
        x = self.linear(x)
        for _ in range(times):
            x = self.act(x - 0.1)
        return F.relu(x) if x.shape[0] > 4 else F.leaky_relu(x - 1.0, 0.5)


def test_branches_and_loops_run_as_they_are():
    model = Branches()
    opened, unit_axis = rectifiers_as_modules(stored(torch.jit.script(model)))
    x = torch.randn(9, 3)
    report = diagnose(opened, [x, x[:2]], unit_axis=unit_axis)
    assert [(layer.name, layer.samples, layer.calls) for layer in report.layers] == [
        *[("act", 33, 6), ("relu()", 9, 1), ("leaky_relu()", 2, 1)]
    ]
    assert torch.equal(opened(x), model(x))
    assert torch.equal(opened(x=x, times=1), model(x, 1))
    with pytest.raises(TypeError, match="the program takes no input 'often'"):
        opened(x, often=1)


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x):
        y = self.linear(x) if x.sum() > 0 else self.linear(x) + 1
        return F.relu(y.clamp(min=1e-6) - x.mean())


def test_the_unit_axis_comes_from_the_layer_in_front_through_a_branch():
    opened, unit_axis = rectifiers_as_modules(torch.jit.script(Sequence()))
    (layer,) = diagnose(opened, torch.randn(2, 7, 3), unit_axis=unit_axis).layers
    assert (layer.units, layer.axis.axes, layer.axis.known) == (4, (2,), True)


class Computed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(F.leaky_relu(x, float(x.mean())))


def test_a_slope_that_is_computed_is_named():
    with pytest.warns(UserWarning, match=r"not counted, since the program computes its slope .*: leaky_relu\(\)"):
        opened, _ = rectifiers_as_modules(torch.jit.script(Computed()))
    assert [layer.name for layer in diagnose(opened, torch.randn(4, 3)).layers] == ["act"]


def test_modes_reach_the_program():
    opened, _ = rectifiers_as_modules(torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.5))))
    x = torch.randn(50, 3)
    assert (opened.train()(x) != opened.eval()(x)).any()
    diagnose(opened.train(), x)
    assert opened.training


# The command --------------------------------------------------------------------------------------------------------


def run(capsys, *arguments):
    return main([str(argument) for argument in arguments]), capsys.readouterr()


def test_the_command_takes_a_file(capsys, tmp_path):
    torch.jit.save(torch.jit.script(net()), tmp_path / "model.pt")
    np.save(tmp_path / "x.npy", X.double().numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is deprecated is our business, not the reader's
        status, out = run(capsys, "diagnose", tmp_path / "model.pt", "--data", tmp_path / "x.npy", "--batch-size", 5)
    assert status == 0, out.err
    assert "body.0.act" in out.out
    assert "8 layers, 39 units: 11 of 39 units silent" in out.out
    status, out = run(
        capsys, "diagnose", tmp_path / "model.pt", "--data", tmp_path / "x.npy", "--checkpoint", "weights.pt"
    )
    assert (status, "--checkpoint is for MODULE:FACTORY; a program in a file has its weights" in out.err) == (2, True)


def test_the_command_says_what_is_not_counted(capsys, tmp_path):
    torch.jit.save(torch.jit.script(Computed()), tmp_path / "model.pt")
    np.save(tmp_path / "x.npy", np.ones((400, 3), np.float32))
    status, out = run(capsys, "diagnose", tmp_path / "model.pt", "--data", tmp_path / "x.npy")
    assert status == 0
    assert "leakyrelu: not counted, since the program computes its slope or threshold: leaky_relu()" in out.err


class Malice:
    """Unpickling this makes a file."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize("member", ["data.pkl", "constants.pkl"])
def test_a_file_that_wants_to_run_python_is_refused(capsys, tmp_path, member):
    plain, bad, proof = tmp_path / "plain.pt", tmp_path / "bad.pt", tmp_path / "proof"
    torch.jit.save(torch.jit.script(net()), plain)
    payload = pickle.dumps(Malice(proof), protocol=2)
    pickle.loads(payload)
    assert proof.exists()  # so the payload does what it is meant to do
    proof.unlink()
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(bad, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            target.writestr(name, payload if name.endswith(f"/{member}") else source.read(name))
    np.save(tmp_path / "x.npy", X.numpy())
    status, out = run(capsys, "diagnose", bad, "--data", tmp_path / "x.npy")
    assert status == 2
    assert "bad.pt is not a file of torch.jit.save: " in out.err
    assert not proof.exists()


def test_weights_and_what_is_no_file_have_errors_of_their_own(capsys, tmp_path):
    torch.save(net().state_dict(), tmp_path / "weights.pt")
    np.save(tmp_path / "x.npy", X.numpy())
    status, out = run(capsys, "diagnose", tmp_path / "weights.pt", "--data", tmp_path / "x.npy")
    assert status == 2
    assert "holds weights without the model: name what builds the model, MODULE:FACTORY" in out.err
