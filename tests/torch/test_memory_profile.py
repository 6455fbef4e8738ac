"""The count of kept bytes, on modules whose saved tensors are known by hand; and the command that prints it."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.cli import main
from leakyrelu.torch import LeakyReLU, activation_memory, save_memory

N = 1 << 19  # elements: from here on our layer keeps bits at its usual threshold


def kept(model, x):
    return {module.name: module.bytes for module in activation_memory(model, x).modules}


def test_each_storage_once_with_input_and_parameters_apart():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8, bias=False), nn.Sigmoid(), nn.Sigmoid())
    count = activation_memory(model, torch.randn(100, 8))
    # By hand: the second layer saves its input, each sigmoid its output; the first saves the model's input. The weight
    # of the second is needed for the gradient of its input, that of the first is not.
    assert {module.name: module.bytes for module in count.modules} == {"1": 3200, "2": 3200, "3": 3200}
    assert (count.bytes, count.input_bytes, count.parameter_bytes) == (9600, 3200, 256)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_shared_storage_belongs_to_who_saved_it_first():
    # The second sigmoid's output is saved by it, and again as the input of the linear layer behind it.
    assert kept(nn.Sequential(nn.Sigmoid(), nn.Linear(8, 2)), torch.randn(10, 8, requires_grad=True)) == {"0": 320}


def test_a_part_that_is_saved_keeps_its_whole_storage():
    class Part(nn.Module):
        def forward(self, x):
            return (x * 2)[:1].sigmoid().exp() + (x + 1)[:1].square()

    # x + 1 has 4000 bytes, of which a row of 40 is saved; sigmoid and exp save their outputs of 40 bytes.
    x = torch.randn(100, 10, requires_grad=True)
    assert activation_memory(Part(), x).bytes == 4000 + 40 + 40


def test_nested_modules_and_the_model_itself():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Sequential(nn.Tanh()), nn.Tanh())

        def forward(self, x, scale=1.0):
            return torch.exp(self.inner(x)) * scale

    x = torch.randn(5, requires_grad=True)
    assert kept(Model(), x) == {"inner.0.0": 20, "inner.1": 20, "": 20}
    assert kept(Model(), (x, 3.0)) == kept(Model(), {"x": x, "scale": 3.0}) == kept(Model(), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lone_layer_keeps_a_bit_an_element(dtype):
    x = torch.randn(N, requires_grad=True, dtype=dtype)
    size = x.untyped_storage().nbytes()
    count = activation_memory(nn.Sequential(nn.Identity(), LeakyReLU()), x)
    assert count.bytes == N // 8 <= size / (32 if dtype is torch.float32 else 16) + 64
    assert count.input_bytes == 0
    assert activation_memory(nn.LeakyReLU(), x).input_bytes == size


def test_checkpoint_keeps_nothing_inside():
    class Checkpointed(nn.Module):
        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(lambda t: t.exp().sin().exp(), x * 2, use_reentrant=False)

    x = torch.randn(100, requires_grad=True)
    assert activation_memory(Checkpointed(), x).bytes == 400  # x * 2


def test_hooks_are_removed_also_after_a_failure():
    model = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        activation_memory(model, torch.randn(2, 4))
    activation_memory(model, torch.randn(2, 3))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_no_grad_outside_does_not_hide_anything():
    with torch.no_grad():
        assert activation_memory(nn.Sequential(nn.Linear(3, 3), nn.Tanh()), torch.randn(2, 3)).bytes == 24


def test_repr_adds_up():
    count = activation_memory(nn.Sequential(nn.Linear(8, 400), nn.Tanh(), nn.Sigmoid()), torch.randn(100, 8))
    lines = repr(count).splitlines()
    assert lines[0].split() == ["module", "kind", "bytes", "kept"]
    rows = [line.split() for line in lines[2:-3]]
    assert [row[:2] for row in rows] == [["1", "Tanh"], ["2", "Sigmoid"]]
    assert sum(int(row[2].replace(",", "")) for row in rows) == count.bytes == 320_000
    assert lines[-2].split() == ["total", "320,000"]
    assert lines[-1] == "apart: input 3,200, parameters and buffers 0"


def test_refuses_what_is_no_module():
    with pytest.raises(
        TypeError, match=r"model must be a torch\.nn\.Module, not function: .*; wrap a function in a mod"
    ):
        activation_memory(F.relu, torch.ones(2))


# The command


@pytest.fixture
def models(tmp_path, monkeypatch):
    (tmp_path / "memorymodels.py").write_text(
        "from torch import nn\n"
        "def make(): return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.LeakyReLU(0.1), nn.Flatten(), nn.Tanh())\n"
    )
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("memorymodels", None)


def test_command_prints_the_table(capsys, models):
    assert main(["memory", "memorymodels:make", "--input", "1x1x256x256"]) == 0
    shown = capsys.readouterr().out
    size = 8 * 256 * 256 * 4
    rows = [line.split() for line in shown.splitlines()]
    assert ["1", "LeakyReLU", f"{size:,}"] in [row[:3] for row in rows]
    assert ["3", "Tanh", f"{size:,}"] in [row[:3] for row in rows]
    assert ["total", f"{2 * size:,}"] in [row[:2] for row in rows]


def test_command_fits_80_columns_and_agrees_with_activation_memory(capsys, tmp_path, monkeypatch):
    (tmp_path / "longnames.py").write_text(
        "from torch import nn\n"
        "def block(a, b):\n"
        "    return nn.Sequential(nn.Conv2d(a, b, 3), nn.BatchNorm2d(b), nn.LeakyReLU(0.1, inplace=True))\n"
        "def make():\n"
        "    inner = nn.ModuleDict({'first_of_all_the_blocks': block(1, 4), 'second_of_all_the_blocks': block(4, 4)})\n"
        "    return nn.Sequential(nn.Sequential(*inner.values()), nn.Conv2d(4, 1, 1))\n"
        "def make_deep():\n"
        "    model = nn.Sequential()\n"
        "    model.add_module('the_encoder_with_a_name_that_is_long', make())\n"
        "    return model\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["memory", "longnames:make_deep", "--input", "2x1x64x64"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    model = sys.modules.pop("longnames").make_deep()
    x = torch.randn(2, 1, 64, 64)
    before = activation_memory(model, x)
    save_memory(model)
    after = activation_memory(model, x)
    lines = [line.split() for line in shown.splitlines()]
    assert ["total", f"{before.bytes:,}", f"{after.bytes:,}"] in lines
    for module in before.modules:
        own = next((each.bytes for each in after.modules if each.name == module.name), 0)
        (row,) = [line for line in lines if line and line[0].startswith("\u2026") and module.name.endswith(line[0][1:])]
        assert row[1:] == [module.kind, f"{module.bytes:,}", f"{own:,}"]
    assert f"save_memory keeps {after.bytes / before.bytes:.3f} of it." in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["memorymodels:make", "--input", "1x1xa"], "--input '1x1xa' is no shape"),
        (["memorymodels:make", "--input", "0x1"], "--input '0x1' is no shape; write sizes of at least 1"),
        (["memorymodels:make", "--input", ""], "--input '' is no shape"),
        (["memorymodels:make", "--input", "3x3"], "could not be run on an input of shape (3, 3): "),
        (["memorymodels:other", "--input", "1"], "has no 'other'; it has make"),
        (["nowhere:make", "--input", "1"], "there is no module 'nowhere'"),
        (["memorymodels:make"], "--input"),
    ],
)
def test_command_refuses_in_one_line(capsys, models, arguments, message):
    assert main(["memory", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1
