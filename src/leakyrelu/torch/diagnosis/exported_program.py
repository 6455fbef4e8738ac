"""Adapter for programs of `torch.export`: their rectifiers, which are operators there, become modules again."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx, nn

from leakyrelu.diagnosis.unit_axis import Producer, find_unit_axis, producer_from_tables
from leakyrelu.torch.diagnosis.rectifiers import READERS
from leakyrelu.torch.diagnosis.unit_axes import OPERATOR_AXES, PASSING_OPERATORS

__all__ = ["rectifiers_as_modules"]


def rectifiers_as_modules(program: torch.export.ExportedProgram) -> tuple[nn.Module, dict[str, int]]:
    """Make a module of an exported program in which every rectifier is a module, and find the axes of the units.

    ``relu``, ``leaky_relu``, ``prelu``, ``relu6`` (or ``hardtanh`` from 0) and ``clamp`` from 0 become `nn.ReLU`,
    `nn.LeakyReLU`, `nn.PReLU` and `nn.ReLU6`, named as their nodes are. The numbers that come out are the same.

    Parameters
    ----------
    program
        What `torch.export.export` or ``torch.export.load`` gave.

    Returns
    -------
    module
        The program as a module.
    unit_axis
        For `leakyrelu.torch.diagnose`: the axis of the units of every rectifier.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import diagnose
    >>> program = torch.export.export(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), (torch.randn(5, 3),))
    >>> model, unit_axis = rectifiers_as_modules(program)
    >>> diagnose(model, torch.randn(5, 3), unit_axis=unit_axis).units
    4
    """
    module: Any = program.module()
    graph: fx.Graph = module.graph
    unit_axis = {}
    for node in list(graph.nodes):
        rectifier = _rectifier(node, module)
        if rectifier is None:
            continue
        name = f"rectifier_{node.name}" if hasattr(module, node.name) else node.name
        unit_axis[name] = _unit_axis(node.args[0])
        module.add_submodule(name, rectifier)
        with graph.inserting_before(node):
            call = graph.call_module(name, (node.args[0],))
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        graph.erase_node(node)
    return fx.GraphModule(module, graph), unit_axis  # a plain one: that of the program refuses eval()


def _rectifier(node: Any, module: Any) -> nn.Module | None:
    name = _operator(node).removesuffix("_") if node.op == "call_function" else ""
    if name not in READERS or name in ("rrelu", "threshold"):
        return None
    args = node.args
    if name == "prelu" and getattr(args[1], "op", "") == "get_attr":
        args = args[0], module.get_parameter(args[1].target)
    rectifier = READERS[name](args, node.kwargs)
    if rectifier is None:
        return None
    if isinstance(slopes := rectifier.slope, torch.Tensor):
        prelu = nn.PReLU(slopes.numel(), dtype=slopes.dtype)
        prelu.weight.data.copy_(slopes)
        return prelu
    if name == "leaky_relu":
        return nn.LeakyReLU(slopes)
    return nn.ReLU() if rectifier.ceiling == math.inf else nn.ReLU6() if rectifier.ceiling == 6 else None


def _producer(node: Any) -> Producer | None:
    if not isinstance(node, fx.Node):
        return None
    if node.op == "call_module":  # a rectifier that has become a module
        return Producer(inputs=node.args)
    return producer_from_tables(_operator(node), node.args, OPERATOR_AXES, PASSING_OPERATORS)


def _unit_axis(node: Any) -> int:
    """Find the axis of the units of a node; where the graph leaves it open, the first behind that of the samples."""
    axis = find_unit_axis(node, _producer)
    if axis is not None:
        return axis
    shape = getattr(node.meta.get("val"), "shape", (0, 0)) if isinstance(node, fx.Node) else (0, 0)
    return 1 if len(shape) > 1 else 0


def _operator(node: fx.Node) -> str:
    return str(getattr(node.target, "overloadpacket", node.target)).removeprefix("aten.")
