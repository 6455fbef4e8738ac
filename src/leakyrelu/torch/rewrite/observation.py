"""What takes the output of each normalization of a model, observed while it runs on an example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from leakyrelu.torch._compat import tree_leaves, version_of
from leakyrelu.torch.graph.functions import name_of
from leakyrelu.torch.graph.tracing import call_model, preserved_buffers
from leakyrelu.torch.normalization.deferred import LEAKY_FUNCTIONS, DeferredNorm, PendingOutput
from leakyrelu.torch.rewrite.module_exchange import exchange, replace

if TYPE_CHECKING:
    from leakyrelu.torch.normalization.deferred import Run


def observed(
    model: nn.Module,
    names: dict[nn.Module, list[str]],
    norms: list[nn.Module],
    example: Any,
    left: dict[nn.Module, str],
) -> dict[nn.Module, str]:
    """Find the normalizations whose output goes to one Leaky ReLU in each call, and the name of that.

    The reasons of the others are put into `left`.
    """
    trials = {norm: DeferredNorm(norm) for norm in norms}
    steps = [exchange(names[norm], norm, trial) for norm, trial in trials.items()]
    for trial in trials.values():
        trial.runs = []
    behind: dict[DeferredNorm, str] = {}

    def enter(module: nn.Module, args: Any) -> None:
        if args and isinstance(args[0], PendingOutput):
            behind.setdefault(args[0].layer, names[module][0])

    replace(model, steps)
    handles = [module.register_forward_pre_hook(enter) for module in names if isinstance(module, nn.LeakyReLU)]
    try:
        with preserved_buffers(model), torch.enable_grad():
            results = tree_leaves(call_model(model, example))
    except Exception:
        # One of the normalizations cannot wait: the model ran on the example before.
        return {}
    finally:
        for handle in handles:
            handle.remove()
        replace(model, steps, undo=True)
    given_out = [each.run for each in results if isinstance(each, PendingOutput)]
    found = {}
    for norm, trial in trials.items():
        reasons = [reason for run in trial.runs or () if (reason := _obstacle(run, given_out)) is not None]
        if trial.runs and not reasons:
            found[norm] = behind.get(trial, "leaky_relu()")
        elif reasons:
            left[norm] = reasons[0]
    return found


def _obstacle(run: Run, given_out: list[Run]) -> str | None:
    if not run.takers or any(run is each for each in given_out):
        return "its output is the model's own, or nothing takes it"
    if len(run.takers) > 1:
        return f"its output is used {len(run.takers)} times"
    function, output, version = run.takers[0]
    if function not in LEAKY_FUNCTIONS or not run.is_activated:
        return f"a call of {name_of(function)} comes after it, not a Leaky ReLU of positive slope"
    if version_of(output) != version:
        return "the output of its activation is changed in place, which the backward pass would need"
    return None
