"""The forward methods that call a ReLU as a function, as `torch.fx` sees them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized

from leakyrelu._text import first_line
from leakyrelu.torch.graph.relu_functions import relu_call
from leakyrelu.torch.graph.tracing import trace
from leakyrelu.torch.rewrite.function_calls import obstacle

if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = ["Callers"]


_MODES = (True, False)  # training, evaluation: what is called may depend on it


@dataclass
class Callers:
    """The calls of ReLU in each forward method, and reasons why some cannot be redirected.

    Attributes
    ----------
    model
        The model whose forward methods are traced.
    calls
        How often a module makes which call, in training or in evaluation mode, whichever has more.
    left
        (name, reason) for forward methods that stay as they are.
    opaque
        Modules other than PyTorch's own whose forward methods `torch.fx` cannot trace.
    """

    model: nn.Module
    calls: dict[nn.Module, Counter[str]] = field(default_factory=dict)
    left: list[tuple[str, str]] = field(default_factory=list)
    opaque: list[nn.Module] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names: dict[nn.Module, str] = {}
        for name, module in self.model.named_modules():
            self.names[module] = name
        self._seen: set[nn.Module] = set()
        self._behind_boundary: dict[nn.Module, str] = {}
        for module in list(self.names):
            self._trace(module)
        for module in list(self.calls):
            if (reason := self._unfit(module)) is not None:
                words = ", ".join(self.calls.pop(module))
                self.left.append((self.names[module], f"its forward method calls {words}: this stays, {reason}"))

    def _trace(self, module: nn.Module) -> None:
        """Note the calls within a module, unless a trace of a module around it showed them."""
        if module in self._seen or _is_known(module) or isinstance(module, torch.jit.ScriptModule):
            return
        self._seen.add(module)
        try:
            graphs = [trace(module, _is_known, training) for training in _MODES]
        except Exception as error:  # user code may raise anything under symbolic tracing
            if not _is_pytorchs(module) and type(module).forward is not nn.Module.forward:
                said = first_line(error, 80)
                reason = f"torch.fx cannot trace its forward method, in which a call of a ReLU stays one: {said}"
                self.left.append((self.names[module], reason))
                self.opaque.append(module)
            return
        for graph in graphs:
            self._note(module, graph.nodes)

    def _note(self, root: nn.Module, nodes: Iterable[fx.Node]) -> None:
        counts: dict[nn.Module, Counter[str]] = {}
        for node in nodes:
            if node.op == "call_module" and next(root.get_submodule(str(node.target)).children(), None) is not None:
                continue  # a layer of PyTorch's own, which is one call to torch.fx
            inside = node.meta.get("nn_module_stack") or {}
            self._seen.update(root.get_submodule(path) for path, _ in inside.values())
            if (what := relu_call(node)) is None:
                continue
            owner = root.get_submodule(node.meta["caller"][0])
            if not _is_pytorchs(owner) or is_parametrized(owner):
                counts.setdefault(owner, Counter())[what] += 1
                if (reason := _BOUNDARIES.get(node.meta["boundary"])) is not None:
                    self._behind_boundary[owner] = reason
        for owner, count in counts.items():
            self.calls[owner] = self.calls.get(owner, Counter()) | count

    def _unfit(self, module: nn.Module) -> str | None:
        """Return why a module cannot be redirected, or None."""
        if isinstance(module, fx.GraphModule):
            return "it is a graph of torch.fx; call replace_relu before it is traced"
        if is_parametrized(module):
            return "it is parametrized; call replace_relu before that"
        if "forward" in vars(module):
            return "the method is set on the module itself, not on its class"
        if (reason := self._behind_boundary.get(module)) is not None:
            return reason
        reason = obstacle(module)
        return None if reason is None else f"Python cannot exchange its class ({reason})"


_BOUNDARIES = {
    "torch.utils.checkpoint": "torch.utils.checkpoint calls it again in the backward pass, outside of the method; give "
    "it a module instead of a function",
    "torch.autograd.Function": "it is part of a torch.autograd.Function, which has a backward of its own",
}


def _is_known(module: nn.Module) -> bool:
    """Whether a module is of this package, or a ReLU as a module, which is swapped or reported as one."""
    return type(module).__module__.startswith("leakyrelu.") or isinstance(module, nn.ReLU | nn.ReLU6)


def _is_pytorchs(module: nn.Module) -> bool:
    """Whether a module is a layer of PyTorch's own, whose calls of ReLU are reported or exchanged by its kind."""
    return type(module).__module__.startswith("torch.nn.")
