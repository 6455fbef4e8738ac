"""Initialization of the weights of a network with the exact gain of its slope."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn.utils import parametrize

from leakyrelu._text import counted, shown
from leakyrelu.slope.network import Linear, Network
from leakyrelu.torch._checks import require_module
from leakyrelu.torch.slope.recorder import record
from leakyrelu.torch.slope.translation import translate

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Initialization", "initialize"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


@dataclass(frozen=True)
class Initialization:
    """Result of `initialize`; its repr is a short report.

    Attributes
    ----------
    gains
        The gain of each layer whose weights were drawn, by its name.
    left
        (name, reason) for parameters that were left as they are.

    Examples
    --------
    >>> from leakyrelu.torch import Initialization
    >>> Initialization({"0": 1.0, "2": 1.25}, (("1.weight", "not a linear layer or convolution"),))
    2 layers initialized, 1 left
      gain 1.0000  0
      gain 1.2500  2
      left  1.weight: not a linear layer or convolution
    """

    gains: Mapping[str, float]
    left: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        lines = [f"{counted(len(self.gains), 'layer')} initialized, {len(self.left)} left"]
        by_gain: dict[float, list[str]] = {}
        for name, gain in self.gains.items():
            by_gain.setdefault(gain, []).append(name)
        for gain, names in by_gain.items():
            others = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"  gain {gain:.4f}  {', '.join(names[:3])}{others}")
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.left:
            by_reason.setdefault(reason, []).append(name)
        for reason, names in by_reason.items():
            others = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"  left  {', '.join(names[:3])}{others}: {reason}")
        return "\n".join(lines)


def initialize(
    model: nn.Module,
    negative_slope: float,
    *inputs: Any,
    weights: Literal["orthogonal", "normal"] = "orthogonal",
) -> Initialization:
    """Draw the weights of a network, in place, so that its activations keep the size of the signal at this slope.

    ``W = gain * U`` with orthogonal rows or columns, or ``W ~ N(0, gain**2 / fan_in)``; biases 0. Behind a Leaky ReLU
    the gain is ``sqrt(2 / (1 + negative_slope**2))``, elsewhere 1 (He et al., ICCV 2015; Saxe, McClelland and Ganguli,
    ICLR 2014). The last layer of a residual branch without normalization has ``1 / sqrt(n)`` of it, n being the number
    of such branches (`leakyrelu.slope.network.scale_branches`). It is what `choose_slope` supposes.

    Parameters
    ----------
    model
        Any module. Its `nn.Linear`, `nn.Conv1d` to `3d` and their transposed ones are drawn, from PyTorch's generator.
    negative_slope
        Slope of its Leaky ReLUs; `replace_relu` puts them there.
    *inputs
        Arguments of the model. With them one forward pass shows which layers are behind an activation, and which end a
        residual branch. Without them each layer but the first is taken to be behind one, and branches are not scaled.
    weights
        "orthogonal" or "normal".

    Returns
    -------
    Initialization
        The gain of each layer, and what was left: normalizations, embeddings, weights that are computed or shared.

    Raises
    ------
    TypeError
        If `model` is not a module, or the slope is not a number.
    ValueError
        If the slope is not finite, or `weights` is neither of the two.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import LeakyReLU, initialize
    >>> model = nn.Sequential(nn.Linear(8, 64), LeakyReLU(0.3), nn.Linear(64, 64), LeakyReLU(0.3), nn.Linear(64, 2))
    >>> initialize(model, 0.3, torch.randn(4, 8))
    3 layers initialized, 0 left
      gain 1.0000  0
      gain 1.3546  2, 4
    """
    require_module(model)
    if isinstance(negative_slope, bool) or not isinstance(negative_slope, int | float):
        raise TypeError(
            f"negative_slope must be a number, not {type(negative_slope).__name__}: {shown(negative_slope)}"
        )
    if not math.isfinite(negative_slope):
        raise ValueError(f"negative_slope = {negative_slope!r} is not finite; give the slope of the Leaky ReLUs")
    if weights not in ("orthogonal", "normal"):
        raise ValueError(f"weights = {shown(weights)} is not known; give 'orthogonal' or 'normal'")
    scales = _scales(model, inputs, negative_slope) if inputs else None
    usual = math.sqrt(2.0 / (1.0 + negative_slope**2))
    gains: dict[str, float] = {}
    left: list[tuple[str, str]] = []
    done: set[int] = set()
    for name, module in model.named_modules():
        own = [key for key, _ in module.named_parameters(recurse=False)]
        reason = _obstacle(module, name, scales)
        if reason is not None:
            left += [(f"{name}.{key}" if name else key, reason) for key in own]
            continue
        if not own or id(module.weight) in done:
            continue
        gain = (1.0 if not gains else usual) if scales is None else scales[f"{name}.weight" if name else "weight"]
        _draw(module, gain, weights)
        done.add(id(module.weight))
        gains[name or "(model)"] = gain
    return Initialization(gains, tuple(left))


def _obstacle(module: nn.Module, name: str, scales: dict[str, float] | None) -> str | None:
    if not isinstance(module, _LAYERS):
        return "not a linear layer or convolution"
    if parametrize.is_parametrized(module) or not isinstance(module.weight, nn.Parameter):
        return "its weight is computed of others"
    if isinstance(module.weight, nn.parameter.UninitializedParameter):
        return "its shape is not known before the first call"
    if scales is not None and (f"{name}.weight" if name else "weight") not in scales:
        return "it is not called as a layer on these inputs, or computes its weight"
    return None


def _scales(model: nn.Module, inputs: tuple[Any, ...], slope: float) -> dict[str, float]:
    """Return the gain of each layer by the name of its weight."""
    translation = translate(record(model, inputs, None), exact_gain=True)
    states = Network(translation.nodes).states(slope)
    found: dict[str, float] = {}
    for number, weight in translation.weights.items():
        node = translation.nodes[number]
        assert isinstance(node, Linear)
        if node.gain2 is None:
            found.setdefault(weight, math.sqrt(node.exact_gain2(states[node.inputs[0]])))
    return found


def _draw(module: nn.Module, gain: float, weights: str) -> None:
    weight, bias = module.weight, module.bias
    assert isinstance(weight, nn.Parameter)
    groups = getattr(module, "groups", 1)
    with torch.no_grad():
        # Each group is a layer of its own; a transposed convolution has its inputs first.
        for part in weight.chunk(groups):
            rows = part.transpose(0, 1) if isinstance(module, _TRANSPOSED) else part
            fan_in = math.prod(rows.shape[1:])
            if isinstance(module, _TRANSPOSED):
                fan_in = rows.shape[1] * max(math.prod(rows.shape[2:]) // math.prod(_stride(module)), 1)
            if weights == "normal":
                rows.normal_(0.0, gain / math.sqrt(fan_in))
            else:
                drawn = torch.empty(rows.shape[0], math.prod(rows.shape[1:]), dtype=rows.dtype, device=rows.device)
                torch.nn.init.orthogonal_(drawn)
                # Of the mean square that the gain asks for, also where there are more rows than columns.
                scale = gain / math.sqrt(fan_in) / drawn.square().mean().sqrt()
                rows.copy_((drawn * scale).view(rows.shape))
        if isinstance(bias, nn.Parameter):
            bias.zero_()


def _stride(module: nn.Module) -> tuple[int, ...]:
    stride = module.stride
    assert isinstance(stride, tuple)
    return stride
