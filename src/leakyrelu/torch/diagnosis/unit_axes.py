"""Tables of the axis that holds the units, in the output of layers."""

from __future__ import annotations

from torch import nn

# The axis of the units in the output of layers, counted from the end where a sample may come without its batch axis.
PRODUCER_MODULES: tuple[tuple[tuple[type[nn.Module], ...], int], ...] = (
    ((nn.Conv1d, nn.ConvTranspose1d, nn.InstanceNorm1d), -2),
    ((nn.Conv2d, nn.ConvTranspose2d, nn.InstanceNorm2d, nn.BatchNorm2d), -3),
    ((nn.Conv3d, nn.ConvTranspose3d, nn.InstanceNorm3d, nn.BatchNorm3d), -4),
    ((nn.BatchNorm1d, nn.SyncBatchNorm, nn.GroupNorm), 1),
    ((nn.Linear, nn.Bilinear, nn.LayerNorm, nn.RMSNorm, nn.Embedding), -1),
)
RECURRENT = (nn.RNNBase, nn.MultiheadAttention)
"""Layers whose output has its units last, subclasses too."""

_PLAIN = (
    *("Sequential", "ModuleList", "ModuleDict", "Identity", "Flatten", "Unflatten", "Softmax", "LogSoftmax"),
    *("Sigmoid", "Tanh", "GELU", "SiLU", "ELU", "SELU", "Softplus", "Hardswish", "Hardsigmoid", "Mish"),
    *("Linear", "Bilinear", "Embedding", "LayerNorm", "RMSNorm", "GroupNorm", "RNN", "LSTM", "GRU"),
    *("Dropout", "AlphaDropout", "Upsample", "PixelShuffle", "PixelUnshuffle", "ZeroPad2d"),
    *(f"{kind}{d}d" for d in (1, 2, 3) for kind in ("Conv", "ConvTranspose", "BatchNorm", "InstanceNorm", "Dropout")),
    *(f"{kind}Pool{d}d" for d in (1, 2, 3) for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg")),
)
PLAIN_MODULES: frozenset[type[nn.Module]] = frozenset(getattr(nn, name) for name in _PLAIN)
"""Layers that neither rectify nor call anything that does; of these types exactly, for a subclass may."""
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Those that only call others."""
