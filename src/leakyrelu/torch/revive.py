"""Start silent units anew, without changing what the network computes: fresh weights in, zero weights out.

After Sokar, Agarwal, Castro and Evci, "The Dormant Neuron Phenomenon in Deep Reinforcement Learning" (ICML 2023, ReDo).
The graph that `torch.fx` traces says which layer makes a unit and which layers take it; what it cannot say is left.
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from leakyrelu.census import Report
from leakyrelu.torch.layers import CenteredLeakyReLU
from leakyrelu.torch.norm import NormLeakyReLU
from leakyrelu.torch.rectifiers import FEEDING_MODULES, FUNCTIONS, READERS
from leakyrelu.torch.sight import Place
from leakyrelu.torch.tracing import trace
from leakyrelu.torch.watch import Site, site_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from leakyrelu.census import Layer

__all__ = ["Revival", "revive"]

_RECTIFIERS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, CenteredLeakyReLU)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_MAKERS = (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)
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
    **dict.fromkeys((F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d), "same"),
    **dict.fromkeys((F.max_pool1d, F.max_pool2d, F.max_pool3d), "window"),
    **dict.fromkeys((F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d), "window"),
    torch.flatten: "flatten",
    torch.mean: "mean",
}
_METHODS = {"mean": "mean", "flatten": "flatten", "view": "flatten", "reshape": "flatten", "contiguous": "same"}
_LOOKS = ("size", "dim", "numel")  # they read the shape, not the numbers


@dataclass(frozen=True)
class Revival:
    """What `revive` did. Its repr says it in words.

    Attributes
    ----------
    revived
        Indices of the units started anew, by the layer's name in the report.
    left
        (layer, indices, reason) for silent units that were left as they are.
    optimizer
        What was reset in the optimizer's state, in words.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import diagnose, revive
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = nn.init.constant_(model[0].bias[:3], -100.0)
    >>> done = revive(model, diagnose(model, torch.randn(200, 4)))
    >>> done.revived, done.units
    ({'1': (0, 1, 2)}, 3)
    """

    revived: Mapping[str, tuple[int, ...]]
    left: tuple[tuple[str, tuple[int, ...], str], ...]
    optimizer: tuple[str, ...]

    @property
    def units(self) -> int:
        """Units started anew, of all layers together."""
        return sum(len(units) for units in self.revived.values())

    def __repr__(self) -> str:
        left = sum(len(units) for _, units, _ in self.left)
        lines = [f"{self.units} units started anew, {left} left"]
        lines += [f"  anew  {name}: {len(units)} units" for name, units in self.revived.items()]
        lines += [f"  left  {name}: {len(units)} units, {reason}" for name, units, reason in self.left]
        lines += [f"  {line}" for line in self.optimizer]
        return "\n".join(lines)


def revive(
    model: nn.Module,
    report: Report,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    initializer: Callable[[nn.Module], object] | None = None,
    fold_mean: bool = False,
) -> Revival:
    """Start the silent units of a report anew: weights in fresh, weights out zero, optimizer state of both forgotten.

    A silent ReLU unit gives out 0 on all data seen, so its outgoing weights may become 0 without any change; behind
    these zeros its incoming weights may be anything. The network computes what it computed, on the data of the report
    and in evaluation mode, and the unit learns again: first its outgoing weights, then the others. A unit of slope
    alpha > 0 gives out ``alpha * x`` instead, and cutting it off changes the network: it is left unless `fold_mean`.

    Of each unit are reset: the rows of weight and bias of the layer that makes it (drawn as ``reset_parameters`` of
    that layer draws them); mean, variance, weight and bias of a batch norm between the two or behind the activation;
    the columns of the layers that take it, through pooling, dropout, and a flatten in front of a linear layer. Left,
    with the reason: units whose maker or takers are not such layers (a residual addition, a concatenation, the
    network's output, a layer norm in between), layers used in several places or tied, and models that `torch.fx` cannot
    trace. A function, such as ``F.relu(self.conv1(x))``, is as good as a module, unless it is called elsewhere in
    training than in evaluation.

    Parameters
    ----------
    model
        The model that `report` is of. It is changed.
    report
        What `leakyrelu.torch.diagnose` or `watch` gave. Layers are found by their names there.
    optimizer
        The one that trains the model. Its state is reset at the entries that changed: momentum, first and second
        moments and the like, every tensor of the parameter's shape, become 0. The step count is one number a parameter
        and stays, so Adam's correction of its bias is over: its first update of such an entry is
        (1 - beta1) / sqrt(1 - beta2) = 3.2 learning rates instead of one.
    initializer
        Draws fresh parameters of a module given to it (a copy of the layer), in place of its ``reset_parameters``.
    fold_mean
        Also units of slope > 0: what they gave out on average is added to the next bias, and what they deviated from
        it is lost, which is a change of the size of their `output_std`. Not through a pooling with windows or in front
        of a convolution that pads, where a mean is not one number.

    Returns
    -------
    Revival
        What was revived, left (and why) and reset; prints as a short report.

    Raises
    ------
    TypeError
        `model` is not a module, `report` no report, or `optimizer` no optimizer.
    ValueError
        The optimizer holds no parameter of the model.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import diagnose, revive
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = nn.init.constant_(model[0].bias[:3], -100.0)
    >>> x = torch.randn(200, 4)
    >>> before = model(x)
    >>> revive(model, diagnose(model, x))
    3 units started anew, 0 left
      anew  1: 3 units
    >>> torch.allclose(model(x), before), diagnose(model, x).silent
    (True, 0)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if not isinstance(report, Report):
        raise TypeError(f"report must be what diagnose or watch returned, a Report, not {type(report).__name__}")
    if optimizer is not None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
        mine = {id(parameter) for parameter in model.parameters()}
        if not any(id(p) in mine for group in optimizer.param_groups for p in group["params"]):
            raise ValueError("the optimizer holds no parameter of this model: give the one that trains it")
    silent = [layer for layer in report.layers if len(layer.silent_units)]
    left: list[tuple[str, tuple[int, ...], str]] = []
    plans: list[_Plan] = []
    if silent:
        graph = _trace(model, [layer.name for layer in report.layers])
        for layer in silent:
            units = tuple(int(unit) for unit in layer.silent_units)
            try:
                if isinstance(graph, str):
                    raise _LeftError(graph)
                plans.append(graph.plan(layer, units, fold_mean))
            except _LeftError as reason:
                left.append((layer.name, units, str(reason)))
    changed = _Changed()
    with torch.no_grad():
        # Fresh rows of every layer first, zero columns after them: a revived unit may feed a revived unit.
        for plan in plans:
            plan.fold()
        for plan in plans:
            plan.renew(initializer, changed)
        for plan in plans:
            plan.cut(changed)
    words = changed.forget(optimizer) if optimizer is not None and plans else ()
    return Revival({plan.name: plan.units for plan in plans}, tuple(left), tuple(words))


class _LeftError(Exception):
    """Why a layer's units are left."""


class _Taker(NamedTuple):
    """A layer that takes the units: its inputs `first`, `first` + 1, ... up to `each` of them are one unit."""

    module: nn.Module
    each: int
    constants: Tensor | None  # what the units give out, where that is not 0


@dataclass
class _Plan:
    name: str
    units: tuple[int, ...]
    maker: nn.Module
    norms: list[nn.Module]
    takers: list[_Taker]

    def fold(self) -> None:
        """Put what the units give out into the bias of what takes them."""
        for module, each, constants in self.takers:
            if constants is None:
                continue
            weight, bias = _parameter(module, "weight"), _parameter(module, "bias")
            if isinstance(module, nn.Linear):
                columns = _columns(self.units, each)
                bias += weight[:, columns] @ constants.repeat_interleave(each).to(weight)
            else:
                whole = weight.flatten(2).sum(2)
                for unit, constant in zip(self.units, constants.tolist(), strict=True):
                    rows, column = _kernel(module, unit)
                    if isinstance(module, _TRANSPOSED):
                        raise AssertionError("a transposed convolution is never folded into")
                    bias[rows] += whole[rows, column] * constant

    def renew(self, initializer: Callable[[nn.Module], object] | None, changed: _Changed) -> None:
        fresh = copy.deepcopy(self.maker)
        (initializer or _reset)(fresh)
        rows = list(self.units)
        for name in ("weight", "bias"):
            parameter = getattr(self.maker, name, None)
            if parameter is None:
                continue
            drawn = getattr(fresh, name)
            if name == "weight" and isinstance(self.maker, _TRANSPOSED):
                per = parameter.shape[1]
                for unit in rows:
                    group, column = divmod(unit, per)
                    size = parameter.shape[0] // self.maker.groups
                    where = (slice(group * size, (group + 1) * size), column)
                    parameter[where] = drawn[where]
                    changed.add(parameter, where)
            else:
                parameter[rows] = drawn[rows]
                changed.add(parameter, (rows,))
        for norm in self.norms:
            for name, value in (("running_mean", 0.0), ("running_var", 1.0), ("weight", 1.0), ("bias", 0.0)):
                tensor = getattr(norm, name, None)
                if tensor is not None:
                    tensor[rows] = value
                    changed.add(tensor, (rows,))

    def cut(self, changed: _Changed) -> None:
        for module, each, _ in self.takers:
            weight = _parameter(module, "weight")
            where: tuple[Any, ...]
            if isinstance(module, nn.Linear):
                where = (slice(None), _columns(self.units, each))
                weight[where] = 0.0
                changed.add(weight, where)
            else:
                for unit in self.units:
                    where = (unit,) if isinstance(module, _TRANSPOSED) else _kernel(module, unit)
                    weight[where] = 0.0
                    changed.add(weight, where)


class _Changed:
    """Entries of parameters that were set."""

    def __init__(self) -> None:
        self.entries: list[tuple[Tensor, tuple[Any, ...]]] = []

    def add(self, tensor: Tensor, where: tuple[Any, ...]) -> None:
        self.entries.append((tensor, where))

    def forget(self, optimizer: torch.optim.Optimizer) -> Iterator[str]:
        """Put the optimizer's memory of these entries back to where it starts."""
        starts = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        names: set[str] = set()
        steps = False
        for parameter, where in self.entries:
            state = optimizer.state.get(parameter, {})
            for name, value in state.items():
                if not isinstance(value, Tensor):
                    continue
                if value.shape == parameter.shape and value.ndim:
                    # Adagrad's sum starts at a number of the user's, everything else at 0.
                    group = starts.get(id(parameter), {})
                    value[where] = float(group.get("initial_accumulator_value", 0.0)) if name == "sum" else 0.0
                    names.add(name)
                elif name == "step":
                    steps = True
        if names:
            yield f"optimizer ({type(optimizer).__name__}): {', '.join(sorted(names))} of these entries reset"
        if steps and "exp_avg_sq" in names:
            yield "  step is one number a parameter and stays: their first updates can exceed the learning rate"


class _Graph:
    """The model as `torch.fx` sees it."""

    def __init__(self, model: nn.Module, graph: torch.fx.Graph, names: Iterable[str]) -> None:
        self.model = model
        self.names = tuple(names)  # of all layers of the report
        self.modules = dict(model.named_modules(remove_duplicate=False))
        self.nodes = list(graph.nodes)
        calls = [self.modules[node.target] for node in self.nodes if node.op == "call_module"]
        self.uses = {id(module): sum(other is module for other in calls) for module in calls}
        owners: dict[int, set[int]] = {}
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                owners.setdefault(id(parameter), set()).add(id(module))
        self.tied = {key for key, modules in owners.items() if len(modules) > 1}

    def plan(self, layer: Layer, units: tuple[int, ...], fold_mean: bool) -> _Plan:
        node = self._node(layer.name)
        slopes = torch.as_tensor(layer.negative_slope, dtype=torch.float64).expand(layer.units)[list(units)]
        constants = torch.zeros(len(units), dtype=torch.float64)
        means = torch.from_numpy(layer.output_mean[list(units)].copy())
        sloped = bool((slopes != 0).any()) or isinstance(self._module(node), CenteredLeakyReLU)
        if sloped or bool((means != 0).any()):
            if not fold_mean:
                what = "slope * x" if sloped else "a constant"
                raise _LeftError(
                    f"they still give out {what}, so cutting them off would change the network: train on, "
                    "or call revive with fold_mean=True"
                )
            constants = means
        maker, norms = self._maker(node, layer.units)
        takers: list[_Taker] = []
        each = 1 if isinstance(maker, nn.Linear) else None
        self._follow(node, units, layer.units, each, constants, norms, takers)
        if not takers:
            raise _LeftError("nothing takes their output")
        return _Plan(layer.name, units, maker, norms, takers)

    def _node(self, name: str) -> torch.fx.Node:
        target, _, feeder = name.partition(" after ")
        found = [node for node in self.nodes if self._target(node) == target]
        if feeder:
            found = [node for node in found if self._target(_first_input(node)) == feeder]
        if len(found) != 1:
            if not found and "()" in target:
                return self._call(name)
            raise _LeftError(
                f"the activation is called {len(found)} times" if found else "there is no module of that name"
            )
        node: torch.fx.Node = found[0]
        return node

    def _call(self, name: str) -> torch.fx.Node:
        """Find the call of a function by the name that `watch` gave it."""
        base = name.partition("()")[0] + "()"
        calls = {other: nodes for other, nodes in self._calls.items() if other.startswith(base)}
        if not calls:
            raise _LeftError("the activation is a call of a function, not a module")
        if set(calls) != {other for other in self.names if other.startswith(base)}:
            raise _LeftError(f"torch.fx sees other calls of {base} than the report")
        if len(calls[name]) != 1:
            raise _LeftError(f"the activation is called {len(calls[name])} times")
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
                raise _LeftError("the model calls other functions in training than in evaluation")
        names = site_names(list(sites))
        return {names[site]: nodes for site, nodes in sites.items()}

    def _sites(self, nodes: Iterable[torch.fx.Node]) -> dict[Site, list[torch.fx.Node]]:
        sites: dict[Site, list[torch.fx.Node]] = {}
        for node in nodes:
            kind = _rectifier(node)
            if kind is not None:
                inside, line = node.meta["caller"]
                place = Place(f"{inside}.{kind}()" if inside else f"{kind}()", line)
                sites.setdefault(Site(place, self._feeder(node), 0), []).append(node)
        return sites

    def _feeder(self, node: torch.fx.Node) -> str | None:
        """Name the layer whose output this takes, as `watch` sees it: in evaluation dropout gives out its input."""
        before = _first_input(node)
        while before is not None and isinstance(self._module(before), _DROPOUTS):
            before = _first_input(before)
        feeds = before is not None and isinstance(
            self._module(before), tuple(kind for kinds, _ in FEEDING_MODULES for kind in kinds)
        )
        return self._target(before) if feeds else None

    @staticmethod
    def _target(node: torch.fx.Node | None) -> str | None:
        return str(node.target) if node is not None and node.op == "call_module" else None

    def _module(self, node: torch.fx.Node) -> nn.Module | None:
        return self.modules.get(str(node.target)) if node.op == "call_module" else None

    def _maker(self, node: torch.fx.Node, units: int) -> tuple[nn.Module, list[nn.Module]]:
        norms: list[nn.Module] = []
        while True:
            before = _first_input(node)
            if before is None:
                raise _LeftError("what makes them is not known")
            if len([user for user in before.users if not _looks(user)]) > 1:
                raise _LeftError(f"what makes them, {_name(before)}, is used elsewhere too")
            module = self._module(before)
            if module is None:
                raise _LeftError(f"they come out of {_name(before)}, not out of a layer")
            self._own(module, before)
            if isinstance(module, _MAKERS):
                if _outputs(module) != units:
                    raise _LeftError(f"the report counts {units} units, and {before.target} makes {_outputs(module)}")
                return module, norms
            if isinstance(module, _BATCH_NORMS):
                norms.append(module)
            elif not isinstance(module, _DROPOUTS):
                raise _LeftError(f"between them and their weights stands {before.target} ({type(module).__name__})")
            node = before

    def _own(self, module: nn.Module, node: torch.fx.Node) -> None:
        if self.uses.get(id(module), 0) > 1 and isinstance(module, (*_MAKERS, *_BATCH_NORMS)):
            raise _LeftError(f"{node.target} is used in several places")
        if any(id(parameter) in self.tied for parameter in module.parameters()):
            raise _LeftError(f"the weights of {node.target} are tied to those of another layer")
        if torch.nn.utils.parametrize.is_parametrized(module) or hasattr(module, "weight_g"):
            raise _LeftError(f"the weights of {node.target} are parametrized")

    def _follow(
        self,
        node: torch.fx.Node,
        units: tuple[int, ...],
        channels: int,
        each: int | None,
        constants: Tensor,
        norms: list[nn.Module],
        takers: list[_Taker],
    ) -> None:
        """Walk to everything that takes the units, noting what must be reset on the way.

        `each` is how many inputs of a linear layer are one unit: 1 behind a linear layer, 0 for as many as come out
        behind a flattened convolution, None where they still are channels.
        """
        for user in node.users:
            if _looks(user):
                continue
            module = self._module(user)
            kind = self._kind(user, module)
            if module is not None and (isinstance(module, _MAKERS) or kind == "norm"):
                self._own(module, user)
            if module is not None and isinstance(module, _MAKERS):
                takers.append(self._taker(module, user, channels, each, constants))
            elif module is not None and kind == "norm":
                if _parameters_of(module) not in (None, channels):
                    raise _LeftError(f"{user.target} does not keep them apart")
                after = _normalized(module, units, constants)
                norms.append(module)
                self._follow(user, units, channels, each, after, norms, takers)
            elif kind == "window" and bool((constants != 0).any()):
                raise _LeftError(f"the mean cannot be folded through {_name(user)}")
            elif kind in ("same", "window"):
                self._follow(user, units, channels, each, constants, norms, takers)
            elif kind == "mean" and each is None:
                self._follow(user, units, channels, 1, constants, norms, takers)
            elif kind == "flatten":
                self._follow(user, units, channels, each or 0, constants, norms, takers)
            elif user.op == "output":
                raise _LeftError("they are the network's output")
            else:
                raise _LeftError(f"their output goes into {_name(user)}")

    def _taker(
        self, module: nn.Module, user: torch.fx.Node, channels: int, each: int | None, constants: Tensor
    ) -> _Taker:
        inputs: int = module.in_features if isinstance(module, nn.Linear) else int(module.in_channels)  # type: ignore[arg-type]
        if each == 0 and inputs % channels == 0:
            each = inputs // channels
        linear = isinstance(module, nn.Linear)
        if linear != (each is not None) or inputs != channels * (each or 1):
            raise _LeftError(f"{user.target} takes {inputs} inputs, which are not {channels} units")
        if not bool((constants != 0).any()):
            return _Taker(module, each or 1, None)
        if getattr(module, "bias", None) is None:
            raise _LeftError(f"what they give out on average cannot be folded into {user.target}: it has no bias")
        padded = getattr(module, "padding", 0)
        if isinstance(module, _TRANSPOSED) or (isinstance(module, _CONVOLUTIONS) and padded not in ("valid", 0)):
            flat = padded if isinstance(padded, tuple) else (padded,)
            if isinstance(module, _TRANSPOSED) or any(flat):
                raise _LeftError(f"what they give out on average cannot be folded into {user.target}: it pads")
        return _Taker(module, each or 1, constants)

    def _kind(self, node: torch.fx.Node, module: nn.Module | None) -> str:
        if module is not None:
            for kinds, name in (
                (_BATCH_NORMS, "norm"),
                ((*_DROPOUTS, *_AVERAGES), "same"),
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
        if node.target in ("view", "reshape"):
            return kind if len(rest) == 2 and rest[1] == -1 else ""
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


def _trace(model: nn.Module, names: Iterable[str]) -> _Graph | str:
    if any(isinstance(module, NormLeakyReLU) for module in model.modules()):
        return (
            "the model holds layers that save_memory joined: take them apart with restore(model), diagnose it again, "
            "and call save_memory afterwards"
        )
    try:
        return _Graph(model, trace(model, _is_leaf), names)
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        return f"torch.fx cannot trace the model ({type(error).__name__}: {first})"


def _reset(module: nn.Module) -> None:
    module.reset_parameters()  # type: ignore[operator]


def _parameter(module: nn.Module, name: str) -> Tensor:
    tensor = getattr(module, name)
    assert isinstance(tensor, Tensor)
    return tensor


def _outputs(module: nn.Module) -> int:
    return int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)  # type: ignore[arg-type]


def _parameters_of(norm: nn.Module) -> int | None:
    number = getattr(norm, "num_features", None)
    return int(number) if number is not None else None


def _columns(units: Sequence[int], each: int) -> list[int]:
    return [unit * each + i for unit in units for i in range(each)]


def _kernel(module: nn.Module, unit: int) -> tuple[slice, int]:
    """Rows and column of a convolution's weight that take this input channel."""
    groups = int(module.groups)  # type: ignore[arg-type]
    group, column = divmod(unit, int(module.in_channels) // groups)  # type: ignore[arg-type]
    size = int(module.out_channels) // groups  # type: ignore[arg-type]
    return slice(group * size, (group + 1) * size), column


def _normalized(norm: nn.Module, units: Sequence[int], constants: Tensor) -> Tensor:
    """Send constants through a batch norm in evaluation mode."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise _LeftError(f"a {type(norm).__name__} behind them keeps no statistics, so what it makes of 0 is not fixed")
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


def _name(node: torch.fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target)
    if node.op == "placeholder":
        return "the network's input"
    if node.target in (operator.add, operator.iadd, torch.add):
        return "an addition"
    return getattr(node.target, "__name__", str(node.target)) + "()"
