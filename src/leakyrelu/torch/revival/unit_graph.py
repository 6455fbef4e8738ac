"""Which layer makes a unit, and which layers take it, by the graph that `torch.fx` traces."""

from __future__ import annotations

import contextlib
import inspect
import operator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from leakyrelu._text import type_and_first_line, with_article
from leakyrelu.torch.activations.layers import CenteredLeakyReLU
from leakyrelu.torch.diagnosis.rectifiers import FUNCTIONS, READERS
from leakyrelu.torch.diagnosis.unit_axes import PRODUCER_MODULES
from leakyrelu.torch.graph.call_sites import CallSite, LayerKey, layer_names
from leakyrelu.torch.graph.trace import trace
from leakyrelu.torch.normalization.layer import NormLeakyReLU
from leakyrelu.torch.revival.reinitialize import TRANSPOSED, Consumer, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from leakyrelu.diagnosis.layer import Layer


__all__ = ["NotRevivableError", "UnitGraph", "trace_units"]


_RECTIFIERS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, CenteredLeakyReLU)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_PRODUCERS = (nn.Linear, *_CONVOLUTIONS, *TRANSPOSED)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity)
_WINDOWS = (  # of zeros they make zeros, and nothing simple of anything else
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
_AVERAGES = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)  # of a mean they make that mean
_FUNCTIONS: dict[Any, str] = {
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d), "same"),
    **dict.fromkeys((F.avg_pool1d, F.avg_pool2d, F.avg_pool3d), "window"),
    **dict.fromkeys((F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d), "average"),
    **dict.fromkeys((F.max_pool1d, F.max_pool2d, F.max_pool3d), "window"),
    **dict.fromkeys((F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d), "window"),
    **dict.fromkeys((torch.flatten, torch.reshape), "flatten"),
    torch.mean: "mean",
}
_METHODS = {"mean": "mean", "flatten": "flatten", "view": "flatten", "reshape": "flatten", "contiguous": "same"}
_LOOKS = ("size", "dim", "numel")  # they read the shape, not the numbers


class NotRevivableError(Exception):
    """Why a layer's units are left."""


class _Path(NamedTuple):
    """From a layer's units to what takes them."""

    layer: Layer
    units: tuple[int, ...]
    norms: list[nn.Module]
    consumers: list[Consumer]


class UnitGraph:
    """The model as `torch.fx` sees it."""

    def __init__(self, model: nn.Module, graph: torch.fx.Graph, layers: Sequence[Layer]) -> None:
        self.model = model
        self.layers = layers  # all of the report
        self.modules = dict(model.named_modules(remove_duplicate=False))
        self.nodes = list(graph.nodes)
        self._take_over()
        calls = [self.modules[node.target] for node in self.nodes if node.op == "call_module"]
        self.uses = {id(module): sum(other is module for other in calls) for module in calls}
        owners: dict[int, set[int]] = {}
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                owners.setdefault(id(parameter), set()).add(id(module))
        self.tied = {key for key, modules in owners.items() if len(modules) > 1}

    def _take_over(self) -> None:
        """Let what comes behind ``x.relu_()`` take its result, which is what `x` holds by then."""
        places = {node: place for place, node in enumerate(self.nodes)}
        for place, node in enumerate(self.nodes):
            before = _first_input(node)
            if before is not None and self._in_place(node):
                later = {user for user in before.users if places[user] > place}
                before.replace_all_uses_with(node, later.__contains__)

    def _in_place(self, node: torch.fx.Node) -> bool:
        if (module := self._module(node)) is not None:
            return isinstance(module, _RECTIFIERS) and getattr(module, "inplace", False) is True
        if _rectifier(node) is None:
            return False
        if getattr(node.target, "__name__", str(node.target)).endswith("_"):
            return True
        try:
            given = inspect.signature(node.target).bind(*node.args, **node.kwargs)  # type: ignore[arg-type]
        except (TypeError, ValueError):  # a method, or a function in C: none has the argument
            return False
        return given.arguments.get("inplace") is True

    def plan(self, layer: Layer, units: tuple[int, ...], fold_mean: bool) -> Plan:
        """Find what makes these units and what takes them; `NotRevivableError` says what stands in the path."""
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
        target, _, feeder = name.partition(" after ")
        found = [node for node in self.nodes if self._target(node) == target]
        if feeder:
            found = [node for node in found if self._target(_first_input(node)) == feeder]
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
        sites = self._sites(self.nodes)
        for training in (True, False):  # the report may be of either
            try:
                other = self._sites(trace(self.model, _is_leaf, training).nodes)
            except Exception:
                other = {}
            if set(other) != set(sites):
                raise NotRevivableError("the model calls other functions in training than in evaluation")
        names = layer_names(list(sites))
        return {names[site]: nodes for site, nodes in sites.items()}

    def _sites(self, nodes: Iterable[torch.fx.Node]) -> dict[LayerKey, list[torch.fx.Node]]:
        sites: dict[LayerKey, list[torch.fx.Node]] = {}
        for node in nodes:
            kind = _rectifier(node)
            if kind is not None:
                inside, line = node.meta["caller"]
                place = CallSite(f"{inside}.{kind}()" if inside else f"{kind}()", line)
                sites.setdefault(LayerKey(place, self._feeder(node), 0), []).append(node)
        return sites

    def _feeder(self, node: torch.fx.Node) -> str | None:
        """Name the layer whose output this takes, as `watch` sees it: in evaluation dropout gives out its input."""
        before = _first_input(node)
        while before is not None and isinstance(self._module(before), _DROPOUTS):
            before = _first_input(before)
        feeds = before is not None and isinstance(
            self._module(before), tuple(kind for kinds, _ in PRODUCER_MODULES for kind in kinds)
        )
        return self._target(before) if feeds else None

    @staticmethod
    def _target(node: torch.fx.Node | None) -> str | None:
        return str(node.target) if node is not None and node.op == "call_module" else None

    def _module(self, node: torch.fx.Node) -> nn.Module | None:
        return self.modules.get(str(node.target)) if node.op == "call_module" else None

    def _producer(self, node: torch.fx.Node, units: int) -> tuple[nn.Module, list[nn.Module]]:
        norms: list[nn.Module] = []
        pooled = False
        while True:
            before = _first_input(node)
            if before is None:
                raise NotRevivableError("what makes them is not known")
            if len([user for user in before.users if not _looks(user)]) > 1:
                raise NotRevivableError(f"what makes them, {_name(before)}, is used elsewhere too")
            module = self._module(before)
            kind = self._kind(before, module)
            if kind in ("same", "window", "average"):
                pooled = pooled or kind != "same"
                node = before
                continue
            if module is None:
                raise NotRevivableError(f"they come out of {_name(before)}, not out of a layer")
            self._own(module, before)
            if isinstance(module, _PRODUCERS):
                if pooled and isinstance(module, nn.Linear):
                    raise NotRevivableError(f"what {before.target} makes is pooled along the units")
                if _outputs(module) != units:
                    raise NotRevivableError(
                        f"the report counts {units} units, and {before.target} makes {_outputs(module)}"
                    )
                return module, norms
            if isinstance(module, _BATCH_NORMS):
                norms.append(module)
            else:
                raise NotRevivableError(
                    f"between them and their weights stands {before.target} ({type(module).__name__})"
                )
            node = before

    def _own(self, module: nn.Module, node: torch.fx.Node) -> None:
        if self.uses.get(id(module), 0) > 1 and isinstance(module, (*_PRODUCERS, *_BATCH_NORMS)):
            raise NotRevivableError(f"{node.target} is used in several places")
        if any(id(parameter) in self.tied for parameter in module.parameters()):
            raise NotRevivableError(f"the weights of {node.target} are tied to those of another layer")
        if torch.nn.utils.parametrize.is_parametrized(module) or hasattr(module, "weight_g"):
            raise NotRevivableError(f"the weights of {node.target} are parametrized")

    def _follow(self, node: torch.fx.Node, each: int | None, constants: Tensor, path: _Path) -> None:
        """Walk to everything that takes the units, noting what must be reset on the path.

        `each` is how many inputs of a linear layer are one unit: 1 behind a linear layer, 0 for as many as come out
        behind a flattened convolution, None where they still are channels.
        """
        channels = path.layer.units
        for user in node.users:
            if _looks(user):
                continue
            module = self._module(user)
            kind = self._kind(user, module)
            if module is not None and (isinstance(module, _PRODUCERS) or kind == "norm"):
                self._own(module, user)
            if module is not None and isinstance(module, _PRODUCERS):
                path.consumers.append(self._consumer(module, user, channels, each, constants))
            elif module is not None and kind == "norm":
                if _parameters_of(module) not in (None, channels):
                    raise NotRevivableError(f"{user.target} does not keep them apart")
                after = _normalized(module, path.units, constants)
                path.norms.append(module)
                self._follow(user, each, after, path)
            elif kind in ("window", "average") and each is not None:  # no channels, so that it takes units together
                raise NotRevivableError(f"their output goes into {_name(user)}")
            elif kind == "window" and bool((constants != 0).any()):
                raise NotRevivableError(f"the mean cannot be folded through {_name(user)}")
            elif kind in ("same", "window", "average"):
                self._follow(user, each, constants, path)
            elif kind == "mean" and each is None:
                self._follow(user, 1, constants, path)
            elif kind == "flatten":
                self._follow(user, each or 0, constants, path)
            elif kind == "rows":
                # Rows in all against samples in all: another factor than 1 would show.
                if path.layer.entries is None or self._rows_behind(user) != {path.layer.entries}:
                    raise NotRevivableError(
                        f"their output goes into {_name(user)} with a size in numbers, and the report does not show "
                        "that a row is a sample behind it: call flatten(1) in its place"
                    )
                self._follow(user, each or 0, constants, path)
            elif user.op == "output":
                raise NotRevivableError("they are the network's output")
            else:
                raise NotRevivableError(f"their output goes into {_name(user)}")

    def _rows_behind(self, node: torch.fx.Node) -> set[int | None]:
        """Entries of the batch axis that the report counted at the next activations."""
        found: set[int | None] = set()
        for user in node.users:
            module = self._module(user)
            if user in self._layers:
                found.add(self._layers[user].entries)
            elif isinstance(module, nn.Linear) or self._kind(user, module) in ("same", "norm"):
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
        self, module: nn.Module, user: torch.fx.Node, channels: int, each: int | None, constants: Tensor
    ) -> Consumer:
        inputs: int = module.in_features if isinstance(module, nn.Linear) else int(module.in_channels)  # type: ignore[arg-type]
        if each == 0 and inputs % channels == 0:
            each = inputs // channels
        linear = isinstance(module, nn.Linear)
        if linear != (each is not None) or inputs != channels * (each or 1):
            raise NotRevivableError(f"{user.target} takes {inputs} inputs, which are not {channels} units")
        if not bool((constants != 0).any()):
            return Consumer(module, each or 1, None)
        if getattr(module, "bias", None) is None:
            raise NotRevivableError(
                f"what they give out on average cannot be folded into {user.target}: it has no bias"
            )
        padded = getattr(module, "padding", 0)
        if isinstance(module, TRANSPOSED) or (isinstance(module, _CONVOLUTIONS) and padded not in ("valid", 0)):
            flat = padded if isinstance(padded, tuple) else (padded,)
            if isinstance(module, TRANSPOSED) or any(flat):
                raise NotRevivableError(f"what they give out on average cannot be folded into {user.target}: it pads")
        return Consumer(module, each or 1, constants)

    def _kind(self, node: torch.fx.Node, module: nn.Module | None) -> str:
        if module is not None:
            for kinds, name in (
                (_BATCH_NORMS, "norm"),
                (_DROPOUTS, "same"),
                (_AVERAGES, "average"),
                (_WINDOWS, "window"),
                ((nn.Flatten,), "flatten"),
            ):
                if isinstance(module, kinds):
                    return name if name != "flatten" or (module.start_dim, module.end_dim) == (1, -1) else ""
            return ""
        if node.op == "call_function":
            kind = _FUNCTIONS.get(node.target, "")
        else:
            kind = _METHODS.get(str(node.target), "") if node.op == "call_method" else ""
        if kind == "mean":
            axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
            over = tuple(axes) if isinstance(axes, tuple | list) else (axes,)
            plain = "keepdim" not in node.kwargs and len(node.args) < 3
            return kind if plain and over in ((2, 3), (-2, -1), (-1, -2), (2,), (-1,), (2, 3, 4)) else ""
        if kind != "flatten":
            return kind
        # x.flatten(1), torch.flatten(x, 1), x.view(batch, -1), x.reshape((batch, -1))
        rest = list(node.args[1:])
        if len(rest) == 1 and isinstance(rest[0], tuple | list):
            rest = list(rest[0])
        if node.target in ("view", "reshape", torch.reshape):
            if len(rest) != 2 or not isinstance(rest[1], int):
                return ""
            # A size in numbers, as in view(-1, 320), may part samples or join them.
            return kind if _is_batch_size(rest[0]) else "rows" if isinstance(rest[0], int) else ""
        start = rest[0] if rest else node.kwargs.get("start_dim", 0)
        return kind if start == 1 and len(rest) < 2 and "end_dim" not in node.kwargs else ""


def _is_leaf(module: nn.Module) -> bool:
    return isinstance(module, _RECTIFIERS)


def _rectifier(node: torch.fx.Node) -> str | None:
    """Say which function that rectifies this calls, if it does."""
    if node.op == "call_function":
        reader = FUNCTIONS.get(node.target)
    else:
        reader = READERS.get(str(node.target).removesuffix("_")) if node.op == "call_method" else None
    try:
        rule = reader(node.args, node.kwargs) if reader is not None else None
    except TypeError:  # its slope is computed by the model
        return None
    return rule.kind if rule is not None else None


def trace_units(model: nn.Module, layers: Sequence[Layer]) -> UnitGraph | str:
    """Trace a model that a report with these layers is of; where that cannot be, say why."""
    if any(isinstance(module, NormLeakyReLU) for module in model.modules()):
        return (
            "the model holds layers that save_memory joined: take them apart with restore(model), diagnose it again, "
            "and call save_memory afterwards"
        )
    try:
        return UnitGraph(model, trace(model, _is_leaf), layers)
    except Exception as error:
        return f"torch.fx cannot trace the model ({type_and_first_line(error)})"


def _outputs(module: nn.Module) -> int:
    return int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)  # type: ignore[arg-type]


def _parameters_of(norm: nn.Module) -> int | None:
    number = getattr(norm, "num_features", None)
    return int(number) if number is not None else None


def _normalized(norm: nn.Module, units: Sequence[int], constants: Tensor) -> Tensor:
    """Send constants through a batch norm in evaluation mode."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise NotRevivableError(
            f"{with_article(type(norm).__name__)} behind them keeps no statistics, so what it makes of 0 is not fixed"
        )
    rows = list(units)
    out = (constants - mean[rows].double()) / (variance[rows].double() + norm.eps).sqrt()  # type: ignore[index, operator]
    if norm.weight is not None:
        out = out * norm.weight[rows].double() + norm.bias[rows].double()  # type: ignore[index]
    return out.detach().cpu()


def _first_input(node: torch.fx.Node) -> torch.fx.Node | None:
    first: Any = node.args[0] if node.args else next(iter(node.kwargs.values()), None)
    return first if isinstance(first, torch.fx.Node) else None


def _looks(node: torch.fx.Node) -> bool:
    return (node.op == "call_method" and node.target in _LOOKS) or (
        node.op == "call_function" and node.target is getattr and node.args[1] in ("shape", "ndim")
    )


def _is_batch_size(value: object) -> bool:
    """Whether this is ``x.size(0)``, ``x.size()[0]`` or ``x.shape[0]``."""
    if not isinstance(value, torch.fx.Node):
        return False
    if value.op == "call_method" and value.target == "size":
        return [*value.args[1:], *value.kwargs.values()] == [0]
    of = value.args[0] if value.target is operator.getitem else None
    return isinstance(of, torch.fx.Node) and _looks(of) and value.args[1:] == (0,)


def _name(node: torch.fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target)
    if node.op == "placeholder":
        return "the network's input"
    if node.target in (operator.add, operator.iadd, torch.add):
        return "an addition"
    return getattr(node.target, "__name__", str(node.target)) + "()"
