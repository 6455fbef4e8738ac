"""Tables of the axis that holds the units, in the output of layers, functions and operators."""

from __future__ import annotations

from torch import nn

from leakyrelu.diagnosis.unit_axis import CHANNELS, FEATURES

OPERATOR_AXES: dict[str, int] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution", "_convolution"), CHANNELS),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), CHANNELS),
    **dict.fromkeys(("batch_norm", "instance_norm", "group_norm"), CHANNELS),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "flatten"), CHANNELS),
    **dict.fromkeys(("linear", "matmul", "mm", "addmm", "bmm", "layer_norm", "rms_norm"), FEATURES),
}
"""Operators of ATen that put the units on an axis, in the graph of a program."""
PASSING_OPERATORS = frozenset(
    {"add", "add_", "sub", "mul", "div", "dropout", "clone", "sigmoid", "tanh"}
    | {"relu", "relu_", "leaky_relu", "leaky_relu_", "prelu", "clamp", "clamp_min"}
)
"""Operators of ATen that leave each number where it is."""

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
