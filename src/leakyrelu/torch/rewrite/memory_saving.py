"""Rewriting of a whole network so that it keeps less for the backward pass, and the way back.

Which activation follows which normalization is read off the calls: `torch.fx` traces the largest parts of the network
that it can, in training and in evaluation mode; in an `nn.Sequential` that it cannot trace, each layer follows the one
before it. A pair is joined only where every call agrees.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from leakyrelu._checks import is_number
from leakyrelu._text import counted, first_line
from leakyrelu.torch._checks import require_module
from leakyrelu.torch._compat import share_parameters, tree_leaves
from leakyrelu.torch.activations.layers import LeakyReLU, PReLU
from leakyrelu.torch.graph.neighbors import Neighbors, hooks_obstacle
from leakyrelu.torch.graph.tracing import call_model, preserved_random_state
from leakyrelu.torch.normalization.kinds import NORMS
from leakyrelu.torch.normalization.layer import NormLeakyReLU

__all__ = ["Saving", "restore", "save_memory"]


_UNUSED = "no call of it was seen"
_OTHER = (nn.ReLU, nn.ReLU6, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU)


@dataclass(frozen=True)
class Saving:
    """The result of `save_memory`: what was changed and what was left. Its repr is a report.

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
        pairs, lone = counted(len(self.joined), "pair"), counted(len(self.swapped), "Leaky ReLU")
        lines = [f"{pairs} joined, {lone} swapped, {len(self.left)} left"]
        lines += [f"  joined  {norm} + {activation}" for norm, activation in self.joined]
        lines += [f"  swapped {name}" for name in self.swapped]
        lines += [f"  left    {name or '(model)'}: {reason}" for name, reason in self.left]
        return "\n".join(lines)


class Absorbed(nn.Identity):
    """An identity in place of a Leaky ReLU that the normalization before it computes now."""

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
    1 pair joined, 1 Leaky ReLU swapped, 0 left
      joined  1 + 2
      swapped 4
    >>> restore(model)
    3
    """
    require_module(model)
    neighbors = Neighbors()
    neighbors.visit(model)
    names = _names(model)
    pairs, reasons = _pairs(neighbors, list(names))

    steps: defaultdict[nn.Module, list[_Exchange]] = defaultdict(list)
    left = []
    for module, own in names.items():
        if module in pairs:
            new = NormLeakyReLU(module, float(pairs[module].negative_slope))
            object.__setattr__(new, "_original", module)
            steps[pairs[module]].append(_Exchange(own, module, new))
        elif module in pairs.values():
            steps[module].append(_Exchange(own, module, Absorbed(module)))
        elif type(module) in (nn.LeakyReLU, nn.PReLU):
            reason = hooks_obstacle(module) or ("it is the model itself" if "" in own else None)
            if reason is None and type(module) is nn.PReLU and module in neighbors.overwritten:
                reason = (
                    f"{neighbors.overwritten[module]} changes its output in place, which the backward pass would need"
                )
            if reason is None:
                steps[module] = [_Exchange(own, module, _standalone(module))]
            else:
                left.append((own[0], reason))
        elif module in reasons:
            left.append((own[0], reasons[module]))

    before = {} if example is None else _outcome(model, example)
    for step in steps.values():
        _replace(model, step)
    if example is not None and _difference(before, model, example) is not None:
        _apply_one_by_one(model, steps, example, before, left)
    joined = [
        (exchange.names[0], names[activation][0])
        for activation, step in steps.items()
        for exchange in step
        if isinstance(exchange.new, NormLeakyReLU)
    ]
    swapped = [step[0].names[0] for step in steps.values() if isinstance(step[0].new, LeakyReLU | PReLU)]
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
    require_module(model)
    changed = [
        _Exchange(names, original.train(module.training), module)
        for module, names in _names(model).items()
        if isinstance(original := vars(module).get("_original"), nn.Module)
    ]
    _replace(model, changed, undo=True)
    return len(changed)


class _Exchange(NamedTuple):
    """A module under all its names, and the one in its place."""

    names: list[str]
    old: nn.Module
    new: nn.Module


def _names(model: nn.Module) -> dict[nn.Module, list[str]]:
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return names


def _replace(model: nn.Module, step: list[_Exchange], undo: bool = False) -> None:
    """Replace modules together: an activation, and the normalizations that compute it from then on."""
    for names, old, new in step:
        for name in names:
            parent, _, child = name.rpartition(".")
            model.get_submodule(parent).register_module(child, old if undo else new)


def _apply_one_by_one(
    model: nn.Module,
    steps: dict[nn.Module, list[_Exchange]],
    example: Any,
    before: dict[str, Tensor],
    left: list[tuple[str, str]],
) -> None:
    """Undo all steps, and apply again those that do not change the outcome on the example."""
    for step in steps.values():
        _replace(model, step, undo=True)
    for key, step in list(steps.items()):
        _replace(model, step)
        if (reason := _difference(before, model, example)) is not None:
            _replace(model, step, undo=True)
            left += [(exchange.names[0], reason) for exchange in step if not isinstance(exchange.new, Absorbed)]
            del steps[key]


def _standalone(module: Any) -> nn.Module:
    new: nn.Module
    if isinstance(module, nn.LeakyReLU):
        new = LeakyReLU(module.negative_slope, module.inplace)
    else:
        new = PReLU(device="meta")
        new.num_parameters = module.num_parameters
        share_parameters(new, module)
    object.__setattr__(new, "_original", module)
    return new.train(module.training)


def _pairs(neighbors: Neighbors, modules: list[nn.Module]) -> tuple[dict[nn.Module, Any], dict[nn.Module, str]]:
    """Return the pairs to join, and the reasons why other normalizations are left."""
    pairs: dict[Any, Any] = {}
    reasons: dict[nn.Module, str] = {}
    for norm in modules:
        if not isinstance(norm, NORMS):
            continue
        successors = neighbors.after.get(norm, [_UNUSED])
        texts = [successor for successor in successors if isinstance(successor, str)]
        reason = texts[0] if texts else None
        if type(norm) not in NORMS:
            reason = f"{type(norm).__name__} is a subclass of {type(norm).__mro__[1].__name__} and may do more"
        elif reason is None and len(set(successors)) > 1:
            reason = "different calls of it go to different layers"
        reason = reason or hooks_obstacle(norm) or _not_invertible(successors[0])
        if reason is None and (by := neighbors.overwritten.get(successors[0])) is not None:  # type: ignore[arg-type]
            reason = f"{by} changes the output of its activation in place, which the backward pass would need"
        if reason is None:
            pairs[norm] = successors[0]
        else:
            reasons[norm] = reason
    # An activation with another producer has to stay, and then it can be joined with no normalization.
    while unfit := [
        norm
        for norm, activation in pairs.items()
        if any(pairs.get(producer) is not activation for producer in neighbors.before.get(activation, []))
    ]:
        for norm in unfit:
            del pairs[norm]
            reasons[norm] = "its activation is also called on something else, so it has to stay"
    return pairs, reasons


def _not_invertible(activation: Any) -> str | None:
    """Return why a layer after a normalization is no Leaky ReLU that can be inverted, or None."""
    kind = type(activation)
    if kind in (nn.LeakyReLU, LeakyReLU):
        slope = activation.negative_slope
        if not (is_number(slope) and slope > 0 and math.isfinite(slope)):
            return f"the slope of its activation is {slope}, which is not positive and finite: there is no inverse"
        return hooks_obstacle(activation)
    if isinstance(activation, nn.LeakyReLU):
        return f"its activation is a {kind.__name__}, a subclass of nn.LeakyReLU, and may do more"
    if isinstance(activation, _OTHER):
        return f"{kind.__name__} comes after it, which is no Leaky ReLU of fixed positive slope and has no such inverse"
    return f"{kind.__name__} comes after it, not a Leaky ReLU"


def _outcome(model: nn.Module, example: Any) -> dict[str, Tensor]:
    """Run the model forward and backward; leave buffers, gradients and generators of random numbers as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
    try:
        with preserved_random_state(), torch.enable_grad():
            leaves = [t for t in tree_leaves(call_model(model, example)) if isinstance(t, torch.Tensor)]
            results = {f"output {k}": t for k, t in enumerate(leaves) if t.is_floating_point()}
            # Not the plain sum, which a normalization makes constant.
            total = sum(
                (t * torch.arange(t.numel(), device=t.device).view(t.shape).cos()).sum() for t in results.values()
            )
            if isinstance(total, torch.Tensor) and total.requires_grad:
                grads = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
                results |= {
                    f"the gradient of {name}": grad
                    for name, grad in zip(parameters, grads, strict=True)
                    if grad is not None
                }
    finally:
        with torch.no_grad():
            for buffer, kept in buffers:
                buffer.copy_(kept)
    return {name: result.detach().cpu() for name, result in results.items()}


def _difference(before: dict[str, Tensor], model: nn.Module, example: Any) -> str | None:
    """Return what differs from the outcome before by more than the root of the dtype's eps, or None."""
    try:
        after = _outcome(model, example)
    except RuntimeError as error:
        return f"with it the example raises: {first_line(error, 120)}"
    # All gradients together: one that should be 0, such as that of a bias before a normalization, is rounding.
    gradients = torch.stack(
        [torch.zeros(()).double(), *(_size(t) for name, t in before.items() if name.startswith("the gradient"))]
    )
    for name, old in before.items():
        new = after.get(name)
        if new is None or new.shape != old.shape:
            return f"with it {name} is missing"
        # Where the example makes NaN or infinity, there is nothing to compare.
        apart = torch.where(old.isfinite(), new.double() - old.double(), 0.0).norm()
        size = gradients.norm() if name.startswith("the gradient") else _size(old)
        eps = torch.finfo(old.dtype).eps
        if not apart <= eps**0.5 * size + eps:
            return f"with it {name} of the example differs"
    return None


def _size(values: Tensor) -> Tensor:
    size: Tensor = torch.where(values.isfinite(), values.double(), 0.0).norm()
    return size
