"""Programs in files have the rows of the model they were made from: names, units, axes and silent units."""

from __future__ import annotations

import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.torch import diagnose
from leakyrelu.torch.diagnosis import exported_program, torchscript

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # within run_decompositions
]


class Block(nn.Module):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(units, units, 3, padding=1), nn.BatchNorm2d(units)
        self.conv2, self.bn2 = nn.Conv2d(units, units, 3, padding=1), nn.BatchNorm2d(units)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.act(self.bn1(self.conv1(x)))
        return self.act(self.bn2(self.conv2(y)) + x)


class ChannelsFirst(nn.LayerNorm):
    def forward(self, x):
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class Network(nn.Module):
    """Shared modules, attention reshaped to an image, a channels-first layer norm, pixel shuffle and einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks, self.norm = nn.Conv2d(3, 8, 1), nn.Sequential(Block(8), Block(8)), ChannelsFirst(8)
        self.qkv, self.up, self.proj = nn.Conv2d(8, 24, 1), nn.Conv2d(8, 16, 1), nn.Linear(8, 6)
        self.slopes, self.leaky = nn.PReLU(6), nn.LeakyReLU(0.2)
        self.mix = nn.Parameter(torch.randn(5, 6))

    def forward(self, x):
        x = F.relu(self.norm(self.blocks(F.relu(self.stem(x)))))
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).flatten(2).view(b, 3, 2, 4, h * w).unbind(1)
        scores = (q.transpose(-1, -2) @ k).softmax(-1)
        image = F.relu((v @ scores.transpose(-1, -2)).reshape(b, c, h, w))
        large = F.relu(F.max_pool2d(F.relu(F.pixel_shuffle(self.up(image), 2)), 2))
        tokens = self.slopes(self.proj(image.flatten(2).transpose(1, 2)).transpose(1, 2)).transpose(1, 2)
        tokens = self.leaky(torch.einsum("btc,dc->btd", tokens, self.mix))
        tokens = torch.cat([tokens, tokens], -1)
        return F.hardtanh(tokens.mean(1), 0.0, 4.0), large, tokens[..., 1:].clamp(min=0.0)


DEAD = {"stem": [2], "blocks.0.bn1": [0, 5], "norm": [3], "qkv": [17, 20], "up": [9], "proj": [4]}


def network():
    torch.manual_seed(0)
    model = Network().eval()
    with torch.no_grad():
        for name, units in DEAD.items():
            model.get_submodule(name).bias[units] = -100.0
    return model


X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def rows(report):
    return [(each.name, each.kind, each.units, each.axis.axes, each.axis.known, *each.silent_units) for each in report]


def stored(program):
    file = io.BytesIO()
    torch.jit.save(program, file)
    file.seek(0)
    return torch.jit.load(file)


def exported(model, x):
    return exported_program.rectifiers_as_modules(torch.export.export(model, (x,)))


MAKERS = {
    "exported": exported,
    "decomposed": lambda model, x: exported_program.rectifiers_as_modules(
        torch.export.export(model, (x,)).run_decompositions()
    ),
    "scripted": lambda model, x: torchscript.rectifiers_as_modules(torch.jit.script(model)),
    "scripted and stored": lambda model, x: torchscript.rectifiers_as_modules(stored(torch.jit.script(model))),
    "traced": lambda model, x: torchscript.rectifiers_as_modules(torch.jit.trace(model, x)),
    "frozen": lambda model, x: torchscript.rectifiers_as_modules(torch.jit.freeze(torch.jit.script(model))),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", MAKERS)
def test_rows_are_those_of_the_model(kind, dtype):
    model, x = network().to(dtype), X.to(dtype)
    expected = diagnose(model, [x, x])
    module, unit_axis = MAKERS[kind](model, x)
    report = diagnose(module, [x, x], unit_axis=unit_axis)
    # What a PReLU is made of are a comparison and a choice.
    names = [each.name for each in expected if kind != "decomposed" or each.kind != "PReLU"]
    assert rows(report) == [row for row in rows(expected) if row[0] in names]
    # A pooling over what pixels of several units were shuffled into mixes them.
    assert [each.name for each in report if not each.axis.known] == ["relu(), call 5"]
    assert report["relu()"].silent_units.tolist() == DEAD["stem"]
    assert report["blocks.0.act"].silent_units.tolist() == DEAD["blocks.0.bn1"]
    assert report["relu(), call 2"].silent_units.tolist() == DEAD["norm"]
    assert {1, 4}.issubset(report["relu(), call 3"].silent_units)  # units 17 and 20 of 24 are values 1 and 4
    assert 9 in report["relu(), call 4"].silent_units
    assert report.unused == ()


def test_a_row_says_where_it_is():
    module, _ = MAKERS["exported"](network(), X)
    places = {each.name: each.place for each in diagnose(module, X)}
    assert places["blocks.1.act, call 2"].after == "blocks.1.bn2 + blocks.0.act, call 2"
    assert places["blocks.1.act, call 2"].inside == "blocks.1"
    assert places["relu()"].source.startswith("test_program_units.py:")
    module, _ = MAKERS["scripted"](network(), X)
    places = {each.name: each.place for each in diagnose(module, X)}
    assert places["blocks.0.act"].after == "blocks.0.bn1"
    assert places["clamp()"].source.startswith("test_program_units.py:")
    module, _ = MAKERS["frozen"](network(), X)
    assert diagnose(module, X).layers[0].place.after == "conv2d 1"


def test_what_cannot_be_followed_is_assumed_and_can_be_settled():
    class Sorted(nn.Module):
        def forward(self, x):
            return torch.relu(torch.fft.fft(x).real)

    x = torch.randn(4, 3, 5, 7)
    for make in (MAKERS["exported"], MAKERS["scripted"]):
        module, _ = make(Sorted(), x)
        (layer,) = diagnose(module, x)
        assert (layer.axis.axes, layer.axis.known) == ((1,), False)
        assert {axis: counts.units for axis, counts in layer.axis.alternatives.items()} == {2: 5, 3: 7}
        (settled,) = diagnose(module, x, unit_axis={layer.name: 2})
        assert (settled.axis.axes, settled.axis.known, settled.units) == ((2,), True, 5)


class Limited(nn.Module):
    def forward(self, x):
        return F.hardtanh(F.rrelu(F.threshold(x, 0.5, 0.1), 0.1, 0.3), 0.0, 4.0)


def test_every_rectifier_of_an_exported_program_is_found():
    x = torch.randn(50, 3)
    module, _ = exported(Limited(), x)
    report, live = diagnose(module, x), diagnose(Limited(), x)
    assert [(each.name, each.ceiling) for each in report] == [(each.name, each.ceiling) for each in live]
    torch.testing.assert_close(module(x), Limited()(x))
