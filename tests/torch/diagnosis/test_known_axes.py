"""The axis of the units is followed from the layer that feeds an activation; what cannot be followed is assumed.

The oracle changes one output channel of the layer, and looks which numbers of the activation's input change.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from leakyrelu.torch import diagnose, watch

CHANNELS = 12


class After(nn.Module):
    """A layer, something between, and an activation."""

    def __init__(self, layer, between) -> None:
        super().__init__()
        self.layer, self.between, self.act = layer, between, nn.ReLU()

    def forward(self, x):
        return self.act(self.between(self.layer(x)))


def units_by_perturbation(model, x):
    """Give each number of the activation's input the output channel that moves it; -1 where none or several do."""
    inside = []
    handle = model.act.register_forward_pre_hook(lambda module, args: inside.append(args[0].detach().double().numpy()))
    with torch.no_grad():
        model(x)
        owners = np.full(inside[0].shape, -1)
        hits = np.zeros(inside[0].shape, int)
        for channel in range(CHANNELS):
            bias = model.layer.bias.clone()
            model.layer.bias[channel] += 1.0
            model(x)
            model.layer.bias.copy_(bias)
            moved = inside.pop() != inside[0]
            owners[moved] = channel
            hits += moved
    handle.remove()
    return inside[0], np.where(hits == 1, owners, -1)


def image(layer=None):
    return layer or nn.Conv2d(3, CHANNELS, 1), torch.randn(2, 3, 4, 6)


def tokens():
    return nn.Linear(5, CHANNELS), torch.randn(2, 7, 5)


STEPS = {
    "flatten": (image, lambda x: x.flatten(1)),
    "flatten positions": (image, lambda x: x.flatten(2)),
    "heads": (image, lambda x: x.view(2, 3, 4, 4, 6)),
    "heads and back": (image, lambda x: x.reshape(2, 3, 4, -1).transpose(1, 2).reshape(2, 12, 4, 6)),
    "channels last": (image, lambda x: x.permute(0, 2, 3, 1)),
    "tokens of an image": (image, lambda x: x.flatten(2).transpose(1, 2)),
    "image of tokens": (tokens, lambda x: x.mT.reshape(2, 12, 7, 1)),
    "pooling": (image, lambda x: F.max_pool2d(F.avg_pool2d(x, 2), 2)),
    "mean": (image, lambda x: x.mean((2, 3))),
    "mean that is kept": (image, lambda x: x.mean((2, 3), keepdim=True)),
    "upsampling": (image, lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear")),
    "padding": (image, lambda x: F.pad(x, (1, 1, 2, 2))),
    "pixel shuffle": (image, lambda x: F.pixel_shuffle(x, 2)),
    "pixel unshuffle": (image, lambda x: F.pixel_unshuffle(x, 2)),
    "concatenation of positions": (image, lambda x: torch.cat([x, 2 * x], 3)),
    "slices": (image, lambda x: x[:, 2:9, ::2]),
    "one index": (image, lambda x: x[:, :, 1]),
    "indices": (image, lambda x: x[:, :, :, torch.tensor([0, 2])]),
    "chunks": (image, lambda x: x.chunk(3, dim=1)[1]),
    "a sum with a constant": (image, lambda x: x + torch.arange(24.0).view(4, 6)),
    "stack": (tokens, lambda x: torch.stack([x, x + 1], 2)),
    "expansion": (tokens, lambda x: x[:, :1].expand(2, 9, 12)),
    "movedim": (image, lambda x: x.movedim(1, -1)),
    "unflatten": (tokens, lambda x: x.unflatten(-1, (4, 3)).transpose(1, 2)),
    "square": (tokens, lambda x: x**3 - 1),
    "einsum over positions": (tokens, lambda x: torch.einsum("btc,bts->bsc", x, _scores(x)[..., :3])),
    "attention": (tokens, lambda x: _scores(x) @ x),
    "graph": (tokens, lambda x: torch.eye(7).roll(1, 0) @ x),
    "setitem": (tokens, lambda x: _filled(x)),
    "roll": (image, lambda x: x.roll((1, 2), (2, 3))),
    "sum over rows": (tokens, lambda x: torch.zeros(2, 7, 12).index_add(1, torch.tensor([1, 1, 0, 0, 2, 2, 3]), x)),
}


def _scores(x):
    return x.mean(-1, keepdim=True).expand(2, 7, 7).gt(9).float() + torch.eye(7)


def _filled(x):
    out = torch.zeros(2, 9, 12)
    out[:, 1:8] = x
    return out


STRANGE = {
    "einsum of sublists": lambda x: torch.einsum(x, [0, 1, 2], [0, 2, 1]),
    "matmul by name": lambda x: torch.matmul(input=x.mT, other=x),
    "movedim by name": lambda x: torch.movedim(x, source=(1, 2), destination=(2, 1)),
    "swapaxes by name": lambda x: torch.swapaxes(x, axis0=1, axis1=2),
    "mean by name": lambda x: torch.mean(input=x, dim=1),
    "take": lambda x: torch.take(x, torch.tensor([[0, 1], [2, 3]])),
    "index of booleans": lambda x: x[x > 0],
    "index of lists": lambda x: x[[0, 1], :, [3, 4]],
    "view as another dtype": lambda x: x.view(torch.int32).view(torch.float32),
    "strides": lambda x: torch.as_strided(x, (2, 3), (3, 1)),
    "out": lambda x: torch.add(x, 1.0, out=torch.empty(2, 7, 12)),
    "nothing": lambda x: x[:0],
    "a number": lambda x: x.sum(),
    "cat by name": lambda x: torch.cat(tensors=[x, x], dim=-1),
    "split sizes": lambda x: torch.split(x, [5, 7], dim=2)[1],
    "broadcast": lambda x: torch.broadcast_tensors(x, torch.zeros(3, 1, 1, 12))[0],
    "block": lambda x: torch.block_diag(x[0], x[1]),
}


@pytest.mark.parametrize("name", STRANGE)
def test_arguments_in_any_form_break_nothing(name):
    layer, x = tokens()
    model = After(layer, STRANGE[name])
    with torch.no_grad():
        expected = model(x)
    with watch(model) as census, torch.no_grad():
        assert torch.equal(model(x), expected)
    (row,) = census.report().layers
    assert row.samples * row.units == expected.numel()


@pytest.mark.parametrize("name", STEPS)
def test_units_are_followed(name):
    torch.manual_seed(3)
    make, between = STEPS[name]
    layer, x = make()
    model = After(layer, between)
    values, owners = units_by_perturbation(model, x)
    (row,) = diagnose(model, x).layers
    assert row.axis.known
    assert row.place.after == "layer"
    # The counts of units, in some order, are those of the numbers that each channel moves.
    expected = sorted(int((values[owners == channel] > 0).sum()) for channel in set(owners[owners >= 0].flat))
    assert sorted(row.counts.positive.tolist()) == expected
    assert row.units == len(expected)


def test_what_is_lost_is_assumed_to_be_the_channels_and_the_alternatives_are_counted():
    layer, x = image()
    model = After(layer, lambda x: torch.fft.fft2(x).real)
    inside = []
    handle = model.act.register_forward_pre_hook(lambda module, args: inside.append(args[0].numpy()))
    with watch(model) as census, torch.no_grad():
        model(x)
        model(x + 1)
    handle.remove()
    (row,) = census.report().layers
    assert (row.axis.known, row.axis.axes, row.axis.shape) == (False, (1,), inside[0].shape)
    assert set(row.axis.alternatives) == {2, 3}
    for axis, counts in {1: row.counts, **row.axis.alternatives}.items():
        positive = sum(np.moveaxis(x > 0, axis, 0).reshape(x.shape[axis], -1).sum(1) for x in inside)
        np.testing.assert_array_equal(counts.positive, positive)
    settled = diagnose(model, x, unit_axis={"act": 3}).layers[0]
    assert (settled.axis.known, settled.units, settled.axis.alternatives) == (True, 6, {})


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_reshapes_and_permutations_in_any_order_are_followed(data):
    """Reshape and permute at random; wherever the census says that it knows, a dead channel is silent there."""
    torch.manual_seed(0)
    batch, height, width = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16]))
    shape = [[2] * (batch - 1), [2, 2, 3], [height], [width]]  # factors of each size: a reshape may split between them
    steps = []
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(range(len(shape))))
            shape = [shape[axis] for axis in order]
            steps.append(("permute", order))
            continue
        axis = data.draw(st.integers(0, len(shape) - 1))
        if data.draw(st.booleans()):
            shape = [
                *shape[:axis],
                [factor for factors in shape[axis : axis + 2] for factor in factors],
                *shape[axis + 2 :],
            ]
        else:
            cut = data.draw(st.integers(0, len(shape[axis])))
            shape = [*shape[:axis], shape[axis][:cut], shape[axis][cut:], *shape[axis + 1 :]]
        steps.append(("reshape", [math.prod(factors) for factors in shape]))

    def between(x):
        for name, value in steps:
            x = getattr(x, name)(value)
        return x

    model = After(nn.Conv2d(3, CHANNELS, 1), between).to(dtype)
    dead = data.draw(st.sets(st.integers(0, CHANNELS - 1), max_size=CHANNELS - 1))
    with torch.no_grad():
        model.layer.weight[sorted(dead)] = 0.0
        model.layer.bias.fill_(1e3)
        model.layer.bias[sorted(dead)] = -1e3
    (row,) = diagnose(model, torch.rand(batch, 3, height, width).to(dtype)).layers
    assert row.axis.known
    assert row.units == CHANNELS
    assert (len(row.silent_units), len(row.always_on_units)) == (len(dead), CHANNELS - len(dead))


class AttentionImage(nn.Module):
    """Attention over the pixels, an image again before the activation, as in EfficientFormerV2 and BoTNet."""

    def __init__(self, heads, width, norm) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.qkv = nn.Conv2d(3, 3 * heads * width, 1)
        self.norm = nn.BatchNorm2d(heads * width) if norm else nn.Identity()
        self.act = nn.ReLU()
        self.out = nn.Conv2d(heads * width, 3, 1)

    def forward(self, x):
        batch, _, *size = x.shape
        q, k, v = self.qkv(x).flatten(2).view(batch, 3, self.heads, self.width, -1).transpose(3, 4).unbind(1)
        scores = (q @ k.transpose(-2, -1)).softmax(-1)
        y = (scores @ v).transpose(2, 3).reshape(batch, self.heads * self.width, *size)
        return self.out(self.act(self.norm(y)))


@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.booleans(),
    st.integers(1, 5),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_attention_that_is_reshaped_to_an_image(heads, width, norm, size, dtype):
    torch.manual_seed(heads)
    model, units = AttentionImage(heads, width, norm).to(dtype), heads * width
    dead = list(range(0, units, 3))
    with torch.no_grad():
        model.qkv.weight[2 * units :] = 0.0
        model.qkv.bias[2 * units :] = 5.0
        model.qkv.bias[[2 * units + unit for unit in dead]] = -5.0
    (row,) = diagnose(model, torch.randn(2, 3, size, size).to(dtype)).layers
    assert (row.axis.known, row.units, row.silent_units.tolist()) == (True, units, dead)
    assert row.place.after == ("norm" if norm else "qkv")


class ChannelsFirstNorm(nn.LayerNorm):
    """A layer norm over the channels of an image: a subclass that does not keep to the last axis."""

    def forward(self, x):
        return F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps).permute(
            0, 3, 1, 2
        )


class NormAndActivation(nn.BatchNorm2d):
    """A batch norm that carries its activation, as timm's BatchNormAct2d does."""

    def __init__(self, channels) -> None:
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(
            F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [ChannelsFirstNorm, NormAndActivation])
def test_subclasses_of_normalizations(kind, dtype):
    model = nn.Sequential(nn.Conv2d(3, 16, 1), kind(16), *([nn.ReLU()] if kind is ChannelsFirstNorm else [])).to(dtype)
    with torch.no_grad():
        model[1].bias.fill_(100.0)
        model[1].weight[[2, 9]] = 0.0
        model[1].bias[[2, 9]] = -1.0
    (row,) = diagnose(model, torch.randn(4, 3, 7, 7).to(dtype)).layers
    assert (row.axis.known, row.units, row.place.after) == (True, 16, "1")
    assert row.silent_units.tolist() == [2, 9]


@pytest.mark.parametrize(
    ("function", "shape", "axes"),
    [
        (lambda x, w: torch.addmm(w[0], x, w), (4, 3), (1,)),
        (lambda x, w: torch.einsum("btc,cd->btd", x, w), (4, 7, 3), (2,)),
        (lambda x, w: torch.einsum("...c,cd->...d", x, w), (4, 7, 3), (2,)),
        (lambda x, w: torch.einsum("btc,cd->bdt", [x, w]), (4, 7, 3), (1,)),
        (lambda x, w: w.t() @ x, (4, 3, 7), (1,)),
        (lambda x, w: F.linear(x, w.t().contiguous() * 2), (4, 7, 3), (2,)),
        (lambda x, w: x @ F.normalize(w), (4, 7, 3), (2,)),
    ],
)
def test_weights_that_functions_are_given_make_the_units(function, shape, axes):
    class Weights(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.act = nn.Parameter(torch.randn(3, 5)), nn.ReLU()

        def forward(self, x):
            return self.act(function(x, self.weight))

    (row,) = diagnose(Weights(), torch.randn(shape)).layers
    assert (row.units, row.axis.axes, row.axis.known, row.place.after) == (5, axes, True, "weight")
