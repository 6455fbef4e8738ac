"""Neighbors of a module: which module is called after which, as symbolic tracing shows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from leakyrelu._text import counted, first_line
from leakyrelu.torch._compat import count_hooks
from leakyrelu.torch.graph.functions import VIEWS, name_of, overwrites
from leakyrelu.torch.graph.tracing import trace

if TYPE_CHECKING:
    from collections.abc import Callable


# Layers whose output may be the memory of their input.
_VIEWING = (nn.Identity, nn.Flatten, nn.Unflatten)
UNKNOWN = "something else"
"""What comes before a module where that is no module."""

# Activations that, or whose pairs, keep their output.
_KEEPING = (nn.LeakyReLU, nn.PReLU)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def hooks_obstacle(module: nn.Module) -> str | None:
    """Return why a module with hooks has to stay as it is, or None if it has none."""
    count = count_hooks(module)
    return f"it carries {counted(count, 'hook')}, which would see other values" if count else None


@dataclass
class Neighbors:
    """The neighbors of the modules of a model: one entry a call, which is a module or a reason why there is none.

    Attributes
    ----------
    as_module
        Returns the module as which a call of a function counts, or None where it counts as none.
    after, before
        What each module's output goes into, and what its input comes from.
    overwritten
        Activations whose output a later call changes in place, and the name of that call.
    seen
        Modules whose calls are noted.
    """

    as_module: Callable[[fx.Node, dict[str, nn.Module]], nn.Module | None] | None = None
    after: dict[nn.Module, list[nn.Module | str]] = field(default_factory=dict)
    before: dict[nn.Module, list[nn.Module | str]] = field(default_factory=dict)
    overwritten: dict[nn.Module, str] = field(default_factory=dict)
    seen: set[nn.Module] = field(default_factory=set)

    def visit(self, module: nn.Module) -> None:
        """Note the calls within a module, as a whole if it can be traced, else child by child."""
        if module in self.seen or _has_no_children(module):
            return
        self.seen.add(module)
        try:
            graphs = [trace(module, _is_leaf, training) for training in (True, False)]
        except Exception as error:  # user code may raise anything under symbolic tracing
            self._by_structure(module, error)
            return
        inside = dict(module.named_modules(remove_duplicate=False))
        calls = [
            (node, called, training)
            for graph, training in zip(graphs, (True, False), strict=True)
            for node in graph.nodes
            if (called := self._called(node, inside)) is not None
        ]
        # Hooks on a container see its input and output: it is one call here, and its own calls are noted separately.
        hooked = {called for _, called, _ in calls if not _has_no_children(called) and hooks_obstacle(called)}
        self.seen.update(inside.values())
        self.seen.difference_update(each for container in hooked for each in container.modules())
        for node, called, training in calls:
            self._note(node, called, inside)
            if isinstance(called, _KEEPING) and (by := _overwriter(node, inside, training)) is not None:
                self.overwritten[called] = by
        for container in hooked:
            self.visit(container)

    def _called(self, node: Any, inside: dict[str, nn.Module]) -> nn.Module | None:
        if isinstance(node, fx.Node) and node.op == "call_module":
            return inside[str(node.target)]
        if self.as_module is None or not isinstance(node, fx.Node):
            return None
        return self.as_module(node, inside)

    def _note(self, node: fx.Node, module: nn.Module, inside: dict[str, nn.Module]) -> None:
        users = list(node.users)
        successor: nn.Module | str | None = f"its output is used {len(users)} times"
        if len(users) == 1:
            successor = self._called(users[0], inside)
        if successor is None:
            successor = (
                "its output leaves the part of the model that could be traced, or is the model's own"
                if users[0].op == "output"
                else f"a call of {name_of(users[0].target)} comes after it, not a module{_remedy(users[0])}"
            )
        self.after.setdefault(module, []).append(successor)
        source = self._called(node.args[0], inside) if node.args else None
        self.before.setdefault(module, []).append(source or UNKNOWN)

    def _by_structure(self, module: nn.Module, error: Exception) -> None:
        chain: list[Any] = list(module) if type(module) is nn.Sequential else []
        if chain and chain[0] is not None:
            self.before.setdefault(chain[0], []).append(UNKNOWN)
        for child, following in itertools.pairwise([*chain, "its output leaves an nn.Sequential"]):
            if child is not None and following is not None:
                self.after.setdefault(child, []).append(following)
                if isinstance(following, nn.Module):
                    self.before.setdefault(following, []).append(child)
            if isinstance(child, _KEEPING) and getattr(following, "inplace", False) is True:
                self.overwritten[child] = type(following).__name__
        reason = f"the forward method of {type(module).__name__} cannot be traced: {first_line(error, 80)}"
        for each in module.children():
            if not chain and _has_no_children(each):
                self.after.setdefault(each, []).append(reason)
                self.before.setdefault(each, []).append(reason)
            self.visit(each)


def _remedy(call: fx.Node) -> str:
    leaky = name_of(call.target) in ("leaky_relu", "leaky_relu_")
    return "; make it a leakyrelu.torch.LeakyReLU, which can be joined with it" if leaky else ""


def _has_no_children(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _is_leaf(module: nn.Module) -> bool:
    return _has_no_children(module) or hooks_obstacle(module) is not None


def _overwriter(node: fx.Node, inside: dict[str, nn.Module], training: bool) -> str | None:
    """Name the call that changes the result of this one in place, or a view of it."""
    results = [node]
    for result in results:
        for user in result.users:
            if user.op == "call_module":
                module = inside[str(user.target)]
                if getattr(module, "inplace", False) is True:
                    return type(module).__name__
                views = isinstance(module, _VIEWING) or (isinstance(module, _DROPOUTS) and not training)
            else:
                if overwrites(user, result):
                    return name_of(user.target)
                views = name_of(user.target) in VIEWS
            if views and user not in results:
                results.append(user)
    return None
