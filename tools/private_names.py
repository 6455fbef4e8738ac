"""Find private names of PyTorch outside the one file that may use them: python tools/private_names.py [FILE ...].

Private are names with an underscore that PyTorch's modules and objects have, read from the installed version: of
`torch` and what is in it (`torch._C`, ``from torch.utils import _pytree``), and attributes of its modules, tensors,
functions, graphs and modes (``x._modules``, also as a string or as a method that overrides one). Attributes that no
object of PyTorch has are our own. So is every attribute of our package. Frames of Python are looked for with them.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Iterator

ALLOWED = "src/leakyrelu/torch/_compat.py"


def main(names: list[str]) -> int:
    """Print what is found in the files, or in all of src/; return 1 if there is anything."""
    files = [Path(name) for name in names] or sorted(Path("src").rglob("*.py"))
    found = [
        f"{file}:{line}: {what} is private to {owner}: use a public name, or put it into {ALLOWED}"
        for file in files
        if file.as_posix() != ALLOWED
        for line, what, owner in private_names(ast.parse(file.read_text(encoding="utf-8")))
    ]
    print("\n".join(found) or "no private name of PyTorch")
    return 1 if found else 0


def private_names(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Yield line, name and owner of the private names in the source of a module."""
    of_torch = dict(_torch_aliases(tree))
    documentation = set(_docstrings(tree))
    methods = {node for each in ast.walk(tree) if isinstance(each, ast.ClassDef) for node in each.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            path = _path(node, of_torch)
            names = [path] if path else []
            if not path and node.attr in _ATTRIBUTES:
                yield node.lineno, f".{node.attr}", "PyTorch"
        else:
            names = []
            if isinstance(node, ast.Constant) and node.value in _ATTRIBUTES and node not in documentation:
                yield node.lineno, f"{node.value!r}", "PyTorch"
            elif node in methods and isinstance(node, ast.FunctionDef) and node.name in _ATTRIBUTES:
                yield node.lineno, f"def {node.name}", "PyTorch"
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith("libgomp"):
                yield node.lineno, f"{node.value!r}", "PyTorch's builds"
        for name in names:
            parts = name.split(".")
            if parts[0] == "torch" and any(_is_private(part) for part in parts):
                yield node.lineno, name, "PyTorch"
            elif name in _FRAMES:
                yield node.lineno, name, "Python"


_FRAMES = {"sys._getframe", "sys._current_frames", "inspect.currentframe", "inspect.stack", "traceback.walk_stack"}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _attributes() -> frozenset[str]:
    graph_module = fx.symbolic_trace(nn.Identity())
    objects: list[object] = [
        *(nn.Linear(1, 1), torch.zeros(1), torch.zeros(1).untyped_storage(), torch.Size(), torch.device("cpu")),
        *(torch.autograd.Function, torch.autograd.function.FunctionCtx, torch.autograd.function.BackwardCFunction),
        *(graph_module, graph_module.graph, next(iter(graph_module.graph.nodes)), fx.Tracer(), fx.Proxy),
        *(TorchFunctionMode, TorchDispatchMode, torch.optim.Optimizer, torch.optim.SGD([torch.zeros(1)])),
        *(torch.jit.ScriptModule, torch.jit.RecursiveScriptModule, torch.ops.aten.relu, torch.ops.aten.relu.default),
        torch.library.Library,
    ]
    return frozenset(name for thing in objects for name in dir(thing) if _is_private(name)) | {"_c"}


_ATTRIBUTES = _attributes()


def _torch_aliases(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield each name that an import binds, and the whole name of what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _path(node: ast.expr, aliases: dict[str, str]) -> str | None:
    """Return the whole name of an attribute of something imported from elsewhere."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id)
    if not isinstance(node, ast.Attribute) or (inner := _path(node.value, aliases)) is None:
        return None
    # What the attributes of an imported class or function are, its name does not say.
    return f"{inner}.{node.attr}"


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
