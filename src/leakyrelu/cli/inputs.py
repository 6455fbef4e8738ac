"""What a command reads: its files, found before any work, so that no output replaces one, and random inputs."""

from __future__ import annotations

import importlib.machinery
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakyrelu.cli.datasets import image_paths
from leakyrelu.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    Input = tuple[Path, str]  # a file, and what it is in the words of a message


def files_of_target(target: str) -> Iterator[Input]:
    """Yield the file of a model with its external data, or those of MODULE in MODULE:FACTORY, without importing it."""
    path = Path(target)
    if path.is_file():
        yield path, "the model itself"
        if path.suffix.lower() == ".onnx":
            yield from ((external, f"external data of {path}") for external in _external_data(path))
        return
    module, colon, _ = target.partition(":")
    if colon:
        yield from ((Path(file), f"the code of {module}") for file in _module_files(module))


def files_of_option(option: str, path: Path | None) -> Iterator[Input]:
    """Yield the file given to an option, or the images of the folder."""
    if path is None:
        return
    if path.is_dir():
        yield from ((image, f"an image of the folder given to {option}") for image in image_paths(path))
    else:
        yield path, f"the file given to {option}"


def _module_files(name: str) -> Iterator[str]:
    """Yield the files of a module and of the packages around it."""
    places: list[str] | None = [os.getcwd(), *sys.path]
    parts = name.split(".")
    for i in range(len(parts)):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: i + 1]), places)
        if spec is None:
            return
        if spec.has_location and spec.origin is not None:
            yield spec.origin
        places = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
        if places is None:
            return


def _external_data(path: Path) -> Iterator[Path]:
    try:
        import onnx

        model = onnx.load(path, load_external_data=False)
    except Exception:  # the reader of the model says what is wrong with it
        return
    graphs: list[Any] = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        tensors = [*getattr(graph, "initializer", ())]
        for sparse in getattr(graph, "sparse_initializer", ()):
            tensors += sparse.values, sparse.indices
        for node in graph.node:
            for attribute in node.attribute:
                tensors += attribute.t, *attribute.tensors
                graphs += attribute.g, *attribute.graphs
        for tensor in tensors:
            yield from (path.parent / entry.value for entry in tensor.external_data if entry.key == "location")


def random_input(model: nn.Module, shape: str) -> Tensor:
    """Return random numbers of the shape in a text, in the dtype and on the device of the model's parameters."""
    import torch

    sizes = shape_of(shape)
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.randn(sizes, dtype=weight.dtype, device=weight.device)


def shape_of(text: str) -> tuple[int, ...]:
    """Read a shape such as 16x3x224x224."""
    try:
        shape = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise CommandError(
            f"--input {text!r} is no shape; write sizes of at least 1 with x between, such as 16x3x224x224"
        )
    return shape
