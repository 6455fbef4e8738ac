"""What takes the output of each normalization of a model, observed while it runs on an example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from leakyrelu.torch._compat import version_of
from leakyrelu.torch.graph.functions import name_of
from leakyrelu.torch.graph.tracing import call_model
from leakyrelu.torch.normalization.deferred import LEAKY_FUNCTIONS, DeferredNorm
from leakyrelu.torch.rewrite.exchange import exchange, replace
from leakyrelu.torch.rewrite.outcome import preserved_buffers

if TYPE_CHECKING:
    from torch import nn

    from leakyrelu.torch.normalization.deferred import Run


def observed(
    model: nn.Module,
    names: dict[nn.Module, list[str]],
    norms: list[nn.Module],
    example: Any,
    left: dict[nn.Module, str],
) -> list[nn.Module]:
    """Return the normalizations whose output goes to one Leaky ReLU in each call; put reasons of others into `left`."""
    trials = {norm: DeferredNorm(norm) for norm in norms}
    steps = [exchange(names[norm], norm, trial) for norm, trial in trials.items()]
    for trial in trials.values():
        trial.runs = []
    replace(model, steps)
    try:
        with preserved_buffers(model), torch.enable_grad():
            result = call_model(model, example)
    except Exception:
        # What a normalization cannot wait for; the model ran before, so that it is one of these.
        return []
    finally:
        replace(model, steps, undo=True)
    del result
    found = []
    for norm, trial in trials.items():
        reasons = [reason for run in trial.runs or () if (reason := _obstacle(run)) is not None]
        if trial.runs and not reasons:
            found.append(norm)
        elif reasons:
            left[norm] = reasons[0]
    return found


def _obstacle(run: Run) -> str | None:
    if not run.takers:
        return "its output is the model's own, or nothing takes it"
    if len(run.takers) > 1:
        return f"its output is used {len(run.takers)} times"
    function, output, version = run.takers[0]
    if function not in LEAKY_FUNCTIONS or not run.is_activated:
        return f"a call of {name_of(function)} comes after it, not a Leaky ReLU of positive slope"
    if version_of(output) != version:
        return "the output of its activation is changed in place, which the backward pass would need"
    return None
