"""A network beside its copy in float64: outputs, gradients and running statistics of one step, in both modes."""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.pairs.oracle import tensors
from benchmarks.storage import Timing

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("outputs", "gradients of inputs", "gradients of parameters", "running statistics")


def run(model: nn.Module, batch: Any) -> Any:
    """Run a network on a batch, with the same random numbers each time."""
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002 - the generator that networks use
    return model(**batch) if isinstance(batch, dict) else model(batch)


def differences(model: nn.Module, other: nn.Module, batch: Any) -> dict[str, float]:
    """Return the largest difference of each kind, relative to the largest value, in training and in evaluation."""
    found: dict[str, float] = {}
    for mode in (True, False):
        for kind, ours, theirs in zip(
            KINDS, _step(model.train(mode), batch), _step(other.train(mode), batch), strict=True
        ):
            if ours.keys() != theirs.keys():
                missing = sorted(ours.keys() ^ theirs.keys())
                raise ValueError(f"{kind} of one alone: {', '.join(missing)}")
            scale = max((float(_finite(each).abs().max()) for each in theirs.values() if each.numel()), default=0.0)
            for name, each in theirs.items():
                apart = _apart(ours[name], each) / (scale or 1.0)
                found[kind] = max(found.get(kind, 0.0), apart)
    return found


def _step(model: nn.Module, batch: Any) -> tuple[dict[str, Tensor], ...]:
    leaves = {
        key: each.detach().clone().requires_grad_(each.is_floating_point())
        for key, each in (batch if isinstance(batch, dict) else {"": batch}).items()
    }
    # What is changed in place is no leaf.
    given = {key: each * 1 if each.requires_grad else each for key, each in leaves.items()}
    outputs = dict(enumerate(tensors(run(model, given if isinstance(batch, dict) else given[""]))))
    loss = sum(
        (each * torch.arange(each.numel()).view(each.shape).cos()).sum()
        for each in outputs.values()
        if each.requires_grad
    )
    assert isinstance(loss, Tensor)
    model.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    inputs = {key: each.grad for key, each in leaves.items() if each.grad is not None}
    parameters = {key: each.grad for key, each in model.named_parameters() if each.grad is not None}
    buffers = {key: each.clone() for key, each in model.named_buffers() if "running_" in key}
    return {str(key): each.detach().double() for key, each in outputs.items()}, inputs, parameters, buffers


def _finite(values: Tensor) -> Tensor:
    return torch.where(values.isfinite(), values, 0.0)


def _apart(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference; infinite where one is finite alone, or the shapes differ."""
    if ours.shape != theirs.shape or not bool((ours.isfinite() == theirs.isfinite()).all()):
        return float("inf")
    return float((_finite(ours) - _finite(theirs)).abs().max()) if ours.numel() else 0.0


def time_steps(model: nn.Module, other: nn.Module, batch: Any, rounds: int) -> dict[str, Any]:
    """Time forward and backward passes of both, in turn: the median step of the other, and the ratios to it."""

    def step(network: nn.Module) -> None:
        outputs = [each for each in tensors(run(network, batch)) if each.requires_grad]
        network.zero_grad(set_to_none=True)
        torch.autograd.backward([each.sum() for each in outputs])

    ours: list[float] = []
    theirs: list[float] = []
    steps: list[tuple[Callable[[], None], list[float]]] = [
        (lambda: step(other), theirs),
        (lambda: step(model), ours),
    ]
    for number in range(rounds + 1):
        for function, times in steps if number % 2 else steps[::-1]:
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    ratios = Timing.of(one / two for one, two in zip(ours[1:], theirs[1:], strict=True))
    return {"step_ms": 1e3 * statistics.median(theirs[1:]), "ratio": ratios}
