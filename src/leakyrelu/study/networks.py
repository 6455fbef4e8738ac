"""The networks of the study, built of the activation of a row and initialized alike for every row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from leakyrelu.study.settings import ARCHITECTURES
from leakyrelu.torch import CenteredLeakyReLU, LeakyReLU

if TYPE_CHECKING:
    from torch import Tensor

    from leakyrelu.study.variants import Row

    Layer = nn.Linear | nn.Conv1d | nn.Conv2d


def build(
    row: Row, *, shape: tuple[int, ...], classes: int, depth: int, width: int, seed: int, network: str = "mlp"
) -> nn.Sequential:
    """Return a network of ``depth`` hidden layers, each followed by the activation of the row, and a linear one on top.

    Weights are orthogonal, the same matrices for every row with the same seed, times the scale that keeps the second
    moment of the signal; biases are zero. A convolution is the matrix that acts on one patch. A matrix that widens is
    orthogonal in its columns, and its scale carries the factor sqrt(outputs / inputs) that this costs. No activation
    stands before the first layer, whose scale is therefore 1.

    In a residual network without normalization every sum ``x + f(x)`` doubles the second moment. The layer on top is
    divided by what comes of it, so that its outputs are as large as those of the other networks.
    """
    if network == "mlp":
        hidden_layers, top, growth = _plain(row, math.prod(shape), depth, width), nn.Linear(width, classes), 1.0
    else:
        hidden_layers, growth = _convolutional(row, network, shape, depth, width)
        top = nn.Linear(width, classes)
    hidden_layers.add_module("readout", top)
    generator = torch.Generator().manual_seed(2 * seed)
    layers = _layers(hidden_layers)
    for number, layer in enumerate(layers):
        outputs, inputs = len(layer.weight), layer.weight[0].numel()
        scale = max(1.0, outputs / inputs) ** 0.5 * (row.scale if number else 1.0)
        if layer is top:
            scale /= growth
        nn.init.orthogonal_(layer.weight, gain=scale, generator=generator)
        if layer.bias is not None:  # always there; its type does not say so
            nn.init.zeros_(layer.bias)
    return hidden_layers


def hidden(network: nn.Sequential) -> list[Layer]:
    """Return the layers with weights in front of an activation, first to last."""
    return _layers(network)[:-1]


def _layers(network: nn.Module) -> list[Layer]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)]


def check_shape(network: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError where a network cannot take samples of this shape."""
    if network != "mlp" and len(shape) not in (1, 2, 3):
        raise ValueError(
            f"a sample has shape {shape}, and the network {network!r} takes series (n,), images (height, width) and "
            "images (channels, height, width); give samples of such a shape, or the network 'mlp'"
        )


def _plain(row: Row, features: int, depth: int, width: int) -> nn.Sequential:
    network = nn.Sequential()
    for number in range(1, depth + 1):
        network.add_module(f"linear{number}", nn.Linear(features if number == 1 else width, width))
        network.add_module(f"activation{number}", _activation(row))
    return network


def _convolutional(row: Row, name: str, shape: tuple[int, ...], depth: int, width: int) -> tuple[nn.Sequential, float]:
    """Return a network up to the mean over places, and how much larger than 1 the root of its second moment is."""
    channels, *places = shape if len(shape) == 3 else (1, *shape)
    line = len(places) == 1
    normalized = name == "resnet-bn"
    network = nn.Sequential(nn.Unflatten(1, (channels, *places)))

    def convolution(inputs: int = width) -> nn.Module:
        return (nn.Conv1d if line else nn.Conv2d)(inputs, width, 3, padding=1)

    def activation(scale: float) -> list[nn.Module]:
        if normalized:
            return [nn.BatchNorm1d(width) if line else nn.BatchNorm2d(width), _activation(row)]
        return [_activation(row, scale)]

    growth = 1.0
    network.add_module("convolution1", convolution(channels))
    if ARCHITECTURES[name].residual:
        for number in range(1, (depth - 1) // 2 + 1):
            branch = [*activation(growth), convolution(), *activation(growth), convolution()]
            network.add_module(f"block{number}", Residual(*branch))
            growth *= 1.0 if normalized else math.sqrt(2.0)
        network.add_module("activation", nn.Sequential(*activation(growth)))
    else:
        network.add_module("activation1", _activation(row))
        for number in range(2, depth + 1):
            network.add_module(f"convolution{number}", convolution())
            network.add_module(f"activation{number}", _activation(row))
    network.add_module("mean", nn.AdaptiveAvgPool1d(1) if line else nn.AdaptiveAvgPool2d(1))
    network.add_module("flat", nn.Flatten())
    return network, growth


class Residual(nn.Module):
    """The sum ``x + f(x)`` of an input and what the layers of a branch make of it."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the branch makes of the input to it."""
        return x + self.branch(x)  # type: ignore[no-any-return]


class Scaled(nn.Module):
    """An activation ``scale * f(x / scale)``: what f is to inputs of second moment 1, for those of ``scale**2``."""

    def __init__(self, function: nn.Module, scale: float) -> None:
        super().__init__()
        self.function, self.scale = function, scale

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation at the scale."""
        return self.scale * self.function(x / self.scale)  # type: ignore[no-any-return]


def _activation(row: Row, scale: float = 1.0) -> nn.Module:
    """Return the activation of a row for inputs whose second moment is ``scale**2``."""
    if row.kind == "relu":
        return nn.ReLU()
    if row.kind == "prelu":
        return nn.PReLU(init=row.slope)
    if row.kind == "leaky":
        return LeakyReLU(row.slope)
    centered = CenteredLeakyReLU(row.slope)
    return centered if scale == 1.0 else Scaled(centered, scale)  # the others have no scale of their own
