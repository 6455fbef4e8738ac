"""Neighbors of a module: which module is called after which, as symbolic tracing shows.

What hands its input on, in the same shape or another (an identity, a dropout of probability 0, a reshape), is passed
over: neither a neighbor nor an obstacle.
"""

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
_RESHAPES = frozenset(
    ("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "swapaxes", "movedim")
) | {"contiguous"}
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
        Activations whose output a later call changes in place, and what feeds them, with the name of that call.
    seen
        Modules whose calls are noted.
    guessed
        Modules within one that could not be traced, which may call them in another way than their own container does.
    is_layer
        Whether a module that has others inside is one call.
    activates
        Whether a layer has an activation inside, so that it keeps its output.
    """

    as_module: Callable[[fx.Node, dict[str, nn.Module]], nn.Module | None] | None = None
    is_layer: Callable[[nn.Module], bool] = lambda module: False
    activates: Callable[[nn.Module], bool] = lambda module: False
    after: dict[nn.Module, list[nn.Module | str]] = field(default_factory=dict)
    before: dict[nn.Module, list[nn.Module | str]] = field(default_factory=dict)
    overwritten: dict[nn.Module, str] = field(default_factory=dict)
    seen: set[nn.Module] = field(default_factory=set)
    guessed: set[nn.Module] = field(default_factory=set)

    def visit(self, module: nn.Module, is_guess: bool = False) -> None:
        """Note the calls within a module, as a whole if it can be traced, else child by child."""
        if module in self.seen or _has_no_children(module) or self.is_layer(module):
            return
        self.seen.add(module)
        try:
            graphs = [trace(module, self._is_leaf, training) for training in (True, False)]
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
        hooked = {
            called
            for _, called, _ in calls
            if not (_has_no_children(called) or self.is_layer(called)) and hooks_obstacle(called)
        }
        self.seen.update(inside.values())
        if is_guess:
            self.guessed.update(inside.values())
        self.seen.difference_update(each for container in hooked for each in container.modules())
        for node, called, training in calls:
            self._note(node, called, inside)
            keeps = isinstance(called, _KEEPING) or self.activates(called)
            if keeps and (by := _overwriter(node, inside, training)) is not None:
                self.overwritten[called] = by
                source = self._called(_source(node, inside), inside)
                if source is not None:
                    self.overwritten[source] = by
        for container in hooked:
            self.visit(container, is_guess)

    def _called(self, node: Any, inside: dict[str, nn.Module]) -> nn.Module | None:
        if isinstance(node, fx.Node) and node.op == "call_module":
            return inside[str(node.target)]
        if self.as_module is None or not isinstance(node, fx.Node):
            return None
        return self.as_module(node, inside)

    def _is_leaf(self, module: nn.Module) -> bool:
        return _has_no_children(module) or self.is_layer(module) or hooks_obstacle(module) is not None

    def _note(self, node: fx.Node, module: nn.Module, inside: dict[str, nn.Module]) -> None:
        last = node
        while len(last.users) == 1 and _hands_on(user := next(iter(last.users)), inside):
            last = user
        users = list(last.users)
        successor: nn.Module | str | None = f"its output is used {len(users)} times"
        if len(users) == 1:
            successor = self._called(users[0], inside)
        if successor is None:
            successor = (
                "its output leaves the part of the model that could be traced, or is the model's own"
                if users[0].op == "output"
                else f"a call of {name_of(users[0].target)} comes after it, not a module"
            )
        self.after.setdefault(module, []).append(successor)
        self.before.setdefault(module, []).append(self._called(_source(node, inside), inside) or UNKNOWN)

    def _by_structure(self, module: nn.Module, error: Exception) -> None:
        chain: list[Any] = list(module) if type(module) is nn.Sequential else []
        if chain and chain[0] is not None:
            self.before.setdefault(chain[0], []).append(UNKNOWN)
        self.guessed.update(module.modules())
        producers: list[nn.Module] = []
        for child, following in itertools.pairwise([*chain, "its output leaves an nn.Sequential"]):
            if child is not None and following is not None:
                self.after.setdefault(child, []).append(following)
                if isinstance(following, nn.Module):
                    self.before.setdefault(following, []).append(child)
            if isinstance(child, _KEEPING) and getattr(following, "inplace", False) is True:
                self.overwritten |= dict.fromkeys((child, *producers), type(following).__name__)
            producers = [child] if child is not None else []
        reason = f"the forward method of {type(module).__name__} cannot be traced: {first_line(error, 80)}"
        for each in module.children():
            if not chain and _has_no_children(each):
                self.after.setdefault(each, []).append(reason)
                self.before.setdefault(each, []).append(reason)
            self.visit(each, is_guess=True)


def _has_no_children(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _hands_on(node: fx.Node, inside: dict[str, nn.Module]) -> bool:
    """Whether a call gives out the numbers that it is given, in any shape."""
    if node.op == "call_module":
        module: Any = inside[str(node.target)]
        if hooks_obstacle(module) is not None:
            return False
        if isinstance(module, _DROPOUTS):
            return bool(module.p == 0)
        return isinstance(module, _VIEWING)
    if node.op not in ("call_function", "call_method"):
        return False
    name = name_of(node.target)
    if name.startswith("dropout"):
        rate: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
        return bool(rate == 0)
    return name in _RESHAPES


def _source(node: fx.Node, inside: dict[str, nn.Module]) -> Any:
    """Return what made the first argument of a call, before it was handed on."""
    source = node.args[0] if node.args else None
    while isinstance(source, fx.Node) and _hands_on(source, inside):
        source = source.args[0] if source.args else None
    return source


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
