"""Readers of ONNX files: a file that is damaged or hostile gives one ValueError."""

from __future__ import annotations

import importlib
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from leakyrelu._extras import require
from leakyrelu._text import first_line, shown
from leakyrelu.onnx.graph import branches

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LARGEST_FILE = 2**31  # bytes of a message of protobuf; larger models have their weights in files beside
_MOST_NODES = 10**6  # after the functions of a model are inlined


def read_model(path: Path) -> Any:
    """Read the model of a file, its functions inlined, its external data left where they are."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    onnx = require("onnx", by="leakyrelu.onnx")
    try:
        if path.stat().st_size >= _LARGEST_FILE:
            raise ValueError("it has more than 2 GB, the limit of the format without external data")
        model = onnx.load(path, load_external_data=False)
        if not model.graph.node:
            raise ValueError("it has no nodes")
        _check_external(model.graph, onnx.TensorProto.EXTERNAL)
        if model.functions:
            _check_functions(model)
            inline = importlib.import_module("onnx.inliner").inline_local_functions
            try:
                model = inline(model, convert_version=True)
            except Exception:  # some operators cannot be converted; functions of another operator set stay then
                model = inline(model)
    except Exception as error:
        raise ValueError(f"{path} is no ONNX model: {first_line(error)}") from None
    return model


def _check_external(graph: Any, external: int) -> None:
    """Refuse external data outside the folder of the model: what lies there is no part of it."""
    for tensor in _tensors(graph):
        if tensor.data_location != external:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(location).is_absolute() or ".." in kind(location).parts or kind(location).anchor:
                raise ValueError(f"its external data {shown(location)} lie outside the folder of the file")


def _tensors(graph: Any) -> Iterator[Any]:
    for each in _graphs(graph):
        yield from each.initializer
        for sparse in each.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in each.node:
            for given in node.attribute:
                yield from (given.t, *given.tensors)


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph or a function, and all graphs within its nodes."""
    ahead = [graph]
    while ahead:
        each = ahead.pop()
        yield each
        ahead.extend(inner for node in each.node for inner in branches(node))


def _check_functions(model: Any) -> None:
    """Refuse functions that call themselves, or that would be inlined into more nodes than any memory holds."""
    functions = {(each.domain, each.name): each for each in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def called(body: Any) -> tuple[int, list[tuple[str, str]]]:
        nodes = [(node.domain, node.op_type) for each in _graphs(body) for node in each.node]
        return len(nodes), [key for key in nodes if key in functions]

    bodies = {key: called(each) for key, each in functions.items()}
    for start in functions:
        path = [start]
        entered = {start}
        while path:
            own, calls = bodies[path[-1]]
            missing = next((key for key in calls if key not in sizes), None)
            if missing is None:
                sizes[path[-1]] = own + sum(sizes[key] for key in calls)
                entered.discard(path.pop())
            elif missing in entered:
                raise ValueError(f"its function {missing[1]!r} calls itself")
            else:
                path.append(missing)
                entered.add(missing)
    own, calls = called(model.graph)
    if own + sum(sizes[key] for key in calls) > _MOST_NODES:
        raise ValueError(f"its functions stand for more than {_MOST_NODES:,} nodes")
