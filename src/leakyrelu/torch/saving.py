"""Rewrite a whole network so that it keeps less for the backward pass, and undo it.

Which activation follows which normalization is read off the calls themselves: `torch.fx` follows the largest parts of
the network that it can trace, in training and in evaluation mode; in an `nn.Sequential` that it cannot trace, neighbors
follow each other. A pair is joined only where every call seen says the same.
"""

from __future__ import annotations

import inspect
import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from leakyrelu.torch.checking import difference, outcome
from leakyrelu.torch.layers import LeakyReLU, PReLU
from leakyrelu.torch.norm import NORMS, NormLeakyReLU
from leakyrelu.torch.tracing import HOOKS, trace

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Saving", "restore", "save_memory"]

_UNUSED = "no call of it was seen"
_OTHER = (nn.ReLU, nn.ReLU6, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU)
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


@dataclass(frozen=True)
class Saving:
    """What `save_memory` did. Its repr says it in words.

    Attributes
    ----------
    joined
        (name of the normalization, name of the Leaky ReLU) for every pair that is one layer now.
    swapped
        Names of the Leaky ReLUs that keep one bit an element now, and of those with learned slopes (`nn.PReLU`), which
        keep their output.
    left
        (name, reason) for what was left as it is: normalizations, and activations that look like a Leaky ReLU.

    Examples
    --------
    >>> from torch import nn
    >>> from leakyrelu.torch import save_memory
    >>> saving = save_memory(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LeakyReLU(), nn.LeakyReLU()))
    >>> saving.joined, saving.swapped, saving.left
    ((('1', '2'),), ('3',), ())
    """

    joined: tuple[tuple[str, str], ...]
    swapped: tuple[str, ...]
    left: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        lines = [f"{len(self.joined)} pairs joined, {len(self.swapped)} Leaky ReLUs swapped, {len(self.left)} left"]
        lines += [f"  joined  {norm} + {activation}" for norm, activation in self.joined]
        lines += [f"  swapped {name}" for name in self.swapped]
        lines += [f"  left    {name or '(model)'}: {reason}" for name, reason in self.left]
        return "\n".join(lines)


class Absorbed(nn.Identity):
    """Stands where a Leaky ReLU was that the normalization before it computes now; returns its input."""

    _original: nn.Module

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, "_original", original)
        self.training = original.training

    def extra_repr(self) -> str:
        """Return the layer that was here."""
        return repr(self._original)


def save_memory(model: nn.Module, example: Any = None) -> Saving:
    """Rewrite a network, in place, so that its activations keep less memory for the backward pass.

    Every normalization directly followed by a Leaky ReLU of positive slope becomes one `NormLeakyReLU`, which keeps its
    output alone; every other `nn.LeakyReLU` becomes `leakyrelu.torch.LeakyReLU`, which keeps one bit an element; and
    every `nn.PReLU` becomes `leakyrelu.torch.PReLU`, which keeps its output, unless something changes that in place.
    Values, gradients and running statistics are the same within rounding. Parameters stay the same objects under the
    same names: optimizers go on, and checkpoints load both ways. `restore` puts the very same modules back.

    A pair is joined only if every call of the normalization goes to that activation and nowhere else, every call of
    the activation comes from such a normalization, and nothing changes its output in place (``y += x``, an in-place
    dropout). The calls are followed with `torch.fx`, in training and in evaluation mode; hooks and buffers notice
    nothing of it. Where it cannot trace a module, its children are looked at one by one, and in an `nn.Sequential`
    each layer is taken to feed the next and nothing else: code that picks layers out of an untraceable model's
    `nn.Sequential` to use what is between them is seen with an `example` only. When in doubt the layers are left, with
    the reason.

    What looks for normalizations by their class passes a joined layer by: loops that freeze every `nn.BatchNorm2d`,
    `torch.optim.swa_utils.update_bn`, `nn.SyncBatchNorm.convert_sync_batchnorm`. Do these before `save_memory`, or
    after `restore`.

    Parameters
    ----------
    model
        Any module that contains others. It is changed.
    example
        For models that `torch.fx` cannot trace: an input (a tensor, a tuple or list of arguments, or a dict of keyword
        arguments) on which the rewriting is checked. The model runs forward and backward in the mode it is in, before
        and after; buffers, gradients and the generators of random numbers are left as they were. If an output or a
        gradient of a parameter differs (by more than sqrt(eps) of the output, or of all gradients), or an error is
        raised, the changes are taken back and tried one by one, and those that make the difference are left and named.

    Returns
    -------
    Saving
        The names of what was joined, swapped and left, and why; prints as a short report.

    Raises
    ------
    TypeError
        If `model` is not a module.

    Examples
    --------
    >>> from torch import nn
    >>> from leakyrelu.torch import restore, save_memory
    >>> model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.LeakyReLU(0.1), nn.Linear(8, 8), nn.LeakyReLU())
    >>> save_memory(model)
    1 pairs joined, 1 Leaky ReLUs swapped, 0 left
      joined  1 + 2
      swapped 4
    >>> restore(model)
    3
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}: {model!r}")
    calls = Calls()
    calls.follow(model)
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    pairs, reasons = _pairs(calls, list(names))

    steps: dict[nn.Module, _Step] = {}
    left = []
    for module, own in names.items():
        if module in pairs:
            activation = pairs[module]
            new: nn.Module = NormLeakyReLU(module, float(activation.negative_slope))
            object.__setattr__(new, "_original", module)
            step = steps.setdefault(activation, _Step())
            step.joined.append((own[0], names[activation][0]))
            step.parts.append((own, module, new))
        elif module in pairs.values():
            steps.setdefault(module, _Step()).parts.append((own, module, Absorbed(module)))
        elif type(module) in (nn.LeakyReLU, nn.PReLU):
            reason = _hooked(module) or ("it is the model itself" if "" in own else None)
            if reason is None and type(module) is nn.PReLU and module in calls.overwritten:
                reason = f"{calls.overwritten[module]} changes its output in place, which the backward pass would need"
            if reason is None:
                steps[module] = _Step([(own, module, _lone(module))], swapped=[own[0]])
            else:
                left.append((own[0], reason))
        elif module in reasons and reasons[module] is not None:
            left.append((own[0], reasons[module]))

    before = {} if example is None else outcome(model, example)
    for step in steps.values():
        step.do(model)
    if example is not None and difference(before, model, example) is not None:
        _do_one_by_one(model, steps, example, before, left)
    joined = [pair for step in steps.values() for pair in step.joined]
    swapped = [name for step in steps.values() for name in step.swapped]
    return Saving(tuple(joined), tuple(swapped), tuple(left))


def restore(model: nn.Module) -> int:
    """Undo `save_memory`: put the very same modules back, with the parameters and statistics of now.

    Parameters
    ----------
    model
        A model that `save_memory` rewrote, or a copy of it. It is changed.

    Returns
    -------
    int
        How many modules were put back; 0 if there was nothing to undo.

    Raises
    ------
    TypeError
        If `model` is not a module.

    Examples
    --------
    >>> from torch import nn
    >>> from leakyrelu.torch import restore, save_memory
    >>> act = nn.LeakyReLU(0.1)
    >>> model = nn.Sequential(nn.Linear(3, 4), act)
    >>> _ = save_memory(model)
    >>> restore(model), model[1] is act
    (1, True)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}: {model!r}")
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(vars(module).get("_original"), nn.Module):
            names.setdefault(module, []).append(name)
    for module, own in names.items():
        _put(model, own, vars(module)["_original"].train(module.training))
    return len(names)


@dataclass
class _Step:
    """Modules that change together: an activation, and the normalizations that take it over."""

    parts: list[tuple[list[str], nn.Module, nn.Module]] = field(default_factory=list)
    joined: list[tuple[str, str]] = field(default_factory=list)
    swapped: list[str] = field(default_factory=list)

    def do(self, model: nn.Module) -> None:
        for names, _, new in self.parts:
            _put(model, names, new)

    def undo(self, model: nn.Module) -> None:
        for names, old, _ in self.parts:
            _put(model, names, old)


def _do_one_by_one(
    model: nn.Module,
    steps: dict[nn.Module, _Step],
    example: Any,
    before: dict[str, Tensor],
    left: list[tuple[str, str]],
) -> None:
    """Take everything back, and do again what leaves the example as it was."""
    for step in steps.values():
        step.undo(model)
    for key, step in list(steps.items()):
        step.do(model)
        if (reason := difference(before, model, example)) is not None:
            step.undo(model)
            left += [(name, reason) for name in [norm for norm, _ in step.joined] or step.swapped]
            del steps[key]


def _lone(module: Any) -> nn.Module:
    new: nn.Module
    if isinstance(module, nn.LeakyReLU):
        new = LeakyReLU(module.negative_slope, module.inplace)
    else:
        new = PReLU(device="meta")
        new.num_parameters = module.num_parameters
        # The very dictionary, so that whatever replaces the parameter in one replaces it in both.
        object.__setattr__(new, "_parameters", module._parameters)
    object.__setattr__(new, "_original", module)
    return new.train(module.training)


def _put(model: nn.Module, names: list[str], new: nn.Module) -> None:
    for name in names:
        parent, _, child = name.rpartition(".")
        model.get_submodule(parent)._modules[child] = new


def _pairs(calls: Calls, modules: list[nn.Module]) -> tuple[dict[nn.Module, Any], dict[nn.Module, str]]:
    """Return the pairs to join, and why other normalizations are left."""
    pairs: dict[nn.Module, Any] = {}
    reasons: dict[nn.Module, str] = {}
    for norm in modules:
        if not isinstance(norm, NORMS):
            continue
        followers = calls.after.get(norm, [_UNUSED])
        texts = [follower for follower in followers if isinstance(follower, str)]
        reason = texts[0] if texts else None
        if type(norm) not in NORMS:
            reason = f"{type(norm).__name__} is a subclass of {type(norm).__mro__[1].__name__} and may do more"
        elif reason is None and len(set(followers)) > 1:
            reason = "different calls of it go to different layers"
        reason = reason or _hooked(norm) or _unfit(followers[0])
        if reason is None and (by := calls.overwritten.get(followers[0])) is not None:  # type: ignore[arg-type]
            reason = f"{by} changes the output of its activation in place, which the backward pass would need"
        if reason is None:
            pairs[norm] = followers[0]
        else:
            reasons[norm] = reason
    # An activation that anything else feeds, too, cannot be left out; nor then can it be joined elsewhere.
    stable = False
    while not stable:
        stable = True
        for norm, activation in list(pairs.items()):
            if any(
                not isinstance(feeder, nn.Module) or pairs.get(feeder) is not activation
                for feeder in calls.before.get(activation, [])
            ):
                del pairs[norm]
                reasons[norm] = "its activation is also called on something else, so it has to stay"
                stable = False
    return pairs, reasons


def _hooked(module: nn.Module) -> str | None:
    count = sum(len(getattr(module, hooks) or ()) for hooks in HOOKS)
    return f"it carries {count} hooks, which would see something else" if count else None


def _unfit(activation: Any) -> str | None:
    """Say why a layer after a normalization is no Leaky ReLU that can be inverted."""
    kind = type(activation)
    if kind in (nn.LeakyReLU, LeakyReLU):
        slope = activation.negative_slope
        if isinstance(slope, bool) or not isinstance(slope, int | float) or not (slope > 0 and math.isfinite(slope)):
            return f"the slope of its activation is {slope}, which is not positive and finite: there is no inverse"
        return _hooked(activation)
    if isinstance(activation, nn.LeakyReLU):
        return f"its activation is a {kind.__name__}, a subclass of nn.LeakyReLU, and may do more"
    if isinstance(activation, _OTHER):
        return f"{kind.__name__} comes after it, which is no Leaky ReLU of fixed positive slope and has no such inverse"
    return f"{kind.__name__} comes after it, not a Leaky ReLU"


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
        if module in self.seen or not module._modules:
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
        apart = {each for nodes in calls for node in nodes if (each := inside[node.target])._modules and _hooked(each)}
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
        chain = list(module._modules.values()) if type(module) is nn.Sequential else []
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
            if not chain and not each._modules:
                self.after.setdefault(each, []).append(why)
                self.before.setdefault(each, []).append(why)
            self.follow(each)


def _remedy(call: fx.Node) -> str:
    leaky = _name(call.target) in ("leaky_relu", "leaky_relu_")
    return "; make it a leakyrelu.torch.LeakyReLU, which can be joined with it" if leaky else ""


def _name(target: Any) -> str:
    return str(getattr(target, "__name__", target))


def _is_leaf(module: nn.Module) -> bool:
    return not module._modules or _hooked(module) is not None


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
