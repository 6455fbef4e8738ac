"""Remedies as code that can be pasted: imports, the names of the reader's own layers, and the slope by formula."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import numpy as np

from leakyrelu._text import counted, printable
from leakyrelu.slope import centered, tailored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leakyrelu.diagnosis.layer import Layer

WIDTH: Final = 76
"""Columns of a line of code: both a terminal of 80 and `str` of a finding indent it by four."""
FROZEN: Final = (
    "The file holds a frozen program, in which nothing can be trained: this is for the code that trains the network, "
    "which is exported again afterwards."
)
"""What is said ahead of a remedy that a frozen program cannot follow."""

_LEAKY = "Maas, Hannun, Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models, 2013"
TAILORED: Final = "Zhang, Botev, Martens, Deep Learning without Shortcuts, ICLR 2022, arXiv:2203.08120"
_TAILORED_FROM = 13  # the least depth at which a ReLU network makes unrelated inputs 0.9 alike
_PATH = re.compile(r"[^\s()+,]+")  # of a module; calls of functions, sums and later calls are written otherwise
_COMMAND = 72  # columns of a command, beyond which each of its options has a line
_LITERAL = 46  # columns of a name in a line of code, beyond which it is written over several

ANOMALY: Final = """\
import torch

# before the training: an error at the operation that gives the first NaN
torch.autograd.set_detect_anomaly(True)
# between loss.backward() and optimizer.step(): gradients of norm 1 at most
torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)"""
SHORTER_STEPS: Final = """\
# optimizer: the one that trains the model
for group in optimizer.param_groups:
    group["lr"] /= 3"""
_LATER = """\
from leakyrelu.torch import diagnose

# some epochs later, on the data of this report
report = diagnose(model, data)
print(report[{name}].{attribute})"""
_REVIVE = """\
from leakyrelu.torch import replace_relu, revive

# model: the network; report: this report of it, diagnose(model, data);
# optimizer: the one that trains it, or None
print(revive(model, report, optimizer))
replace_relu(model, {slope})"""
_CENTERED = """\
from leakyrelu.slope import centered
from leakyrelu.torch import CenteredLeakyReLU

# in place of each activation, for a network that is trained from scratch
activation = CenteredLeakyReLU(centered({depth}))"""
_ZERO_BIAS = """\
import torch

# what feeds the activation
layer = model.get_submodule({feeds})
# report: this report, report = diagnose(model, data)
units = report[{name}].silent_units
if getattr(layer, "bias", None) is not None:
    with torch.no_grad():
        layer.bias[units] = 0.0"""
_INITIALIZE = """\
from torch import nn

# what feeds the activation; it starts again
layer = model.get_submodule({feeds})
if getattr(layer, "bias", None) is not None:
    nn.init.zeros_(layer.bias)
# a normalization has one weight a channel, which is no matrix
if getattr(layer, "weight", None) is not None and layer.weight.dim() > 1:
    nn.init.kaiming_normal_(layer.weight, a={slope:.4g})"""
_ONNX = """\
from leakyrelu.onnx import diagnose

# path, data: the file and the data of this report
report = diagnose(path, data{unit_axis})"""
_MODEL = """\
from leakyrelu.torch import diagnose

# model, data: those of this report
report = diagnose(model, data{unit_axis})"""
_PROGRAM = """\
from leakyrelu.torch import diagnose
from leakyrelu.torch.diagnosis.{reader} import load
from leakyrelu.torch.diagnosis.{module} import rectifiers_as_modules

# path, data: the file and the data of this report
# load refuses a file that could do harm; {unguarded} does not look
model, unit_axis = rectifiers_as_modules(load(path))
report = diagnose(model, data, unit_axis=unit_axis{unit_axis})"""

_PROGRAMS: Final = {
    "torchscript": ("script_file", "torchscript", "torch.jit.load"),
    "exported": ("export_file", "exported_program", "torch.export.load"),
}


def slope_for(depth: int) -> tuple[float, str, str]:
    """Return the slope for a network of this many rectifiers, why that one, and its source."""
    if depth >= _TAILORED_FROM:
        slope = round(float(tailored(depth)), 4)
        return (
            slope,
            f"slope {slope}: at depth {depth} it holds the similarity of unrelated inputs at 0.9 "
            f"(leakyrelu.slope.tailored({depth}))",
            TAILORED,
        )
    return (
        0.01,
        f"slope 0.01: {counted(depth, 'layer')} {'keeps' if depth == 1 else 'keep'} unrelated inputs apart at any "
        "slope, so the usual one is enough to let gradients through",
        _LEAKY,
    )


def revive_and_replace(depth: int) -> str:
    """Reinitialize silent units, and give the network of this many rectifiers a slope."""
    if depth < _TAILORED_FROM:
        return _REVIVE.format(slope=slope_for(depth)[0])
    return f"from leakyrelu.slope import tailored\n{_REVIVE.format(slope=f'tailored({depth})')}"


def center(depth: int) -> str:
    """Put centered activations into a network of this many rectifiers."""
    return _CENTERED.format(depth=depth)


def centered_slope(depth: int) -> float:
    """Return the slope that `center` computes."""
    return round(float(centered(depth)), 4)


def look_again(layer: Layer, attribute: str) -> str:
    """Take the report again and print an attribute of the layer."""
    return _LATER.format(name=literal(layer.name), attribute=attribute)


def zero_bias(layer: Layer) -> str:
    """Set the biases of the silent units to 0; empty where it is not known what feeds them."""
    feeds = _feeds(layer)
    return feeds and _ZERO_BIAS.format(feeds=feeds, name=literal(layer.name))


def initialize(layer: Layer) -> str:
    """Initialize what feeds a layer; empty where that is not known."""
    feeds = _feeds(layer)
    return feeds and _INITIALIZE.format(feeds=feeds, slope=float(np.mean(layer.negative_slope)))


def count_again(source: str, unit_axis: Mapping[str, int] | None = None) -> str:
    """Take the report again, with the axis of the units of some layers given by the reader."""
    entries = [f"{literal(name)}: {axis}" for name, axis in (unit_axis or {}).items()]
    axes = f"{{{', '.join(entries)}}}"
    if "\n" in axes or len(axes) > _LITERAL - 10:
        axes = "".join(["{\n", *(f"    {entry},\n" for entry in entries), "}"])
    if source in _PROGRAMS:
        reader, module, unguarded = _PROGRAMS[source]
        more = f" | {axes}" if entries else ""
        return _PROGRAM.format(reader=reader, module=module, unguarded=unguarded, unit_axis=more)
    return (_MODEL if source == "model" else _ONNX).format(unit_axis=f", unit_axis={axes}" if entries else "")


def command_line(command: Sequence[str], options: Sequence[tuple[str, str]]) -> str:
    """Return the command that took a report, with more options, as it is typed."""
    arguments = [*command, *(part for option in options for part in option)]
    words = [shlex.quote(printable(argument)) for argument in arguments]
    if len(whole := " ".join(words)) <= _COMMAND:
        return whole
    return "".join(f" \\\n  {word}" if word.startswith("--") else f" {word}" for word in words).strip()


def literal(name: str) -> str:
    r"""Return a name as it is written in Python, over several lines in parentheses where it is long.

    Examples
    --------
    >>> print(literal("layer1.0.bn2"), literal("two\nlines"))
    'layer1.0.bn2' 'two\nlines'
    >>> print(literal("encoder.layers.11." + "deep." * 12 + "act"))
    (
        'encoder.layers.11.deep.deep.deep.deep.deep.d'
        'eep.deep.deep.deep.deep.deep.deep.act'
    )
    """
    if len(repr(name)) <= _LITERAL:
        return repr(name)
    parts, start = [], 0
    for end in range(1, len(name) + 1):
        if end == len(name) or len(repr(name[start : end + 1])) > _LITERAL:
            parts.append(f"\n    {name[start:end]!r}")
            start = end
    return f"({''.join(parts)}\n)"


def _feeds(layer: Layer) -> str:
    """Return the path of the module that feeds a layer, as a literal; empty where no single one is known to."""
    return literal(layer.place.after) if _PATH.fullmatch(layer.place.after) else ""
