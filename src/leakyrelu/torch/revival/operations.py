"""Operations in a graph of `torch.fx`, classified by what they do to the units of a layer."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from leakyrelu.torch.activations.layers import CenteredLeakyReLU
from leakyrelu.torch.diagnosis.rectifiers import FUNCTIONS, READERS
from leakyrelu.torch.revival.reinitialize import TRANSPOSED

RECTIFIERS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, CenteredLeakyReLU)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PRODUCERS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity)
_WINDOWS = (  # zeros become zeros; nothing simple is known of other constants
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
_AVERAGES = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)  # a constant stays itself
_MODULES = ((BATCH_NORMS, "norm"), (DROPOUTS, "same"), (_AVERAGES, "average"), (_WINDOWS, "window"))
_FUNCTIONS: dict[Any, str] = {
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d), "same"),
    **dict.fromkeys((F.avg_pool1d, F.avg_pool2d, F.avg_pool3d), "window"),
    **dict.fromkeys((F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d), "average"),
    **dict.fromkeys((F.max_pool1d, F.max_pool2d, F.max_pool3d), "window"),
    **dict.fromkeys((F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d), "window"),
    **dict.fromkeys((torch.flatten, torch.reshape), "flatten"),
    torch.mean: "mean",
}
_METHODS = {"mean": "mean", "flatten": "flatten", "view": "flatten", "reshape": "flatten", "contiguous": "same"}
_SHAPE_METHODS = ("size", "dim", "numel")


def operation_kind(node: torch.fx.Node, module: nn.Module | None) -> str:
    """Return what an operation does to units, or "" where that is not known.

    "norm" normalizes each; "same" leaves them; "average" takes the mean of each over its positions, "mean" too, and
    drops the positions; "window" pools within windows; "flatten" joins the positions of a unit into inputs of a linear
    layer, and "rows" may do so: a size in numbers does not show whether a row is a sample.
    """
    if isinstance(module, nn.Flatten):
        return "flatten" if (module.start_dim, module.end_dim) == (1, -1) else ""
    if module is not None:
        return next((kind for kinds, kind in _MODULES if isinstance(module, kinds)), "")
    if node.op == "call_function":
        kind = _FUNCTIONS.get(node.target, "")
    else:
        kind = _METHODS.get(str(node.target), "") if node.op == "call_method" else ""
    if kind == "mean":
        axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        over = tuple(axes) if isinstance(axes, tuple | list) else (axes,)
        plain = "keepdim" not in node.kwargs and len(node.args) < 3
        return kind if plain and over in ((2, 3), (-2, -1), (-1, -2), (2,), (-1,), (2, 3, 4)) else ""
    if kind != "flatten":
        return kind
    # x.flatten(1), torch.flatten(x, 1), x.view(batch, -1), x.reshape((batch, -1))
    rest = list(node.args[1:])
    if len(rest) == 1 and isinstance(rest[0], tuple | list):
        rest = list(rest[0])
    if node.target in ("view", "reshape", torch.reshape):
        if len(rest) != 2 or not isinstance(rest[1], int):
            return ""
        # A size in numbers, as in view(-1, 320), may part samples or join them.
        return kind if _is_batch_size(rest[0]) else "rows" if isinstance(rest[0], int) else ""
    start = rest[0] if rest else node.kwargs.get("start_dim", 0)
    return kind if start == 1 and len(rest) < 2 and "end_dim" not in node.kwargs else ""


def called_rectifier(node: torch.fx.Node) -> str | None:
    """Return the kind of the rectifier that this operation is, where it is a call of a function."""
    if node.op == "call_function":
        reader = FUNCTIONS.get(node.target)
    else:
        reader = READERS.get(str(node.target).removesuffix("_")) if node.op == "call_method" else None
    try:
        rectifier = reader(node.args, node.kwargs) if reader is not None else None
    except TypeError:  # its slope is computed by the model
        return None
    return rectifier.kind if rectifier is not None else None


def first_input(node: torch.fx.Node) -> torch.fx.Node | None:
    """Return the operation whose result is the first argument."""
    first: Any = node.args[0] if node.args else next(iter(node.kwargs.values()), None)
    return first if isinstance(first, torch.fx.Node) else None


def reads_shape(node: torch.fx.Node) -> bool:
    """Whether this reads the shape of a tensor, and no numbers."""
    return (node.op == "call_method" and node.target in _SHAPE_METHODS) or (
        node.op == "call_function" and node.target is getattr and node.args[1] in ("shape", "ndim")
    )


def _is_batch_size(value: object) -> bool:
    """Whether this is ``x.size(0)``, ``x.size()[0]`` or ``x.shape[0]``."""
    if not isinstance(value, torch.fx.Node):
        return False
    if value.op == "call_method" and value.target == "size":
        return [*value.args[1:], *value.kwargs.values()] == [0]
    of = value.args[0] if value.target is operator.getitem else None
    return isinstance(of, torch.fx.Node) and reads_shape(of) and value.args[1:] == (0,)


def operation_name(node: torch.fx.Node) -> str:
    """Return the name of an operation for a message."""
    if node.op == "call_module":
        return str(node.target)
    if node.op == "placeholder":
        return "the network's input"
    if node.target in (operator.add, operator.iadd, torch.add):
        return "an addition"
    return getattr(node.target, "__name__", str(node.target)) + "()"
