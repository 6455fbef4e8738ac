"""Adapter for programs of `torch.export`: their rectifiers, which are operators there, become modules again."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from leakyrelu.torch.diagnosis.rectifiers import KINDS, READERS, InputProbe, Rectifier
from leakyrelu.torch.graph.call_sites import row_name
from leakyrelu.torch.graph.layout_rules import rule_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["put_probe", "rectifiers_as_modules", "source_of"]


def rectifiers_as_modules(program: torch.export.ExportedProgram) -> tuple[nn.Module, dict[str, int]]:
    """Make a module of an exported program in which every rectifier is a module that can be watched.

    They go by the names that they had in the model: ``body.act`` for a module, ``body.relu()`` for a function, and
    ``body.act, call 2`` for another call. The numbers that come out are the same.

    Parameters
    ----------
    program
        What `torch.export.export` gave; of a file, what `leakyrelu.torch.diagnosis.export_file.load` gave:
        ``torch.export.load`` runs what a hostile file holds.

    Returns
    -------
    module
        The program as a module.
    unit_axis
        For `leakyrelu.torch.diagnose`, which finds the units itself as the program runs: empty.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import diagnose
    >>> program = torch.export.export(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), (torch.randn(5, 3),))
    >>> model, _ = rectifiers_as_modules(program)
    >>> report = diagnose(model, torch.randn(5, 3))
    >>> report.layers[0].name, report.units
    ('1', 4)
    """
    module: Any = program.module()
    graph: fx.Graph = module.graph
    taken: dict[str, int] = {}
    for node in list(graph.nodes):
        rectifier = _rectifier(node, module)
        if rectifier is None:
            continue
        name, kind = _name(node, rectifier)
        taken[name] = taken.get(name, 0) + 1
        name = row_name(name, taken[name] - 1)
        put_probe(module, name, _Operator(rectifier._replace(kind=kind), node.target, _source(node)))
        with graph.inserting_before(node):
            call = graph.call_module(name, node.args, node.kwargs)
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        graph.erase_node(node)
    return fx.GraphModule(module, graph), {}  # a plain one: that of the program refuses eval()


def put_probe(module: nn.Module, name: str, probe: InputProbe) -> None:
    """Add a module under a dotted name, inside modules of the names before the dots, in the place of what is there."""
    path, dot, last = name.rpartition(".")
    for part in path.split(".") if dot else ():
        if part not in dict(module.named_children()):
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    before = dict(module.named_children()).get(last)
    if before is not None:  # the slopes of a PReLU lie within the module that called it
        for own, parameter in before.named_parameters(recurse=False):
            probe.register_parameter(own, parameter)
        for own, buffer in before.named_buffers(recurse=False):
            probe.register_buffer(own, buffer)
        for own, child in before.named_children():
            probe.add_module(own, child)
    module.add_module(last, probe)


def source_of(stack: str) -> str:
    """Return file and line of the innermost call of a stack, in text, that is not PyTorch's own: "resnet.py:92"."""
    lines = re.findall(r'File "([^"\n]+)", line (\d+)', stack)
    own = [f"{os.path.basename(file)}:{line}" for file, line in lines if not _OF_PYTORCH.search(file)]
    return own[-1] if own else ""


class _Operator(InputProbe):
    """Module that calls an operator that rectifies."""

    def __init__(self, rectifier: Rectifier, operator: Callable[..., Tensor], source: str) -> None:
        super().__init__(rectifier, source)
        self.operator = operator

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        """Return what the operator does."""
        return self.operator(x, *args, **kwargs)


def _rectifier(node: fx.Node, module: Any) -> Rectifier | None:
    reader = READERS.get(rule_name(node.target)) if node.op == "call_function" else None
    if reader is None or not node.args:
        return None
    args = tuple(_value(argument, module) for argument in node.args)
    return reader(args, {name: _value(argument, module) for name, argument in node.kwargs.items()})


def _value(argument: Any, module: Any) -> Any:
    """Return a parameter or buffer of the program; of a tensor that is computed, what stands for it."""
    if isinstance(argument, fx.Node) and argument.op == "get_attr":
        for get in (module.get_parameter, module.get_buffer):
            try:
                return get(argument.target)
            except AttributeError:
                continue
    return argument


def _name(node: fx.Node, rectifier: Rectifier) -> tuple[str, str]:
    """Name a call by the module that made it, where the program has kept it: "body.act", and its kind."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = (kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]
    path = re.sub(r"\[['\"]?(\w+)['\"]?\]", r".\1", str(path)).removeprefix("L['self'].").strip(".")
    if path and kind in KINDS:
        return path, kind
    return f"{path}.{rectifier.kind}()" if path else f"{rectifier.kind}()", rectifier.kind


def _source(node: fx.Node) -> str:
    """Return file and line of a call, as far as they are not PyTorch's own: "resnet.py:92"."""
    return source_of(str(node.meta.get("stack_trace") or ""))


_OF_PYTORCH = re.compile(r"[\\/]torch[\\/](nn|_|fx|jit|export)")
