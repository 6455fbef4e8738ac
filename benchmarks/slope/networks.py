"""Networks at initialization, as functions of the slope, and independent Gaussian inputs for them.

It depends on nothing of leakyrelu. The weights are drawn here: normal, with variance 2 / (1 + slope^2) over the fan-in
behind an activation, and 1 over the fan-in in the first layer and where no activation is in front; biases are zero.
Normalizations have their first parameters, and run as in training.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo.network import load

if TYPE_CHECKING:
    from collections.abc import Callable

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


class InitializedNetwork(NamedTuple):
    """A network as a function of the slope, and its inputs.

    `bound` is what the difference of a predicted from a measured similarity may be, at any activation; None where it is
    only reported.
    """

    make: Callable[[float], nn.Module]
    sample: tuple[int, ...]
    samples: int
    bound: float | None

    def inputs(self) -> Tensor:
        """Draw a batch."""
        return torch.randn(self.samples, *self.sample)


def draw(layer: Any, variance: float) -> Any:
    """Draw the weights of a linear layer or convolution, with this variance over the fan-in, and return it."""
    taps = math.prod(layer.weight.shape[2:])
    if isinstance(layer, _TRANSPOSED):
        fan_in = layer.in_channels // layer.groups * taps / math.prod(layer.stride)
    else:
        fan_in = layer.weight.shape[1] * taps
    nn.init.normal_(layer.weight, 0.0, math.sqrt(variance / fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def behind(slope: float) -> float:
    """Return the variance, over the fan-in, of weights behind a Leaky ReLU."""
    return 2.0 / (1.0 + slope**2)


def _mlp(depth: int, width: int, slope: float) -> nn.Module:
    layers: list[nn.Module] = []
    for number in range(depth):
        layers += [draw(nn.Linear(width, width), behind(slope) if number else 1.0), nn.LeakyReLU(slope)]
    return nn.Sequential(*layers)


def _cnn(depth: int, width: int, slope: float) -> nn.Module:
    layers: list[nn.Module] = []
    for number in range(depth):
        conv = nn.Conv2d(width, width, 3, padding=1)
        layers += [draw(conv, behind(slope) if number else 1.0), nn.LeakyReLU(slope)]
    return nn.Sequential(*layers)


class _Block(nn.Module):
    """A residual block of the first kind, act(w x + sqrt(1 - w^2) f(x))."""

    def __init__(self, width: int, shortcut: float, slope: float) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.conv1 = draw(nn.Conv2d(width, width, 3, padding=1), behind(slope))
        self.act1 = nn.LeakyReLU(slope)
        self.conv2 = draw(nn.Conv2d(width, width, 3, padding=1), behind(slope))
        self.act2 = nn.LeakyReLU(slope)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv2(self.act1(self.conv1(x)))
        y: Tensor = self.act2(self.shortcut * x + math.sqrt(1.0 - self.shortcut**2) * branch)
        return y


def _resnet(blocks: int, width: int, shortcut: float, slope: float) -> nn.Module:
    stem = draw(nn.Conv2d(width, width, 3, padding=1), 1.0)
    return nn.Sequential(stem, nn.LeakyReLU(slope), *(_Block(width, shortcut, slope) for _ in range(blocks)))


class _TransformerBlock(nn.Module):
    """A block of a transformer with normalization in front of each branch, and Leaky ReLU in its MLP."""

    def __init__(self, width: int, heads: int, slope: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (draw(nn.Linear(width, width), 1.0) for _ in range(4))
        self.up, self.act = draw(nn.Linear(width, 4 * width), 1.0), nn.LeakyReLU(slope)
        self.down = draw(nn.Linear(4 * width, width), behind(slope))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        heads = [each(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.query, self.key, self.value)]
        x = x + self.out(functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        y: Tensor = x + self.down(self.act(self.up(self.norm2(x))))
        return y


def _transformer(depth: int, width: int, slope: float) -> nn.Module:
    return nn.Sequential(*(_TransformerBlock(width, 8, slope) for _ in range(depth)))


def _drawn(model: nn.Module, slope: float) -> nn.Module:
    """Give a network of a library Leaky ReLUs of this slope, and draw its weights: all but the first stand behind one.

    How large they are makes no difference in front of a normalization.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU | nn.LeakyReLU):
                setattr(module, name, nn.LeakyReLU(slope, child.inplace))
    layers = [module for module in model.modules() if isinstance(module, _WEIGHTED)]
    for number, layer in enumerate(layers):
        draw(layer, behind(slope) if number else 1.0)
    return model.train()


def _unet(slope: float) -> nn.Module:
    model = load("dynamic_network_architectures.architectures.unet", "PlainConvUNet")(
        input_channels=3,
        n_stages=5,
        features_per_stage=[32, 64, 128, 256, 320],
        conv_op=nn.Conv2d,
        kernel_sizes=3,
        strides=[1, 2, 2, 2, 2],
        n_conv_per_stage=2,
        num_classes=2,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )
    return _drawn(model, slope)


def _timm(name: str, slope: float) -> nn.Module:
    return _drawn(load("timm", "create_model")(name), slope)


def _torchvision(name: str, slope: float) -> nn.Module:
    return _drawn(load("torchvision.models", name)(weights=None), slope)


def _vgg(padding_mode: Literal["zeros", "circular"], slope: float) -> nn.Module:
    """VGG-16 up to its classifier, which has no normalization."""
    model: nn.Module = load("torchvision.models", "vgg16_bn")(weights=None, init_weights=False).features
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = padding_mode
    return _drawn(model, slope)


NETWORKS: dict[str, InitializedNetwork] = {
    "MLP, 50 layers of 1024": InitializedNetwork(partial(_mlp, 50, 1024), (1024,), 16, 0.02),
    "CNN, 20 layers of 256": InitializedNetwork(partial(_cnn, 20, 256), (256, 8, 8), 6, 0.04),
    "CNN, 20 layers of 64": InitializedNetwork(partial(_cnn, 20, 64), (64, 8, 8), 8, None),
    "CNN, 20 layers of 16": InitializedNetwork(partial(_cnn, 20, 16), (16, 8, 8), 8, None),
    "ResNet v1 of 256, shortcut weight 0.5": InitializedNetwork(partial(_resnet, 8, 256, 0.5), (256, 8, 8), 6, 0.04),
    "U-Net, instance norm": InitializedNetwork(_unet, (3, 64, 64), 4, 0.04),
    "DenseNet-121, batch norm": InitializedNetwork(partial(_timm, "densenet121"), (3, 64, 64), 8, 0.04),
    "DenseNet-121, batch norm, 128 pixels": InitializedNetwork(partial(_timm, "densenet121"), (3, 128, 128), 8, 0.04),
    "ResNet-18, batch norm": InitializedNetwork(partial(_torchvision, "resnet18"), (3, 64, 64), 8, None),
    "VGG-16, batch norm": InitializedNetwork(partial(_vgg, "zeros"), (3, 32, 32), 8, None),
    "VGG-16, batch norm, circular padding": InitializedNetwork(partial(_vgg, "circular"), (3, 32, 32), 8, 0.01),
    "transformer, pre-norm, 512 wide": InitializedNetwork(partial(_transformer, 6, 512), (16, 512), 8, 0.02),
}
"""Every network by its name."""
