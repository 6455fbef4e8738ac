"""Networks with planted dead units: which units are dead at each activation is known, since it was made so."""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Share of a layer's units that is planted at the first, second and third activation: none at the second, so that a
# warning about it would be a false alarm.
SHARES = (0.1, 0.0, 0.6)
# A planted unit's largest input. At -20, GELU gives out exactly 0, too.
CEILING = -20.0
# Every other unit is positive on a share of the data drawn from this range.
ALIVE = (0.4, 0.8)
ACTIVATIONS = (functional.relu, functional.leaky_relu, functional.gelu)


@dataclass(frozen=True)
class Place:
    """One call of an activation in the forward pass.

    Parameters
    ----------
    activation
        Path of the module, or the name of the function with parentheses.
    call
        Number of the call among those of this activation, from 1.
    weights
        Path of the linear layer or convolution in front.
    bias
        Path of the layer whose bias is added last: that of the weights, or a batch norm behind it.
    """

    activation: str
    call: int
    weights: str
    bias: str


def _sequential(
    activation: Callable[[], nn.Module],
    layer: Callable[[int, int], nn.Module],
    inputs: int,
    width: int,
    norm: Any = None,
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in (1, 2, 3):
        layers[f"layer{number}"] = layer(inputs if number == 1 else width, width)
        if norm:
            layers[f"norm{number}"] = norm(width)
        layers[f"act{number}"] = activation()
    layers["head"] = layer(width, 10)
    return nn.Sequential(layers)


def _convolution(before: int, width: int) -> nn.Module:
    return nn.Conv2d(before, width, 3, padding=1)


class FunctionalReLU(nn.Module):
    """A perceptron that calls ``F.relu``."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layer1, self.layer2, self.layer3 = (
            nn.Linear(inputs, width),
            nn.Linear(width, width),
            nn.Linear(width, width),
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.layer1(x))
        x = functional.relu(self.layer2(x))
        x = functional.relu(self.layer3(x))
        out: Tensor = self.head(x)
        return out


class Guarded(FunctionalReLU):
    """The same behind a check of the data, which `torch.fx` cannot trace."""

    def forward(self, x: Tensor) -> Tensor:
        if x.isnan().any():
            raise ValueError("the inputs hold NaN")
        return super().forward(x)


class FunctionalLeakyReLU(FunctionalReLU):
    """A perceptron that calls ``F.leaky_relu``."""

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.layer1(x), 0.01)
        x = functional.leaky_relu(self.layer2(x), 0.01)
        x = functional.leaky_relu(self.layer3(x), 0.01)
        out: Tensor = self.head(x)
        return out


class SharedReLU(FunctionalReLU):
    """A perceptron with one ReLU module, called at three places."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(inputs, width)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.layer1(x))
        x = self.act(self.layer2(x))
        x = self.act(self.layer3(x))
        out: Tensor = self.head(x)
        return out


class Residual(nn.Module):
    """A stem and a residual block as torchvision writes them: one ReLU module within the block and behind its sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem, self.norm = _convolution(3, width), nn.BatchNorm2d(width)
        self.conv1, self.bn1 = _convolution(width, width), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _convolution(width, width), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.head = _convolution(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        h += x
        out: Tensor = self.head(self.relu(h))
        return out


@dataclass(frozen=True)
class Case:
    """A network, its inputs, and the units that are dead at each of its activations."""

    name: str
    model: nn.Module
    batches: list[Tensor]
    places: list[Place]
    planted: list[frozenset[int]]
    units: int
    positions: list[int]


class Inputs(TorchFunctionMode):
    """Every input of an activation, in the order of the calls, as the function itself gets it.

    ``change`` may replace an input by another one, on the way.
    """

    def __init__(self, change: Callable[[int, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.change = change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in ACTIVATIONS:
            x = args[0].detach().clone() if self.change is None else self.change(len(self.seen), args[0])
            self.seen.append(x)
            args = (x if self.change else args[0], *args[1:])
        return func(*args, **(kwargs or {}))


def _by_unit(x: Tensor, axis: int) -> Tensor:
    return x.movedim(axis, 0).flatten(1)


def plant(name: str, model: nn.Module, batches: Sequence[Tensor], places: Sequence[Place], axis: int) -> Case:
    """Shift the biases so that exactly the planted units are dead on these inputs, and check that they are."""
    model.eval()
    generator = torch.Generator().manual_seed(1)
    planted: list[frozenset[int]] = []

    def shift(number: int, x: Tensor) -> Tensor:
        if number >= len(places):  # refused below
            return x
        values = _by_unit(x, axis)
        units = len(values)
        dead = torch.randperm(units, generator=generator)[: round(SHARES[number] * units)]
        low, high = ALIVE
        share = low + (high - low) * torch.rand(units, generator=generator)
        ordered = values.sort(dim=1).values
        rank = ((1 - share) * (values.shape[1] - 1)).long()
        change = -ordered.gather(1, rank[:, None]).squeeze(1)
        change[dead] = CEILING - ordered[dead, -1]
        planted.append(frozenset(dead.tolist()))
        model.get_parameter(f"{places[number].bias}.bias").add_(change)
        return x + change.reshape([-1] + [1] * (x.ndim - 1 - axis % x.ndim))

    with torch.no_grad(), Inputs(shift) as first:
        model(torch.cat(list(batches)))
    with torch.no_grad(), Inputs() as inputs:
        for batch in batches:
            model(batch)
    calls = len(places)
    if len(first.seen) != calls:
        raise RuntimeError(f"{name}: {len(first.seen)} activations were called, and {calls} places are named")
    for number in range(calls):
        x = torch.cat(inputs.seen[number::calls])
        silent = frozenset((_by_unit(x, axis) <= 0).all(dim=1).nonzero().flatten().tolist())
        if silent != planted[number]:
            raise RuntimeError(
                f"{name}: at {places[number]}, units {sorted(silent ^ planted[number])} are not as planted"
            )
    shapes = [x.shape for x in inputs.seen[:calls]]
    positions = [shape.numel() // shape[0] // shape[axis] for shape in shapes]
    return Case(name, model, list(batches), list(places), planted, shapes[0][axis], positions)


def cases(width: int, batch: int, batches: int, size: int) -> list[Case]:
    """Every network with its planted units: perceptrons of a width, and convolutions on square images of a size."""
    torch.manual_seed(0)
    features = [torch.randn(batch, width) for _ in range(batches)]
    tokens = [torch.randn(max(1, batch // 8), 8, width) for _ in range(batches)]
    images = [torch.randn(max(1, batch // 8), 3, size, size) for _ in range(batches)]
    channels = max(10, width // 8)

    def places(activations: Sequence[str], weights: Sequence[str], biases: Sequence[str]) -> list[Place]:
        calls = [activations[: number + 1].count(each) for number, each in enumerate(activations)]
        return [Place(*each) for each in zip(activations, calls, weights, biases, strict=True)]

    numbered, layers, norms = (tuple(f"{kind}{number}" for number in (1, 2, 3)) for kind in ("act", "layer", "norm"))
    relu = ("relu()",) * 3
    leaky = functools.partial(nn.LeakyReLU, 0.01)
    linear, size_ = nn.Linear, (width, width)
    networks: list[tuple[str, nn.Module, list[Tensor], list[Place], int]] = [
        ("ReLU modules", _sequential(nn.ReLU, linear, *size_), features, places(numbered, layers, layers), 1),
        ("Leaky ReLU modules", _sequential(leaky, linear, *size_), features, places(numbered, layers, layers), 1),
        ("`F.relu`", FunctionalReLU(*size_), features, places(relu, layers, layers), 1),
        ("`F.relu`, untraceable", Guarded(*size_), features, places(relu, layers, layers), 1),
        (
            "`F.leaky_relu`",
            FunctionalLeakyReLU(*size_),
            features,
            places(("leaky_relu()",) * 3, layers, layers),
            1,
        ),
        ("one ReLU, three places", SharedReLU(*size_), features, places(("act",) * 3, layers, layers), 1),
        (
            "behind batch norm",
            _sequential(nn.ReLU, linear, *size_, nn.BatchNorm1d),
            features,
            places(numbered, layers, norms),
            1,
        ),
        ("(batch, token, feature)", _sequential(nn.ReLU, linear, *size_), tokens, places(numbered, layers, layers), 2),
        (
            "convolutions, batch norm",
            _sequential(nn.ReLU, _convolution, 3, channels, nn.BatchNorm2d),
            images,
            places(numbered, layers, norms),
            1,
        ),
        (
            "residual block, one ReLU",
            Residual(channels),
            images,
            places(("relu",) * 3, ("stem", "conv1", "conv2"), ("norm", "bn1", "bn2")),
            1,
        ),
        ("GELU modules", _sequential(nn.GELU, linear, *size_), features, places(numbered, layers, layers), 1),
    ]
    return [plant(*network) for network in networks]
