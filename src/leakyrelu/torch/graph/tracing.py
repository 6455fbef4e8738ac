"""Calls of a whole model, and its symbolic tracing by `torch.fx` without side effects.

To trace is to run the forward method once, on proxies instead of tensors. What it changes meanwhile (a counter in a
buffer, a list, generators of random numbers) is a copy or is set back, and hooks do not run.
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
from leakyrelu.torch.graph.call_sites import boundary, call_position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_CONTAINERS = (list, dict, set, deque, OrderedDict, defaultdict, Counter)
_IN_PLACE = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")


def call_model(model: Callable[..., Any], arguments: Any) -> Any:
    """Call a model on a tuple or list of arguments, a dict of keyword arguments, or anything else as the argument."""
    if isinstance(arguments, dict):
        return model(**arguments)
    if isinstance(arguments, tuple | list):
        return model(*arguments)
    return model(arguments)


@contextlib.contextmanager
def preserved_random_state() -> Iterator[None]:
    """Set the generators of PyTorch, Python and NumPy back to where they were."""
    cpu, plain, legacy = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        random.setstate(plain)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.cuda.set_rng_state_all(gpus)


@contextlib.contextmanager
def preserved_buffers(model: nn.Module) -> Iterator[None]:
    """Set the buffers of a model, and the generators of random numbers, back to where they were."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with preserved_random_state():
            yield
    finally:
        with torch.no_grad():
            for buffer, kept in buffers:
                buffer.copy_(kept)


def trace(model: nn.Module, is_leaf: Callable[[nn.Module], bool], training: bool | None = None) -> fx.Graph:
    """Return the graph of the calls of a model, with PyTorch's own layers and those where `is_leaf` is true as leaves.

    Unlike `torch.fx.symbolic_trace` it distinguishes ``y += x`` (`operator.iadd`) from ``y = y + x`` (`operator.add`),
    and notes of every call of a function or method where it is made: ``node.meta["caller"]`` is the name of the module
    and the position in its source, as `leakyrelu.torch.watch` has them, and ``node.meta["boundary"]`` is what lies
    between the call and the forward method (see `leakyrelu.torch.graph.call_sites.boundary`).

    Parameters
    ----------
    model
        The model. It does not change, and neither do the generators of random numbers.
    is_leaf
        Whether a module is a leaf of the graph; called before the tracing.
    training
        Whether to trace in training mode; in the present mode of each module, if None.
    """
    inside = list(model.modules())
    leaves = {module for module in inside if is_leaf(module)}
    before = [dict(vars(module)) for module in inside]
    copies: dict[int, torch.Tensor] = {}
    try:
        for module in inside:
            isolate_state(module, lambda value: _copied(value, copies))
            if training is not None:
                vars(module)["training"] = training
        with preserved_random_state():
            return _Tracer(leaves).trace(model)
    finally:
        for module, attributes in zip(inside, before, strict=True):
            vars(module).clear()
            vars(module).update(attributes)


class _Tracer(fx.Tracer):
    def __init__(self, leaves: set[nn.Module]) -> None:
        super().__init__()
        self.leaves = leaves
        self.callers = [("", autograd_state())]

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        self.callers.append((self.path_of_module(m), autograd_state()))
        try:
            return super().call_module(m, forward, args, kwargs)
        finally:
            self.callers.pop()

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        run: Callable[..., Any] | None = getattr(root_fn, "run_on_proxies", None)
        if run is None:
            return super().create_args_for_root(root_fn, is_module, concrete_args)
        # The arguments of a redirected method are those of the original one.
        inner, args = super().create_args_for_root(root_fn.__wrapped__, is_module, concrete_args)  # type: ignore[attr-defined]
        return lambda module, *rest: run(inner, module, rest, {}), args

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, *args, **kwargs)
        if kind in ("call_function", "call_method"):
            module, state = self.callers[-1]
            node.meta["caller"] = module, call_position(("torch.fx", __name__))
            node.meta["boundary"] = boundary(state)
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self.leaves or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


class _Proxy(fx.Proxy):
    """A proxy with the methods of in-place operators, without which Python computes ``y += x`` as ``y = y + x``."""


def _in_place(function: Any) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    return lambda self, other: self.tracer.create_proxy("call_function", function, (self, other), {})


for _name in _IN_PLACE:
    setattr(_Proxy, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))


def _copied(value: Any, copies: dict[int, torch.Tensor]) -> Any:
    """Return a copy of what a forward method could change in place; anything else as it is."""
    if type(value) in _CONTAINERS:
        return copy.copy(value)
    if not isinstance(value, torch.Tensor) or isinstance(value, nn.Parameter) or is_lazy(value):
        return value
    if id(value) not in copies:
        copies[id(value)] = value.detach().clone()
    return copies[id(value)]
