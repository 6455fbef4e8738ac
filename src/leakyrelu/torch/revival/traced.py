"""What a model calls, where no pass was recorded: from a trace of `torch.fx` and the shapes that the report holds."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from leakyrelu._text import type_and_first_line
from leakyrelu.torch.diagnosis.framework import PYTORCH
from leakyrelu.torch.diagnosis.rectifiers import FUNCTIONS, RECTIFIERS
from leakyrelu.torch.graph.calls import Call, Value
from leakyrelu.torch.graph.functions import is_in_place
from leakyrelu.torch.graph.layout_rules import rule_name
from leakyrelu.torch.graph.recording import Program, Recording
from leakyrelu.torch.graph.tracing import trace
from leakyrelu.torch.revival.operations import NotRevivableError, keeps_shape, leaves, pools

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leakyrelu.diagnosis.layer import Layer

_LARGEST = 4  # times the output: how much larger the input of a pooling is looked for


def traced_program(model: nn.Module, layers: Sequence[Layer]) -> Program:
    """Trace the model of a report with these layers; `NotRevivableError` where that is not possible."""
    if all(layer.axis is None for layer in layers):
        raise NotRevivableError("the report holds no shapes: diagnose the model again")
    try:
        graphs = [trace(model, lambda module: isinstance(module, RECTIFIERS), training) for training in (True, False)]
    except Exception as error:  # user code may raise anything under symbolic tracing
        raise NotRevivableError(
            f"the report holds no recording, and torch.fx cannot trace the model ({type_and_first_line(error)}): "
            "diagnose it again"
        ) from None
    modules = dict(model.named_modules(remove_duplicate=False))
    other, places = (_places(graph, modules) for graph in graphs)
    if [*other] != [*places]:
        raise NotRevivableError("the model calls other functions in training than in evaluation")
    return _Converter(model, modules, graphs[1], _matched(places, layers)).program()


def _places(graph: fx.Graph, modules: dict[str, nn.Module]) -> dict[tuple[str, Any, int], fx.Node]:
    """Return the calls of rectifiers by name, position in the source and number of the call."""
    found: dict[tuple[str, Any, int], fx.Node] = {}
    for node in graph.nodes:
        name, source = "", None
        if node.op == "call_module" and isinstance(modules[str(node.target)], RECTIFIERS):
            name = str(node.target)
        elif (kind := _called_rectifier(node)) is not None:
            inside, source = node.meta["caller"]
            name = f"{inside}.{kind}()" if inside else f"{kind}()"
        if name:
            found[name, source, sum(key[0] == name for key in found)] = node
    return found


def _called_rectifier(node: fx.Node) -> str | None:
    reader = FUNCTIONS.get(_function(node)) if node.op in ("call_function", "call_method") else None
    try:
        rectifier = reader(node.args, node.kwargs) if reader is not None else None
    except TypeError:  # its slope is computed by the model
        return None
    return rectifier.kind if rectifier is not None else None


def _function(node: fx.Node) -> Any:
    return getattr(torch.Tensor, str(node.target), None) if node.op == "call_method" else node.target


def _matched(places: dict[tuple[str, Any, int], fx.Node], layers: Sequence[Layer]) -> dict[fx.Node, Layer]:
    """Find the row of each call; a name whose calls are not as many as its rows is left out."""
    rows: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        rows[layer.name.partition(", call ")[0]].append(layer)
    nodes: dict[str, list[tuple[Any, int]]] = defaultdict(list)
    for name, source, number in places:
        nodes[name].append((source or (), number))
    found = {}
    for name, calls in nodes.items():
        if len(calls) == len(rows[name]):
            named = sorted(rows[name], key=lambda layer: int(layer.name.partition(", call ")[2] or 1))
            for (source, number), layer in zip(sorted(calls), named, strict=True):
                found[places[name, source or None, number]] = layer
    return found


class _Converter:
    """Converts a graph of `torch.fx` into the calls of a recording."""

    def __init__(
        self, model: nn.Module, modules: dict[str, nn.Module], graph: fx.Graph, rows: dict[fx.Node, Layer]
    ) -> None:
        self.model = model
        self.modules = modules
        self.dtype = next((each.dtype for each in model.parameters() if each.is_floating_point()), torch.float32)
        self.nodes = list(graph.nodes)
        self.rows = rows
        self.values: dict[fx.Node, Any] = {}  # tensors without numbers, and what is computed of their shapes
        self._seed()

    def program(self) -> Program:
        """Convert the graph."""
        recording = Recording({})
        made: dict[fx.Node, Any] = {}
        outputs: Any = None
        for node in self.nodes:
            value = self._value(node)
            if value is not None and not isinstance(value, Tensor) and not _has_tensors(value):
                made[node] = value  # a size
                continue
            if node.op == "output":
                outputs = [each for each in leaves(_replaced(node.args, made)) if isinstance(each, Call)]
            elif node.op in ("placeholder", "get_attr"):
                weight = node.op == "get_attr"
                shape = tuple(value.shape) if isinstance(value, Tensor) else ()
                made[node] = Value(str(node.target) if weight else "", shape, weight)
            else:
                self._call(node, value, recording, made)
        names = {layer.name: layer.name for layer in self.rows.values()}
        return Program({0: (recording.calls, outputs, names)}, recorded=False)

    def _call(self, node: fx.Node, value: Any, recording: Recording, made: dict[fx.Node, Any]) -> None:
        args, kwargs = _replaced(node.args, made), {key: _replaced(each, made) for key, each in node.kwargs.items()}
        axis = None
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            function: Any = type(module)
            name, caller = function.__name__, str(node.target)
            axis = PYTORCH.output_axis(module)
            in_place = getattr(module, "inplace", False) is True
        else:
            function = _function(node)
            name, caller = rule_name(function), node.meta["caller"][0]
            in_place = is_in_place(node.target, node.args, node.kwargs)
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        call = Call(function, name, caller, args, kwargs, shape)
        parts = [call]
        if isinstance(value, tuple | list):
            parts = [
                Call(function, name, caller, args, kwargs, tuple(each.shape), output)
                for output, each in enumerate(value)
            ]
        for each in parts:
            recording.record(each, axis if shape else None)
        made[node] = call if len(parts) == 1 and parts[0] is call else tuple(parts)
        if node in self.rows:
            call.key = self.rows[node].name
        elif _called_rectifier(node) is not None or (
            node.op == "call_module" and isinstance(self.modules[str(node.target)], RECTIFIERS)
        ):
            call.key = node
        first = node.args[0] if node.args else None
        if in_place and isinstance(first, fx.Node):
            made[first] = made[node]  # what it holds by then

    # Shapes

    def _seed(self) -> None:
        for node, layer in self.rows.items():
            if layer.axis is not None:
                self.values[node] = torch.empty(layer.axis.shape, device="meta", dtype=self.dtype)
        for node in reversed(self.nodes):
            shape = getattr(self.values.get(node), "shape", None)
            before = node.args[0] if node.args else None
            if shape is None or not isinstance(before, fx.Node) or before in self.values:
                continue
            name = self._row_name(node)
            if node in self.rows or keeps_shape(name):
                self.values[before] = torch.empty(shape, device="meta", dtype=self.dtype)
            elif pools(name):
                self._seed_pooled(node, before, tuple(shape))

    def _seed_pooled(self, node: fx.Node, before: fx.Node, shape: tuple[int, ...]) -> None:
        """Find an input that is pooled to this shape."""
        for size in range(max(shape[2:], default=1), _LARGEST * max(shape[2:], default=1) + _LARGEST):
            sizes = (*shape[:2], *(size for _ in shape[2:]))
            self.values[before] = torch.empty(sizes, device="meta", dtype=self.dtype)
            result = self._run(node)
            if isinstance(result, Tensor) and result.shape == shape:
                return
        del self.values[before]

    def _row_name(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return type(self.modules[str(node.target)]).__name__
        return rule_name(_function(node)) if node.op in ("call_function", "call_method") else ""

    def _value(self, node: fx.Node) -> Any:
        if node not in self.values and (value := self._run(node)) is not None:
            self.values[node] = value
        return self.values.get(node)

    def _run(self, node: fx.Node) -> Any:
        """Compute the shape of a result; None where it is not known."""
        if node.op == "get_attr":
            value: Any = self.model
            for name in str(node.target).split("."):
                value = getattr(value, name)
            return torch.empty(value.shape, device="meta") if isinstance(value, Tensor) else value
        if node.op in ("placeholder", "output") or any(each not in self.values for each in node.all_input_nodes):
            return None
        args, kwargs = _replaced(node.args, self.values), _replaced(node.kwargs, self.values)
        try:
            if node.op != "call_module":
                return _function(node)(*args, **kwargs)
            module = self.modules[str(node.target)]
            state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
            return torch.func.functional_call(module, empty, args, kwargs)
        except Exception:  # the shapes of a report may be those of another model
            return None


def _has_tensors(value: Any) -> bool:
    return any(isinstance(each, Tensor) for each in leaves(value))


def _replaced(argument: Any, values: dict[fx.Node, Any]) -> Any:
    """Put values in place of nodes, and tuples in place of lists."""
    if isinstance(argument, fx.Node):
        return values.get(argument)
    if isinstance(argument, tuple | list):
        return tuple([_replaced(each, values) for each in argument])
    if isinstance(argument, dict):
        return {key: _replaced(each, values) for key, each in argument.items()}
    if isinstance(argument, slice):
        return slice(*(_replaced(each, values) for each in (argument.start, argument.stop, argument.step)))
    return argument
