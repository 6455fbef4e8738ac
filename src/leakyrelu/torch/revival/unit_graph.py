"""Producer and consumers of the units of a layer, in the graph that `torch.fx` traces."""

from __future__ import annotations

import contextlib
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.fx
from torch import Tensor, nn

from leakyrelu._text import type_and_first_line, with_article
from leakyrelu.torch.activations.layers import CenteredLeakyReLU
from leakyrelu.torch.diagnosis.unit_axes import PRODUCER_MODULES
from leakyrelu.torch.graph.call_sites import CallSite, LayerKey, layer_names
from leakyrelu.torch.graph.functions import is_in_place
from leakyrelu.torch.graph.tracing import trace
from leakyrelu.torch.normalization.layer import NormLeakyReLU
from leakyrelu.torch.revival.operations import (
    BATCH_NORMS,
    DROPOUTS,
    PRODUCERS,
    RECTIFIERS,
    called_rectifier,
    first_input,
    operation_kind,
    operation_name,
    reads_shape,
)
from leakyrelu.torch.revival.reinitialize import TRANSPOSED, Consumer, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from leakyrelu.diagnosis.layer import Layer


class NotRevivableError(Exception):
    """The reason why the units of a layer are left."""


class _Path(NamedTuple):
    """The consumers of the units of a layer, and the norms in between."""

    layer: Layer
    units: tuple[int, ...]
    norms: list[nn.Module]
    consumers: list[Consumer]


class UnitGraph:
    """Graph of a model by `torch.fx`, with the producers and consumers of its units."""

    def __init__(self, model: nn.Module, graph: torch.fx.Graph, layers: Sequence[Layer]) -> None:
        self.model = model
        self.layers = layers  # all of the report
        self.modules = dict(model.named_modules(remove_duplicate=False))
        self.nodes = list(graph.nodes)
        self._take_over()
        calls = [self.modules[node.target] for node in self.nodes if node.op == "call_module"]
        self.uses = Counter(id(module) for module in calls)
        owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
        self.tied = {key for key, number in owners.items() if number > 1}

    def _take_over(self) -> None:
        """Give the users of `x` behind ``x.relu_()`` the result of that, which is what `x` holds by then."""
        places = {node: place for place, node in enumerate(self.nodes)}
        for place, node in enumerate(self.nodes):
            before = first_input(node)
            if before is not None and self._in_place(node):
                later = {user for user in before.users if places[user] > place}
                before.replace_all_uses_with(node, later.__contains__)

    def _in_place(self, node: torch.fx.Node) -> bool:
        if (module := self._module(node)) is not None:
            return isinstance(module, RECTIFIERS) and getattr(module, "inplace", False) is True
        return called_rectifier(node) is not None and is_in_place(node.target, node.args, node.kwargs)

    def plan(self, layer: Layer, units: tuple[int, ...], fold_mean: bool) -> Plan:
        """Find the producer and the consumers of these units; `NotRevivableError` where they must be left."""
        node = self._node(layer.name)
        slopes = torch.as_tensor(layer.negative_slope, dtype=torch.float64).expand(layer.units)[list(units)]
        constants = torch.zeros(len(units), dtype=torch.float64)
        means = torch.from_numpy(layer.output_mean[list(units)].copy())
        sloped = bool((slopes != 0).any()) or isinstance(self._module(node), CenteredLeakyReLU)
        if sloped or bool((means != 0).any()):
            if not fold_mean:
                what = "slope * x" if sloped else "a constant"
                raise NotRevivableError(
                    f"they still give out {what}, so cutting them off would change the network: train on, "
                    "or call revive with fold_mean=True"
                )
            constants = means
        producer, norms = self._producer(node, layer.units)
        path = _Path(layer, units, norms, [])
        self._follow(node, 1 if isinstance(producer, nn.Linear) else None, constants, path)
        if not path.consumers:
            raise NotRevivableError("nothing takes their output")
        return Plan(layer.name, units, producer, norms, path.consumers)

    def _node(self, name: str) -> torch.fx.Node:
        target, _, place = name.partition(", call ")
        found = [node for node in self.nodes if self._target(node) == target]
        if place.isdecimal() and int(place) <= len(found):
            found = [found[int(place) - 1]]
        elif f"{name}, call 2" in (layer.name for layer in self.layers):
            found = found[:1]
        if len(found) != 1:
            if not found and "()" in target:
                return self._call(name)
            raise NotRevivableError(
                f"the activation is called {len(found)} times" if found else "there is no module of that name"
            )
        node: torch.fx.Node = found[0]
        return node

    def _call(self, name: str) -> torch.fx.Node:
        """Find the call of a function by the name that `watch` gave it."""
        base = name.partition("()")[0] + "()"
        calls = {other: nodes for other, nodes in self._calls.items() if other.startswith(base)}
        if not calls:
            raise NotRevivableError("the activation is a call of a function, not a module")
        if set(calls) != {other for other in (layer.name for layer in self.layers) if other.startswith(base)}:
            raise NotRevivableError(f"torch.fx sees other calls of {base} than the report")
        if len(calls[name]) != 1:
            raise NotRevivableError(f"the activation is called {len(calls[name])} times")
        return calls[name][0]

    @cached_property
    def _calls(self) -> dict[str, list[torch.fx.Node]]:
        """Calls of functions that rectify, by the names that `watch` gives them."""
        keys = self._layer_keys(self.nodes)
        for training in (True, False):  # the report may be of either
            try:
                other = self._layer_keys(trace(self.model, _is_leaf, training).nodes)
            except Exception:
                other = {}
            if set(other) != set(keys):
                raise NotRevivableError("the model calls other functions in training than in evaluation")
        names = layer_names(list(keys))
        return {names[key]: nodes for key, nodes in keys.items()}

    def _layer_keys(self, nodes: Iterable[torch.fx.Node]) -> dict[LayerKey, list[torch.fx.Node]]:
        keys: dict[LayerKey, list[torch.fx.Node]] = {}
        for node in nodes:
            kind = called_rectifier(node)
            if kind is not None:
                inside, line = node.meta["caller"]
                call_site = CallSite(f"{inside}.{kind}()" if inside else f"{kind}()", line)
                producer = self._producer_name(node)
                keys.setdefault(LayerKey(call_site, (producer,) if producer else (), 0, 0), []).append(node)
        return keys

    def _producer_name(self, node: torch.fx.Node) -> str | None:
        """Return the layer that `watch` names as the producer of the input: in evaluation dropout returns its input."""
        before = first_input(node)
        while before is not None and isinstance(self._module(before), DROPOUTS):
            before = first_input(before)
        produces = before is not None and any(isinstance(self._module(before), kinds) for kinds, _ in PRODUCER_MODULES)
        return self._target(before) if produces else None

    @staticmethod
    def _target(node: torch.fx.Node | None) -> str | None:
        return str(node.target) if node is not None and node.op == "call_module" else None

    def _module(self, node: torch.fx.Node) -> nn.Module | None:
        return self.modules.get(str(node.target)) if node.op == "call_module" else None

    def _producer(self, node: torch.fx.Node, units: int) -> tuple[nn.Module, list[nn.Module]]:
        norms: list[nn.Module] = []
        pooled = False
        while True:
            before = first_input(node)
            if before is None:
                raise NotRevivableError("their producer is not known")
            if len([user for user in before.users if not reads_shape(user)]) > 1:
                raise NotRevivableError(f"their producer, {operation_name(before)}, has other consumers too")
            module = self._module(before)
            kind = operation_kind(before, module)
            if kind in ("same", "window", "average"):
                pooled = pooled or kind != "same"
                node = before
                continue
            if module is None:
                raise NotRevivableError(f"they come out of {operation_name(before)}, not out of a layer")
            self._refuse_shared(module, before)
            if isinstance(module, PRODUCERS):
                if pooled and isinstance(module, nn.Linear):
                    raise NotRevivableError(f"what {before.target} makes is pooled along the units")
                made = getattr(module, "out_features" if isinstance(module, nn.Linear) else "out_channels")
                if made != units:
                    raise NotRevivableError(f"the report counts {units} units, and {before.target} makes {made}")
                return module, norms
            if isinstance(module, BATCH_NORMS):
                norms.append(module)
            else:
                raise NotRevivableError(
                    f"between them and their weights stands {before.target} ({type(module).__name__})"
                )
            node = before

    def _refuse_shared(self, module: nn.Module, node: torch.fx.Node) -> None:
        """Raise for a layer whose weights another call or parameter depends on."""
        if self.uses[id(module)] > 1 and isinstance(module, (*PRODUCERS, *BATCH_NORMS)):
            raise NotRevivableError(f"{node.target} is used in several places")
        if any(id(parameter) in self.tied for parameter in module.parameters()):
            raise NotRevivableError(f"the weights of {node.target} are tied to those of another layer")
        if torch.nn.utils.parametrize.is_parametrized(module) or hasattr(module, "weight_g"):
            raise NotRevivableError(f"the weights of {node.target} are parametrized")

    def _follow(self, node: torch.fx.Node, each: int | None, constants: Tensor, path: _Path) -> None:
        """Collect the consumers of the units, and the norms in between.

        `each` is how many inputs of a linear layer are one unit: 1 behind a linear layer, 0 for as many as come out
        behind a flattened convolution, None where they still are channels.
        """
        channels = path.layer.units
        for user in node.users:
            if reads_shape(user):
                continue
            module = self._module(user)
            kind = operation_kind(user, module)
            if module is not None and (isinstance(module, PRODUCERS) or kind == "norm"):
                self._refuse_shared(module, user)
            if module is not None and isinstance(module, PRODUCERS):
                path.consumers.append(self._consumer(module, user, channels, each, constants))
            elif module is not None and kind == "norm":
                if getattr(module, "num_features", None) not in (None, channels):
                    raise NotRevivableError(f"{user.target} does not keep them apart")
                after = _normalized(module, path.units, constants)
                path.norms.append(module)
                self._follow(user, each, after, path)
            elif kind in ("window", "average") and each is not None:  # no channels, so that it takes units together
                raise NotRevivableError(f"their output goes into {operation_name(user)}")
            elif kind == "window" and bool((constants != 0).any()):
                raise NotRevivableError(f"the mean cannot be folded through {operation_name(user)}")
            elif kind in ("same", "window", "average"):
                self._follow(user, each, constants, path)
            elif kind == "mean" and each is None:
                self._follow(user, 1, constants, path)
            elif kind == "flatten":
                self._follow(user, each or 0, constants, path)
            elif kind == "rows":
                # The view has as many rows as there were samples only if it neither splits nor joins samples.
                if path.layer.entries is None or self._rows_behind(user) != {path.layer.entries}:
                    raise NotRevivableError(
                        f"their output goes into {operation_name(user)} with a size in numbers, and the report does "
                        "not show that a row is a sample behind it: call flatten(1) in its place"
                    )
                self._follow(user, each or 0, constants, path)
            elif user.op == "output":
                raise NotRevivableError("they are the network's output")
            else:
                raise NotRevivableError(f"their output goes into {operation_name(user)}")

    def _rows_behind(self, node: torch.fx.Node) -> set[int | None]:
        """Entries of the batch axis that the report counted at the next activations."""
        found: set[int | None] = set()
        for user in node.users:
            module = self._module(user)
            if user in self._layers:
                found.add(self._layers[user].entries)
            elif isinstance(module, nn.Linear) or operation_kind(user, module) in ("same", "norm"):
                found |= self._rows_behind(user)
        return found

    @cached_property
    def _layers(self) -> dict[torch.fx.Node, Layer]:
        found = {}
        for layer in self.layers:
            with contextlib.suppress(NotRevivableError):
                found[self._node(layer.name)] = layer
        return found

    def _consumer(
        self, module: Any, user: torch.fx.Node, channels: int, each: int | None, constants: Tensor
    ) -> Consumer:
        linear = isinstance(module, nn.Linear)
        inputs: int = module.in_features if linear else module.in_channels
        if each == 0 and inputs % channels == 0:
            each = inputs // channels
        if linear != (each is not None) or inputs != channels * (each or 1):
            raise NotRevivableError(f"{user.target} takes {inputs} inputs, which are not {channels} units")
        if not bool((constants != 0).any()):
            return Consumer(module, each or 1, None)
        if getattr(module, "bias", None) is None:
            raise NotRevivableError(
                f"what they give out on average cannot be folded into {user.target}: it has no bias"
            )
        if isinstance(module, TRANSPOSED) or not (linear or module.padding == "valid" or not any(module.padding)):
            raise NotRevivableError(f"what they give out on average cannot be folded into {user.target}: it pads")
        return Consumer(module, each or 1, constants)


def _is_leaf(module: nn.Module) -> bool:
    return isinstance(module, RECTIFIERS)


def trace_units(model: nn.Module, layers: Sequence[Layer]) -> UnitGraph:
    """Trace the model of a report with these layers; `NotRevivableError` where that is not possible."""
    if any(isinstance(module, NormLeakyReLU) for module in model.modules()):
        raise NotRevivableError(
            "the model holds layers that save_memory joined: take them apart with restore(model), diagnose it again, "
            "and call save_memory afterwards"
        )
    try:
        return UnitGraph(model, trace(model, _is_leaf), layers)
    except Exception as error:
        raise NotRevivableError(f"torch.fx cannot trace the model ({type_and_first_line(error)})") from None


def _normalized(norm: Any, units: Sequence[int], constants: Tensor) -> Tensor:
    """Return what a batch norm in evaluation mode makes of constants."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise NotRevivableError(
            f"{with_article(type(norm).__name__)} behind them keeps no statistics, so what it makes of 0 is not fixed"
        )
    rows = list(units)
    out: Tensor = (constants - mean[rows].double()) / (variance[rows].double() + norm.eps).sqrt()
    if norm.weight is not None:
        out = out * norm.weight[rows].double() + norm.bias[rows].double()
    return out.detach().cpu()
