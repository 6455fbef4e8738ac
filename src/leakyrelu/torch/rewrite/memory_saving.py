"""Rewriting of a whole network so that it keeps less for the backward pass.

Which activation follows which normalization is read off the calls: `torch.fx` traces the largest parts of the network
that it can, in training and in evaluation mode; in an `nn.Sequential` that it cannot trace, each layer follows the one
before it. What it cannot trace is observed on an example, where there is one. A place is joined only where every call
agrees.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leakyrelu._text import counted
from leakyrelu.torch._checks import require_module
from leakyrelu.torch.activations.layers import LeakyReLU, PReLU
from leakyrelu.torch.graph.tracing import preserved_buffers
from leakyrelu.torch.memory_profile import activation_memory
from leakyrelu.torch.normalization.deferred import DeferredNorm
from leakyrelu.torch.normalization.layer import NormLeakyReLU
from leakyrelu.torch.rewrite.lone_activations import KINDS, Keepers, is_free, obstacle, replacement
from leakyrelu.torch.rewrite.module_exchange import Absorbed, Exchange, exchange, names_of, replace
from leakyrelu.torch.rewrite.observation import observed
from leakyrelu.torch.rewrite.outcome import Reference
from leakyrelu.torch.rewrite.places import Places
from leakyrelu.torch.rewrite.relu_replacement import Replacement
from leakyrelu.torch.rewrite.relu_replacement import replace_relu as replace_relus

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Saving", "save_memory"]


@dataclass(frozen=True)
class Saving:
    """The result of `save_memory`: what was changed and what was left. Its repr is a report.

    Attributes
    ----------
    joined
        (name of the normalization, name of the Leaky ReLU) for every normalization that is computed together with the
        Leaky ReLU behind it; ``leaky_relu()`` for a function.
    swapped
        Names of the Leaky ReLUs that keep one bit an element now, and of those with learned slopes (`nn.PReLU`), which
        keep their output.
    left
        (name, reason) for what was left as it is: normalizations, and activations that look like a Leaky ReLU.
    bytes_before, bytes_after
        What autograd keeps on the example, as `activation_memory` counts it; None without an example. Before: with the
        Leaky ReLUs of `replaced`.
    replaced
        What `replace_relu` did, where it was asked for.

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
    bytes_before: int | None = None
    bytes_after: int | None = None
    replaced: Replacement | None = None

    def __repr__(self) -> str:
        pairs, lone = counted(len(self.joined), "pair"), counted(len(self.swapped), "Leaky ReLU")
        lines = [] if self.replaced is None else [repr(self.replaced)]
        lines.append(f"{pairs} joined, {lone} swapped, {len(self.left)} left")
        if self.bytes_before and self.bytes_after is not None:
            share = self.bytes_after / self.bytes_before
            lines[-1] += f"; {self.bytes_after:,} of {self.bytes_before:,} bytes kept on the example ({share:.3f})"
        lines += [f"  joined  {norm} + {activation}" for norm, activation in self.joined]
        lines += [f"  swapped {name}" for name in self.swapped]
        by_reason: dict[str, list[str]] = defaultdict(list)
        for name, reason in self.left:
            by_reason[reason].append(name or "(model)")
        for reason, names in by_reason.items():
            shown = names[0] if len(names) == 1 else f"{len(names)} places ({', '.join(names[:_SHOWN])}"
            if len(names) > 1:
                shown += ", ...)" if len(names) > _SHOWN else ")"
            lines.append(f"  left    {shown}: {reason}")
        return "\n".join(lines)


_SHOWN = 3  # names of a reason


def save_memory(model: nn.Module, example: Any = None, *, replace_relu: float | None = None) -> Saving:
    """Rewrite a network, in place, so that its activations keep less memory for the backward pass.

    Every normalization whose output goes to a Leaky ReLU of positive slope, and nowhere else, is computed together with
    it and keeps the output alone. That holds for each place where an activation is called: a module, also one that is
    used in several places, or a function. An identity, a dropout of probability 0 and a reshape in between change
    nothing about it. Of the other activations, `nn.LeakyReLU` becomes `leakyrelu.torch.LeakyReLU`, which keeps one bit
    an element, and `nn.PReLU` becomes `leakyrelu.torch.PReLU`, which keeps its output, where that keeps less.
    Values, gradients and running statistics are the same within rounding. Parameters stay the same objects under the
    same names: optimizers go on, and checkpoints load both ways. `restore` puts the very same modules back.

    Normalizations are `nn.BatchNorm1d` to `3d`, `nn.SyncBatchNorm`, `nn.InstanceNorm1d` to `3d`, `nn.GroupNorm`, and
    the classes of timm, torchvision and transformers that compute the same (``BatchNormAct2d``, ``GroupNormAct``,
    ``FrozenBatchNorm2d`` and others). A subclass that is not known may do more, and is left.

    A place is joined only if nothing changes its output in place (``y += x``, an in-place dropout). The calls are
    followed with `torch.fx`, in training and in evaluation mode; hooks and buffers notice nothing of it. Where it
    cannot trace a module, its children are looked at one by one, and in an `nn.Sequential` each layer is taken to feed
    the next and nothing else; with an example, what takes the output of each normalization is observed instead.

    What looks for normalizations by their class passes a joined layer by: loops that freeze every `nn.BatchNorm2d`,
    `torch.optim.swa_utils.update_bn`, `nn.SyncBatchNorm.convert_sync_batchnorm`. Do these before `save_memory`, or
    after `restore`.

    Parameters
    ----------
    model
        Any module that contains others. It is changed.
    example
        An input (a tensor, a tuple or list of arguments, or a dict of keyword arguments) of the usual size. The model
        runs on it forward and backward in the mode it is in, before and after; buffers, gradients and the generators
        of random numbers are left as they were. If an output or a gradient of a parameter differs (by more than
        sqrt(eps) of the output, or of all gradients), or an error is raised, at the parameters as they are and at two
        random roundings of them, the changes are taken back and tried one by one, and those that make the difference
        are left and named. What autograd keeps is measured before and after, and changes that bring nothing are taken
        back. Without an example a Leaky ReLU in place stays, since the layer behind it may keep its output anyway.
    replace_relu
        A slope: `replace_relu` makes every ReLU a Leaky ReLU of it first, which is another function.

    Returns
    -------
    Saving
        The names of what was joined, swapped and left, and why, and the bytes kept; prints as a short report.

    Raises
    ------
    TypeError
        If `model` is not a module, or `replace_relu` is not a number.
    ValueError
        If `model` is itself an `nn.ReLU` that is to be replaced.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import restore, save_memory
    >>> model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.LeakyReLU(0.1), nn.Linear(8, 8), nn.LeakyReLU())
    >>> save_memory(model)
    1 pair joined, 1 Leaky ReLU swapped, 0 left
      joined  1 + 2
      swapped 4
    >>> restore(model)
    3
    >>> save_memory(nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU()), torch.randn(50, 3), replace_relu=0.01)
    nn.ReLU -> LeakyReLU(negative_slope=0.01): 1 swapped, 0 calls rewritten
      swapped    2
    A call such as torch.relu(x) in a forward method that torch.fx cannot trace stays a ReLU.
    1 pair joined, 0 Leaky ReLUs swapped, 0 left; 1,632 of 3,264 bytes kept on the example (0.500)
      joined  1 + 2
    """
    require_module(model)
    replaced = None if replace_relu is None else replace_relus(model, replace_relu)
    reference = None if example is None else Reference(model, example)
    bytes_before = None if example is None else _kept(model, example)
    names = names_of(model)
    places = Places(model, names, example is not None)
    steps = places.steps()
    left = places.left
    for step in steps.values():
        replace(model, step)
    if example is not None:
        for norm, behind in observed(model, names, places.unproven(), example, left).items():
            places.seen_behind[norm] = behind
            steps[norm] = [exchange(names[norm], norm, DeferredNorm(norm))]
            replace(model, steps[norm])
            del left[norm]
    left |= _swap(model, example, names, places, steps)

    if reference is not None and reference.difference() is not None:
        left |= _apply_one_by_one(model, steps, reference)
    bytes_after = None if example is None else _kept(model, example)
    if bytes_before is not None and bytes_after is not None and bytes_after > bytes_before:
        left |= _take_back(model, steps, example, bytes_after)
        bytes_after = _kept(model, example)
    joined = [
        (each.names[0], places.behind(each.old) if isinstance(each.new, DeferredNorm) else _behind(step, each, places))
        for step in steps.values()
        for each in step
        if isinstance(each.new, NormLeakyReLU | DeferredNorm)
    ]
    swapped = [step[0].names[0] for step in steps.values() if isinstance(step[0].new, LeakyReLU | PReLU)]
    order = {module: place for place, module in enumerate(names)}
    reasons = [(names[module][0], left[module]) for module in sorted(left, key=lambda module: order[module])]
    return Saving(tuple(joined), tuple(swapped), tuple(reasons), bytes_before, bytes_after, replaced)


def _behind(step: list[Exchange], norm: Exchange, places: Places) -> str:
    absorbed = next((each for each in step if isinstance(each.new, Absorbed)), None)
    return places.behind(norm.old) if absorbed is None else absorbed.names[0]


def _kept(model: nn.Module, example: Any) -> int:
    with preserved_buffers(model):
        return activation_memory(model, example).bytes


def _swap(
    model: nn.Module,
    example: Any,
    names: dict[nn.Module, list[str]],
    places: Places,
    steps: dict[nn.Module, list[Exchange]],
) -> dict[nn.Module, str]:
    """Exchange the activations that no normalization computes, where that saves memory; return those left, and why."""
    lone = [module for module in names if type(module) in KINDS and module not in steps and module not in places.inside]
    reasons = {module: obstacle(module, names[module], places.neighbors) for module in lone}
    fit = [module for module in lone if reasons[module] is None]
    keepers = Keepers(model, example, fit) if example is not None and fit else None
    for module in fit:
        if keepers.is_joined(module) if keepers is not None else places.is_behind(module, steps):
            continue
        if keepers is None:
            reasons[module] = is_free(module)
        elif not keepers.gains(module):
            reasons[module] = "what it keeps is kept anyway, by the layers around it"
        if reasons[module] is None:
            steps[module] = [exchange(names[module], module, replacement(module))]
            replace(model, steps[module])
    return {module: reason for module, reason in reasons.items() if reason is not None}


def _apply_one_by_one(
    model: nn.Module, steps: dict[nn.Module, list[Exchange]], reference: Reference
) -> dict[nn.Module, str]:
    """Undo all steps, and apply again those that do not change the outcome on the example; return the others."""
    left: dict[nn.Module, str] = {}
    for step in steps.values():
        replace(model, step, undo=True)
    for key, step in list(steps.items()):
        replace(model, step)
        if (reason := reference.difference()) is not None:
            replace(model, step, undo=True)
            left |= {each.old: reason for each in step if not isinstance(each.new, Absorbed)}
            del steps[key]
    return left


def _take_back(
    model: nn.Module, steps: dict[nn.Module, list[Exchange]], example: Any, kept: int
) -> dict[nn.Module, str]:
    """Undo the steps with which more is kept than without; return what was left so."""
    left: dict[nn.Module, str] = {}
    for key, step in list(steps.items()):
        replace(model, step, undo=True)
        without = _kept(model, example)
        if without < kept:
            kept = without
            reason = "more would be kept on the example"
            left |= {each.old: reason for each in step if not isinstance(each.new, Absorbed)}
            del steps[key]
        else:
            replace(model, step)
    return left
