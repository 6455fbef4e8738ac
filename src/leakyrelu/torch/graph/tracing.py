"""The calls of a network as `torch.fx` sees them, without a trace of the tracing.

To trace is to run the forward method once, on stand-ins for tensors. What it does besides (counting its calls in a
buffer, keeping a list, throwing dice) happens to copies, and hooks do not run.
"""

from __future__ import annotations

import contextlib
import copy
import operator
import random
from collections import Counter, OrderedDict, defaultdict, deque
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy

from leakyrelu.torch._compat import autograd_state, isolate_state
from leakyrelu.torch.graph.call_sites import boundary, source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


__all__ = ["trace"]


_CONTAINERS = (list, dict, set, deque, OrderedDict, defaultdict, Counter)
_IN_PLACE = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")


def trace(model: nn.Module, is_leaf: Callable[[nn.Module], bool], training: bool | None = None) -> fx.Graph:
    """Return the graph of the calls of a model; PyTorch's own layers, and what `is_leaf` says, are single calls.

    Unlike `torch.fx.symbolic_trace` it tells ``y += x`` (`operator.iadd`) from ``y = y + x`` (`operator.add`), and says
    of every call of a function or method where it stands: ``node.meta["caller"]`` is the name of the module and the
    place in its source, as `leakyrelu.torch.watch` has them, and ``node.meta["boundary"]`` is what
    lies between it and the forward method (see `leakyrelu.torch.graph.call_sites.boundary`).

    Parameters
    ----------
    model
        The model. Afterwards it is as it was, and so are the generators of random numbers.
    is_leaf
        Asked before the tracing.
    training
        The mode to trace in; as it is, if None.
    """
    inside = list(model.modules())
    leaves = {module for module in inside if is_leaf(module)}
    before = [dict(vars(module)) for module in inside]
    twins: dict[int, torch.Tensor] = {}
    try:
        for module in inside:
            isolate_state(module, lambda value: _twin(value, twins))
            if training is not None:
                vars(module)["training"] = training
        with _same_dice():
            return _Tracer(leaves).trace(model)
    finally:
        for module, attributes in zip(inside, before, strict=True):
            vars(module).clear()
            vars(module).update(attributes)


class _Tracer(fx.Tracer):
    def __init__(self, leaves: set[nn.Module]) -> None:
        super().__init__()
        self.leaves = leaves
        self.inside = [("", autograd_state())]

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        self.inside.append((self.path_of_module(m), autograd_state()))
        try:
            return super().call_module(m, forward, args, kwargs)
        finally:
            self.inside.pop()

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        run: Callable[..., Any] | None = getattr(root_fn, "run_on_proxies", None)
        if run is None:
            return super().create_args_for_root(root_fn, is_module, concrete_args)
        # Of a redirected method the original has the arguments that are to be stood in for.
        inner, args = super().create_args_for_root(root_fn.__wrapped__, is_module, concrete_args)  # type: ignore[attr-defined]
        return lambda module, *rest: run(inner, module, rest, {}), args

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, *args, **kwargs)
        if kind in ("call_function", "call_method"):
            module, state = self.inside[-1]
            node.meta["caller"] = module, source(("torch.fx", __name__))
            node.meta["boundary"] = boundary(state)
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self.leaves or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


class _Proxy(fx.Proxy):
    """Without methods of these names Python would compute ``y += x`` as ``y = y + x``."""


def _in_place(function: Any) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    return lambda self, other: self.tracer.create_proxy("call_function", function, (self, other), {})


for _name in _IN_PLACE:
    setattr(_Proxy, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))


def _twin(value: Any, twins: dict[int, torch.Tensor]) -> Any:
    """Return a copy of what a forward method could change in place; of anything else the thing itself."""
    if type(value) in _CONTAINERS:
        return copy.copy(value)
    if not isinstance(value, torch.Tensor) or isinstance(value, nn.Parameter) or is_lazy(value):
        return value
    if id(value) not in twins:
        twins[id(value)] = value.detach().clone()
    return twins[id(value)]


@contextlib.contextmanager
def _same_dice() -> Iterator[None]:
    cpu, plain, legacy = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        random.setstate(plain)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.cuda.set_rng_state_all(gpus)
