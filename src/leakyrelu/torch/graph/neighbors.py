"""Which module comes after which, by the calls that are seen."""

from __future__ import annotations

import inspect
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from leakyrelu.torch._compat import count_hooks
from leakyrelu.torch.graph.tracing import trace

if TYPE_CHECKING:
    from collections.abc import Callable


# Calls and layers whose result may be the memory of their argument.
_VIEWS = frozenset(
    {"view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "permute", "transpose", "t", "squeeze"}
    | {"unsqueeze", "expand", "expand_as", "narrow", "select", "chunk", "split", "unbind", "unfold", "movedim"}
    | {"swapaxes", "swapdims", "diagonal", "as_strided", "detach", "contiguous", "to", "float", "double", "half"}
    | {"bfloat16", "type", "cpu", "cuda", "requires_grad_", "getitem", "getattr"}
)
_VIEWING = (nn.Identity, nn.Flatten, nn.Unflatten)
# Activations that, or whose pairs, keep their output.
_KEEPING = (nn.LeakyReLU, nn.PReLU)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def _hooked(module: nn.Module) -> str | None:
    count = count_hooks(module)
    return f"it carries {count} hooks, which would see something else" if count else None


@dataclass
class Calls:
    """What every call seen says: after which module a module came, or in words why that cannot be said.

    A call of a function is one of the module that `stand_in` gives for it, if any.
    """

    stand_in: Callable[[fx.Node, dict[str, nn.Module]], nn.Module | None] | None = None
    after: dict[nn.Module, list[nn.Module | str]] = field(default_factory=dict)
    before: dict[nn.Module, list[nn.Module | str]] = field(default_factory=dict)
    overwritten: dict[nn.Module, str] = field(default_factory=dict)  # by what
    seen: set[nn.Module] = field(default_factory=set)

    def follow(self, module: nn.Module) -> None:
        """Follow the calls within a module, as a whole if it can be traced, else child by child."""
        if module in self.seen or _has_no_children(module):
            return
        self.seen.add(module)
        try:
            graphs = [trace(module, _is_leaf, training) for training in (True, False)]
        except Exception as error:  # whatever the forward method of a stranger raises when proxies run through it
            self._by_structure(module, error)
            return
        inside = dict(module.named_modules(remove_duplicate=False))
        calls = [[node for node in graph.nodes if node.op == "call_module"] for graph in graphs]
        functions = [
            node
            for graph in graphs
            for node in graph.nodes
            if node.op != "call_module" and self._called(node, inside) is not None
        ]
        # Hooks on a container see what it takes and gives: it is one call here, and followed for itself.
        called = {inside[node.target] for nodes in calls for node in nodes}
        apart = {each for each in called if not _has_no_children(each) and _hooked(each)}
        self.seen.update(inside.values())
        self.seen.difference_update(each for container in apart for each in container.modules())
        for nodes, training in zip(calls, (True, False), strict=True):
            for node in nodes:
                self._note(node, inside)
                by = _overwritten(node, inside, training) if isinstance(inside[node.target], _KEEPING) else None
                if by is not None:
                    self.overwritten[inside[node.target]] = by
        for node in functions:
            self._note(node, inside)
        for container in apart:
            self.follow(container)

    def _called(self, node: Any, inside: dict[str, nn.Module]) -> nn.Module | None:
        if isinstance(node, fx.Node) and node.op == "call_module":
            return inside[str(node.target)]
        if self.stand_in is None or not isinstance(node, fx.Node):
            return None
        return self.stand_in(node, inside)

    def _note(self, node: fx.Node, inside: dict[str, nn.Module]) -> None:
        module = self._called(node, inside)
        assert module is not None
        users = list(node.users)
        follower: nn.Module | str | None = self._called(users[0], inside) if len(users) == 1 else None
        if len(users) == 1 and follower is None:
            follower = (
                "its output leaves the part of the model that could be traced, or is the model's own"
                if users[0].op == "output"
                else f"a call of {_name(users[0].target)} comes after it, not a module{_remedy(users[0])}"
            )
        elif follower is None:
            follower = f"its output is used {len(users)} times"
        self.after.setdefault(module, []).append(follower)
        source = self._called(node.args[0], inside) if node.args else None
        self.before.setdefault(module, []).append(source or "something else")

    def _by_structure(self, module: nn.Module, error: Exception) -> None:
        chain = list(module) if type(module) is nn.Sequential else []
        followers: list[Any] = [*chain[1:], "its output leaves an nn.Sequential"]
        for child, following in zip(chain, followers if chain else [], strict=True):
            if child is not None and following is not None:
                self.after.setdefault(child, []).append(following)
                if isinstance(following, nn.Module):
                    self.before.setdefault(following, []).append(child)
        if chain and chain[0] is not None:
            self.before.setdefault(chain[0], []).append("something else")
        for child, following in itertools.pairwise(chain):
            if isinstance(child, _KEEPING) and getattr(following, "inplace", False) is True:
                self.overwritten[child] = type(following).__name__
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        why = f"the forward method of {type(module).__name__} cannot be traced: {said[:80]}"
        for each in module.children():
            if not chain and _has_no_children(each):
                self.after.setdefault(each, []).append(why)
                self.before.setdefault(each, []).append(why)
            self.follow(each)


def _remedy(call: fx.Node) -> str:
    leaky = _name(call.target) in ("leaky_relu", "leaky_relu_")
    return "; make it a leakyrelu.torch.LeakyReLU, which can be joined with it" if leaky else ""


def _name(target: Any) -> str:
    return str(getattr(target, "__name__", target))


def _has_no_children(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _is_leaf(module: nn.Module) -> bool:
    return _has_no_children(module) or _hooked(module) is not None


def _overwritten(node: fx.Node, inside: dict[str, nn.Module], training: bool) -> str | None:
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
                if _writes(user, result):
                    return _name(user.target)
                views = _name(user.target) in _VIEWS
            if views and user not in results:
                results.append(user)
    return None


def _writes(call: fx.Node, result: fx.Node) -> bool:
    """Whether a call of a function or method changes this argument."""
    if call.kwargs.get("out") is result:
        return True
    if call.op == "output" or not (call.args and call.args[0] is result):
        return False
    name = _name(call.target)
    if name in _VIEWS or name.startswith("__"):
        return False
    if name.endswith("_") or call.kwargs.get("inplace") is True or name == "setitem":
        return True
    if getattr(call.target, "__module__", "") == "_operator":
        return name.startswith("i") and name not in ("inv", "invert", "index", "is_", "is_not", "indexOf")
    try:
        given = inspect.signature(call.target).bind(*call.args, **call.kwargs)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # a method, or a function of C++, whose names say it
        return False
    return given.arguments.get("inplace") is True
