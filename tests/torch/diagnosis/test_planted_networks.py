"""Dead units planted in small networks of the kinds that libraries hold: found in the right row, by the right number.

What goes into each rectifier is recorded below it, as an operator; the axes of the units are written down by hand.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from leakyrelu.torch import diagnose

FEW = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
RECTIFIERS = ("relu", "relu_", "leaky_relu", "leaky_relu_", "clamp", "clamp_min", "hardtanh")


class Inputs(TorchDispatchMode):
    """What goes into the operators that rectify, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in RECTIFIERS:
            self.found.append(args[0].clone())
        return function(*args, **(kwargs or {}))


def silent(x, axes):
    """Units that are never above zero; the first of several axes counts slowest."""
    others = [axis for axis in range(x.ndim) if axis not in axes]
    units = x.permute(*axes, *others).flatten(0, len(axes) - 1).flatten(1)
    return [unit for unit, values in enumerate(units) if bool((values <= 0).all())]


def kill(layer, units):
    """Make channels of a layer a constant below zero, whatever its input."""
    with torch.no_grad():
        for unit in units:
            layer.weight[unit] = 0.0
            layer.bias[unit] = -50.0


class ConvNorm(nn.Sequential):
    def __init__(self, before, width, kernel=1, **options) -> None:
        super().__init__(
            nn.Conv2d(before, width, kernel, padding=kernel // 2, bias=False, **options), nn.BatchNorm2d(width)
        )


class NormAct(nn.BatchNorm2d):
    """A batch norm that holds its activation, as networks of timm have it."""

    def __init__(self, width) -> None:
        super().__init__(width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, self.eps)
        return self.act(x)


class ChannelsFirstNorm(nn.LayerNorm):
    def forward(self, x):
        return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), self.weight, self.bias).permute(0, 3, 1, 2)


class Bottleneck(nn.Module):
    """Attention over an image between two norms with activations, and a skip: as in BotNet."""

    planted = ("norm1", "norm2", "norm3")
    axes = ((1,), (1,), (1,))

    def __init__(self, width, heads=2) -> None:
        super().__init__()
        self.width, self.heads = width * heads, heads
        self.conv1, self.norm1 = nn.Conv2d(3, width, 1, bias=False), NormAct(width)
        self.qkv = nn.Conv2d(width, 3 * self.width, 1, bias=False)
        self.norm2 = NormAct(self.width)
        self.conv3, self.norm3 = nn.Conv2d(self.width, 3, 1, bias=False), nn.BatchNorm2d(3)

    def forward(self, image):
        x = self.norm1(self.conv1(image))
        batch, _, height, width = x.shape
        parts = self.qkv(x).split(self.width, dim=1)
        q, k, v = (part.reshape(batch * self.heads, -1, height * width).transpose(-1, -2) for part in parts)
        attention = (q @ k.transpose(-1, -2)).softmax(dim=-1)
        x = (attention @ v).transpose(-1, -2).reshape(batch, -1, height, width)
        x = self.norm3(self.conv3(self.norm2(x)))
        return F.relu(x + image)


class Lambda(nn.Module):
    """A lambda layer: content and position lambdas applied to queries; one value feeds a channel of each head."""

    planted = ("norm",)
    axes = ((1,),)

    def __init__(self, width, heads=2, keys=3) -> None:
        super().__init__()
        self.heads, self.keys, self.width = heads, keys, width
        self.qkv = nn.Conv2d(3, heads * keys + keys + width, 1)
        self.position = nn.Conv2d(1, keys, 3, padding=1)
        self.norm = NormAct(heads * width)

    def forward(self, x):
        batch, _, height, width = x.shape
        points = height * width
        q, k, v = self.qkv(x).split([self.heads * self.keys, self.keys, self.width], dim=1)
        q = q.reshape(batch, self.heads, self.keys, points).transpose(-1, -2)
        v = v.reshape(batch, self.width, points).transpose(-1, -2)
        content = q @ (k.reshape(batch, self.keys, points).softmax(dim=-1) @ v).unsqueeze(1)
        near = self.position(v.transpose(1, 2).reshape(batch * self.width, 1, height, width))
        near = near.reshape(batch, self.width, self.keys, points).permute(0, 3, 2, 1)
        out = content + torch.einsum("bhnk,bnkv->bhnv", q, near)
        return self.norm(out.transpose(-1, -2).reshape(batch, -1, height, width))


class GlobalContext(nn.Module):
    """A gate computed of a pooling by attention, with a layer norm of channels."""

    planted = ("norm", "last")
    axes = ((1,), (1,))

    def __init__(self, width) -> None:
        super().__init__()
        self.last = nn.Conv2d(3, 4 * width, 1)
        self.attend = nn.Conv2d(4 * width, 1, 1)
        self.reduce, self.norm = nn.Conv2d(4 * width, width, 1), ChannelsFirstNorm(width)
        self.expand = nn.Conv2d(width, 4 * width, 1)

    def forward(self, x):
        x = self.last(x)
        batch, channels, height, width = x.shape
        weights = self.attend(x).reshape(batch, 1, height * width, 1).softmax(dim=2)
        context = x.reshape(batch, channels, height * width).unsqueeze(1) @ weights
        context = self.norm(self.reduce(context.view(batch, channels, 1, 1)))
        gate = self.expand(F.relu(context)).sigmoid()
        return F.relu(x * gate)


class SharedResNet(nn.Module):
    """One activation module at all places of two residual blocks."""

    planted = ("stem.1", "one.1", "two.1", "three.1")
    axes = ((1,), (1,), (1,), (1,))

    def __init__(self, width) -> None:
        super().__init__()
        self.stem, self.one = ConvNorm(3, width, 3), ConvNorm(width, width, 3)
        self.two, self.three = ConvNorm(width, width, 3), ConvNorm(width, width, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(self.stem(x))
        h = self.relu(self.one(x))
        x = self.relu(self.two(h) + x)
        return self.relu(self.three(x) + x)


class DenseNet(nn.Module):
    """Norm and activation in front of the convolution, over a concatenation that grows; the last over the layers."""

    planted = ("norms.0", "norms.1", "norms.2")
    axes = ((1,), (1,), (1,), (1,))

    def __init__(self, width) -> None:
        super().__init__()
        counts = [3 + width * number for number in range(3)]
        self.norms = nn.ModuleList([nn.BatchNorm2d(count) for count in counts])
        self.convs = nn.ModuleList([nn.Conv2d(count, width, 3, padding=1) for count in counts])

    def forward(self, x):
        features = [x]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        return torch.cat(features, 1).clamp(min=0)


class UNet(nn.Module):
    """Down, up by a transposed convolution, and together with the skip; instance norm and Leaky ReLU."""

    planted = ("first.1", "down.1", "up", "last")
    axes = ((1,), (1,), (1,), (1,))

    def __init__(self, width) -> None:
        super().__init__()
        self.act = nn.LeakyReLU(0.01, inplace=True)
        self.first = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.InstanceNorm2d(width, affine=True))
        self.down = nn.Sequential(nn.Conv2d(width, 2 * width, 2, stride=2), nn.InstanceNorm2d(2 * width, affine=True))
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.last = nn.Conv2d(2 * width, width, 3, padding=1)

    def forward(self, x):
        skip = self.act(self.first(x))
        x = self.act(self.down(skip))
        return F.leaky_relu(self.last(torch.cat([F.leaky_relu(self.up(x)), skip], dim=1)))


class Transformer(nn.Module):
    """Patches as tokens, attention of PyTorch, and a ReLU between the two linear layers."""

    planted = ("fc1",)
    axes = ((2,),)

    def __init__(self, width) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 2 * width, 2, stride=2)
        self.norm1, self.norm2 = nn.LayerNorm(2 * width), nn.LayerNorm(2 * width)
        self.attention = nn.MultiheadAttention(2 * width, 2, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(2 * width, 4 * width), nn.Linear(4 * width, 2 * width)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        h = self.norm1(x)
        x = x + self.attention(h, h, h)[0]
        return x + self.fc2(torch.relu(self.fc1(self.norm2(x))))


class Windows(nn.Module):
    """Tokens of shifted windows, as in Swin."""

    planted = ("fc1",)
    axes = ((2,),)

    def __init__(self, width) -> None:
        super().__init__()
        self.patches, self.fc1 = nn.Conv2d(3, width, 1), nn.Linear(width, 3 * width)
        self.act, self.fc2 = nn.ReLU(), nn.Linear(3 * width, width)

    def forward(self, x):
        x = self.patches(x).permute(0, 2, 3, 1).roll((-1, -1), dims=(1, 2))
        batch, height, width, channels = x.shape
        x = x.view(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
        return self.fc2(self.act(self.fc1(x.reshape(-1, 4, channels))))


class LinearAttention(nn.Module):
    """Attention with ReLU on queries and keys, whose channels are split into heads, as in EfficientViT."""

    planted = ("q", "k", "v")
    axes = ((1, 2), (1, 2), (1,))
    assumed = (2,)  # products of keys and values, whose units are of two kinds

    def __init__(self, width, heads=2) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Conv2d(3, heads * width, 1) for _ in range(3))

    def forward(self, x):
        batch, _, height, width = x.shape
        q, k, v = (part(x).reshape(batch, self.heads, -1, height * width) for part in (self.q, self.k, self.v))
        q, k = F.relu(q), F.relu(k)
        out = (v @ k.transpose(-1, -2)) @ q
        out = out / (k.sum(dim=-1, keepdim=True).transpose(-1, -2) @ q + 1e-3)
        return F.relu(out.reshape(batch, -1, height, width))


class Mixer(nn.Module):
    """Linear layers over tokens and over channels."""

    planted = ("tokens", "channels")
    axes = ((2,), (2,))

    def __init__(self, width) -> None:
        super().__init__()
        self.patches, self.act = nn.Conv2d(3, width, 1), nn.ReLU()
        self.tokens, self.back = nn.Linear(16, 8), nn.Linear(8, 16)
        self.channels = nn.Linear(width, 2 * width)

    def forward(self, x):
        x = self.patches(x).flatten(2)
        x = x + self.back(self.act(self.tokens(x)))
        return self.act(self.channels(x.mT))


class SqueezeExcite(nn.Module):
    """A gate of two linear layers on the mean of an image, and a depthwise convolution in front of the last ReLU."""

    planted = ("conv", "fc1", "depthwise")
    axes = ((1,), (1,), (1,))

    def __init__(self, width) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 2 * width, 3, padding=1), nn.ReLU6()
        self.fc1, self.fc2 = nn.Linear(2 * width, width), nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)

    def forward(self, x):
        x = self.act(self.conv(x))
        gate = self.fc2(self.act(self.fc1(x.mean((2, 3))))).sigmoid()
        return self.act(self.depthwise(x * gate[:, :, None, None]))


class Shuffled(nn.Module):
    """Channels split in two, one part convolved, together again and shuffled, as in ShuffleNet; then pixels."""

    planted = ("part", "whole")
    axes = ((1,), (1,))

    def __init__(self, width) -> None:
        super().__init__()
        self.stem, self.part = nn.Conv2d(3, 2 * width, 1), nn.Conv2d(width, width, 1)
        self.whole = nn.Conv2d(2 * width, 4 * width, 1)

    def forward(self, x):
        kept, convolved = self.stem(x).chunk(2, dim=1)
        x = torch.cat([kept, F.relu(self.part(convolved))], dim=1)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        return F.relu(self.whole(x))


class Text(nn.Module):
    """An embedding, a convolution along the words, a recurrent layer and linear ones."""

    planted = ("conv", "fc")
    axes = ((1,), (2,))

    def __init__(self, width) -> None:
        super().__init__()
        self.words, self.conv = nn.Embedding(20, 2 * width), nn.Conv1d(2 * width, width, 3, padding=1)
        self.recurrent, self.fc = nn.GRU(width, width, batch_first=True), nn.Linear(width, 3 * width)

    def forward(self, x):
        words = (x.flatten(1) * 5).long().remainder(20)
        x = F.relu(self.conv(self.words(words).transpose(1, 2)))
        return self.fc(self.recurrent(x.transpose(1, 2))[0]).relu()


NETWORKS = [
    *(Bottleneck, Lambda, GlobalContext, SharedResNet, DenseNet, UNet, Transformer, Windows, LinearAttention, Mixer),
    *(SqueezeExcite, Shuffled, Text),
]


@FEW
@given(data=st.data())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", NETWORKS, ids=lambda kind: kind.__name__)
def test_planted_units_are_found_where_they_are(kind, dtype, data):
    width = data.draw(st.integers(2, 6), "width")
    torch.manual_seed(data.draw(st.integers(0, 99), "seed"))
    model = kind(width).eval()
    planted = []
    for path in kind.planted:
        layer = model.get_submodule(path)
        count = len(layer.bias)
        units = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=max(1, count // 2)), path)
        if not isinstance(layer, nn.ConvTranspose2d):
            kill(layer, units)
            planted += [units]
    model.to(dtype)
    x = torch.randn(data.draw(st.integers(2, 4), "batch"), 3, 4, 4).to(dtype)
    with torch.no_grad(), Inputs() as inputs:
        model(x)

    report = diagnose(model, x)

    assert len(report.layers) == len(inputs.found) == len(kind.axes)
    found = []
    for row, (layer, given_, axes) in enumerate(zip(report.layers, inputs.found, kind.axes, strict=True)):
        assert layer.axis.known == (row not in getattr(kind, "assumed", ())), layer.name
        assert (layer.axis.axes, layer.axis.shape) == (axes, tuple(given_.shape))
        assert layer.silent_units.tolist() == silent(given_, axes)
        found.append(set(layer.silent_units.tolist()))
    for units in planted:
        assert any(units <= each for each in found)


@pytest.mark.parametrize("kind", NETWORKS, ids=lambda kind: kind.__name__)
def test_batches_after_the_first_are_counted_alike(kind):
    torch.manual_seed(0)
    model = kind(4).eval()
    x = torch.randn(8, 3, 4, 4)
    kill(model.get_submodule(kind.planted[0]), [1])
    whole, parts = diagnose(model, x), diagnose(model, x.split(2))
    assert [layer.name for layer in parts.layers] == [layer.name for layer in whole.layers]
    for one, other in zip(whole.layers, parts.layers, strict=True):
        assert other.counts.positive.tolist() == one.counts.positive.tolist()
        assert other.counts.calls == 4 * one.counts.calls
