"""Adapter for TorchScript programs: in front of each rectifier of the graph, a module is called with its input.

The calls of the program are inlined, so that every call of a rectifier is a node of its own, which holds the name of
the module that it came from; an operator of this package in front of it passes its input on. TorchScript's interpreter
runs the rest as before, branches and loops included.
"""

from __future__ import annotations

import itertools
import re
import warnings
import weakref
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from leakyrelu.torch._compat import DisableTorchFunction, TorchDispatchMode, script_function
from leakyrelu.torch.diagnosis.call_mode import recordings_of
from leakyrelu.torch.diagnosis.exported_program import put_probe, source_of
from leakyrelu.torch.diagnosis.rectifiers import KINDS, READERS, InputProbe, Rectifier
from leakyrelu.torch.graph.call_sites import row_name
from leakyrelu.torch.graph.layout_rules import rule_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from leakyrelu.torch.graph.recording import Recording

__all__ = ["rectifiers_as_modules"]


_probes: weakref.WeakValueDictionary[int, nn.Module] = weakref.WeakValueDictionary()
_numbers = itertools.count()
_operator: torch.library.Library | None = None


def rectifiers_as_modules(program: torch.jit.ScriptModule) -> tuple[nn.Module, dict[str, int]]:
    """Make a module of a TorchScript program that can be watched.

    It runs the program, in TorchScript's interpreter, with the same numbers. Its modules are the rectifiers, under the
    names that they had in the model: ``body.act`` for a module, ``body.relu()`` for a call, ``body.relu(), call 2``
    for a second one. A frozen program no longer holds where its calls came from; there they are ``relu()``,
    ``relu(), call 2``, and so on.

    The program itself is not changed; ``train()`` and ``eval()`` of the module reach it. Parameters and returned values
    are those of `leakyrelu.torch.diagnosis.exported_program.rectifiers_as_modules`, for what `torch.jit.script` or
    `torch.jit.trace` gave; of a file, what `leakyrelu.torch.diagnosis.script_file.load` gave: `torch.jit.load` does not
    look at what a hostile file would do.

    Warns
    -----
    UserWarning
        A rectifier's slope or threshold is computed by the program, so it cannot be counted.
    """
    graph: Any = program.inlined_graph
    found: list[tuple[str, Any, Rectifier]] = []
    computed: list[str] = []
    taken: dict[str, int] = {}
    for node in _nodes(graph):
        reader = READERS.get(node.kind().removeprefix("aten::").removesuffix("_"))
        if reader is None or not node.kind().startswith("aten::"):
            continue
        name, kind = _name(node)
        try:
            rectifier = reader((None, *[_value(value, program) for value in list(node.inputs())[1:]]), {})
        except _ComputedError:
            computed.append(name)
            continue
        if rectifier is None:
            continue
        taken[name] = taken.get(name, 0) + 1
        name = row_name(name, taken[name] - 1)
        found.append((name, node, rectifier._replace(kind=kind or rectifier.kind)))
    if computed:
        warnings.warn(
            f"not counted, since the program computes its slope or threshold: {', '.join(computed)}", stacklevel=2
        )
    module = _Program(program, graph)
    for name, node, rectifier in found:
        number, probe = next(_numbers), InputProbe(rectifier, _source(node))
        put_probe(module, name, probe)
        _probes[number] = probe
        graph.setInsertPoint(node)
        shown = graph.create("leakyrelu_scripted::show", [next(node.inputs()), graph.insertConstant(number)], 1)
        shown.insertBefore(node)
        node.replaceInput(0, shown.output())
    return module, {}


class _Program(nn.Module):
    """A TorchScript program, its rectifiers as modules."""

    _program: Any
    _inlined: Any
    _weights: dict[str, Any]
    _constants: dict[str, Any]

    def __init__(self, program: torch.jit.ScriptModule, graph: Any) -> None:
        super().__init__()
        self.__dict__["_program"] = program  # not a submodule: what is scripted cannot be watched
        self.__dict__["_inlined"] = graph
        # Kept, so that they are the same objects when the program computes with them.
        self.__dict__["_weights"] = {**dict(program.named_parameters()), **dict(program.named_buffers())}
        self.__dict__["_constants"] = _constants(graph)
        self.train(getattr(program, "training", False))

    @cached_property
    def _function(self) -> Callable[..., Any]:
        _define_operator()
        return script_function(self._program, self._inlined)

    def train(self, mode: bool = True) -> _Program:
        super().train(mode)
        self._program.train(mode)
        return self

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Any]]:
        """Yield the weights of the program, constants of its graph included."""
        yield from self._weights.items()
        yield from self._constants.items()

    def forward(self, *inputs: Any, **named: Any) -> Any:
        # A function of a graph knows neither the names of its arguments nor their defaults.
        arguments = self._program.forward.schema.arguments[1 + len(inputs) :]
        inputs += tuple(
            named.pop(argument.name) if argument.name in named else argument.default_value for argument in arguments
        )
        if named:
            raise TypeError(f"the program takes no input {next(iter(named))!r}")
        # Nothing is fused then, and there are no slow first runs.
        recordings = recordings_of(self)
        operators = nullcontext() if recordings is None else _Operators(recordings)
        with torch.jit.optimized_execution(False), operators:  # type: ignore[attr-defined]
            return self._function(*inputs)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Mode that records the operators that a program calls, while an observer records."""

    def __init__(self, recordings: Callable[[], Iterable[Recording]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recordings = recordings

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with DisableTorchFunction():  # nor does another mode see an operator as a call of the model's code
            result = func(*args, **(kwargs or {}))
            if name := rule_name(func):
                for recording in self.recordings():
                    recording.add(func, name, "", args, kwargs or {}, result)
        return result


class _ComputedError(Exception):
    """A value that is not known before the program runs."""


def _define_operator() -> None:
    """Define the operator that calls a module with its input; one without an output would be removed as unused."""
    global _operator
    if _operator is None:
        library: Any = torch.library.Library("leakyrelu_scripted", "DEF")  # type: ignore[no-untyped-call]
        library.define("show(Tensor(a) x, int number) -> Tensor(a)")
        library.impl("show", _show, "CompositeImplicitAutograd")
        _operator = library


def _show(x: Tensor, number: int) -> Tensor:
    _probes[number](x)
    return x


def _source(node: Any) -> str:
    """Return file and line of a call; empty where the file that says so is damaged, which is read only now."""
    try:
        return source_of(node.sourceRange())
    except Exception:  # of any kind, out of memory too: a size in it may be any number
        return ""


def _constants(graph: Any) -> dict[str, Any]:
    """Return the tensors that a frozen program holds in its graph, named by the operator that takes them first."""
    found: dict[str, Any] = {}
    seen: set[str] = set()
    numbers: dict[str, int] = {}
    for node in _nodes(graph):
        kind = node.kind().rpartition(":")[2]
        constants = [value for value in node.inputs() if _is_constant_tensor(value) and value.debugName() not in seen]
        numbers[kind] = numbers.get(kind, 0) + bool(constants)
        for place, value in enumerate(constants):
            seen.add(value.debugName())
            found[f"{kind} {numbers[kind]}.{place}"] = value.node().t("value")
    return found


def _is_constant_tensor(value: Any) -> bool:
    node = value.node()
    return bool(node.kind() == "prim::Constant" and node.hasAttribute("value") and node.kindOf("value") == "t")


def _nodes(block: Any) -> Any:
    """Yield all nodes, except those in branches that are never taken."""
    for node in list(block.nodes()):
        yield node
        blocks = list(node.blocks())
        if node.kind() == "prim::If" and (condition := next(node.inputs()).node()).kind() == "prim::Constant":
            blocks = blocks[:1] if condition.output().toIValue() else blocks[1:]
        for inner in blocks:
            yield from _nodes(inner)


def _name(node: Any) -> tuple[str, str | None]:
    """Name a call by the module that it came from: "body.act", and its kind, or "body.relu()"."""
    parts = [part for part in re.findall(r"(\w+)\((\w+)\)", node.getModuleHierarchy()) if part[0] not in _UNKNOWN]
    path = ".".join(name for name, _ in parts)
    if parts and parts[-1][1] in KINDS:
        return path, parts[-1][1]
    function = node.kind().removeprefix("aten::").removesuffix("_")
    return f"{path}.{function}()" if path else f"{function}()", None


_UNKNOWN = ("SELF", "UNKNOWN_INSTANCE", "INSTANCE_NAME_UNKNOWN")


def _value(value: Any, program: torch.jit.ScriptModule) -> Any:
    """Read a constant, or what an attribute of the program holds; of tensors that are computed, nothing."""
    node = value.node()
    if node.kind() == "prim::Constant":
        return value.toIValue()
    if node.kind() == "prim::GetAttr":
        return getattr(_value(next(node.inputs()), program), node.s("name"))
    if node.kind() == "prim::Param" and value.type().kind() == "ClassType":
        return program
    raise _ComputedError
