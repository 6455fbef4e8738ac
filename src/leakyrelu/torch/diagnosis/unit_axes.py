"""Which axis of the output of a layer, function or operator holds the units."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["CHANNELS", "FEATURES", "FEEDING_FUNCTIONS", "FEEDING_MODULES", "PASSING", "QUIET_MODULES"]


_aten = torch.ops.aten
PASSING = (
    *(
        _aten.add,
        _aten.sub,
        _aten.mul,
        _aten.div,
        _aten.dropout,
        _aten.relu,
        _aten.leaky_relu,
        _aten.prelu,
        _aten.clone,
    ),
    *(_aten.relu_, _aten.leaky_relu_, _aten.clamp_min, _aten.clamp, _aten.sigmoid, _aten.tanh, _aten.clone, _aten.add_),
)
CHANNELS = (
    *(_aten.conv1d, _aten.conv2d, _aten.conv3d, _aten.convolution, _aten.batch_norm, _aten.instance_norm),
    *(_aten.conv_transpose1d, _aten.conv_transpose2d, _aten.conv_transpose3d, _aten.group_norm),
    *(_aten.max_pool1d, _aten.max_pool2d, _aten.avg_pool2d, _aten.adaptive_avg_pool2d, _aten.flatten),
)
FEATURES = (_aten.linear, _aten.matmul, _aten.mm, _aten.addmm, _aten.bmm, _aten.layer_norm, _aten.rms_norm)

_LAST = ("linear", "bilinear", "layer_norm", "rms_norm", "embedding", "matmul", "mm", "bmm", "addmm", "__matmul__")
_SECOND = ("batch_norm", "group_norm", "instance_norm")
_CONVOLUTIONS = {f"conv{kind}{d}d": -d - 1 for kind in ("", "_transpose") for d in (1, 2, 3)}


def _feeding() -> dict[Any, int]:
    axes = {**dict.fromkeys(_LAST, -1), **dict.fromkeys(_SECOND, 1), **_CONVOLUTIONS}
    found = {}
    for name, axis in axes.items():
        for room in (torch, torch.Tensor, F):
            function = getattr(room, name, None)
            if function is not None:
                found[function] = axis
        packet = getattr(torch.ops.aten, name, None)
        if packet is not None and hasattr(packet, "default"):
            found[packet.default] = axis
    for name, axis in _CONVOLUTIONS.items():
        if name.startswith("conv_transpose"):  # their only overload has a name
            for overload in getattr(torch.ops.aten, name).overloads():
                found[getattr(getattr(torch.ops.aten, name), overload)] = axis
    return found


FEEDING_FUNCTIONS = _feeding()
"""Functions whose output can feed an activation, and where it holds the units."""

# Where the units stand in the output of the layers that can feed an activation, counted from the end where a sample may
# come without its batch axis.
FEEDING_MODULES: tuple[tuple[tuple[type[nn.Module], ...], int], ...] = (
    ((nn.Conv1d, nn.ConvTranspose1d, nn.InstanceNorm1d), -2),
    ((nn.Conv2d, nn.ConvTranspose2d, nn.InstanceNorm2d, nn.BatchNorm2d), -3),
    ((nn.Conv3d, nn.ConvTranspose3d, nn.InstanceNorm3d, nn.BatchNorm3d), -4),
    ((nn.BatchNorm1d, nn.SyncBatchNorm, nn.GroupNorm), 1),
    ((nn.Linear, nn.Bilinear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.RNNBase, nn.MultiheadAttention), -1),
)

_QUIET = (
    *("Sequential", "ModuleList", "ModuleDict", "Identity", "Flatten", "Unflatten", "Softmax", "LogSoftmax"),
    *("Sigmoid", "Tanh", "GELU", "SiLU", "ELU", "SELU", "Softplus", "Hardswish", "Hardsigmoid", "Mish"),
    *("Linear", "Bilinear", "Embedding", "LayerNorm", "RMSNorm", "GroupNorm", "RNN", "LSTM", "GRU"),
    *("Dropout", "AlphaDropout", "Upsample", "PixelShuffle", "PixelUnshuffle", "ZeroPad2d"),
    *(f"{kind}{d}d" for d in (1, 2, 3) for kind in ("Conv", "ConvTranspose", "BatchNorm", "InstanceNorm", "Dropout")),
    *(f"{kind}Pool{d}d" for d in (1, 2, 3) for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg")),
)
QUIET_MODULES: frozenset[type[nn.Module]] = frozenset(getattr(nn, name) for name in _QUIET)
"""Layers that neither rectify nor call anything that does; of these types exactly, for a subclass may."""
