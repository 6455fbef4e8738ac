"""Outcome of a model on an example: outputs, gradients, and whether two are the same within rounding."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from leakyrelu._text import first_line
from leakyrelu.torch._compat import tree_leaves
from leakyrelu.torch.graph.tracing import call_model, preserved_random_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn


_ROUNDINGS = 30
"""How many times what one rounding of each parameter makes is the rounding of a pair taken for."""


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


def outcome_of(model: nn.Module, example: Any) -> dict[str, Tensor]:
    """Run the model forward and backward; leave buffers, gradients and generators of random numbers as they were."""
    parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
    with preserved_buffers(model), torch.enable_grad():
        leaves = [t for t in tree_leaves(call_model(model, example)) if isinstance(t, torch.Tensor)]
        results = {f"output {k}": t for k, t in enumerate(leaves) if t.is_floating_point()}
        # Not the plain sum, which a normalization makes constant.
        total = sum((t * torch.arange(t.numel(), device=t.device).view(t.shape).cos()).sum() for t in results.values())
        if isinstance(total, torch.Tensor) and total.requires_grad:
            grads = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
            results |= {
                f"the gradient of {name}": grad
                for name, grad in zip(parameters, grads, strict=True)
                if grad is not None
            }
    return {name: result.detach().cpu() for name, result in results.items()}


def spread_of(model: nn.Module, example: Any, outcome: dict[str, Tensor]) -> dict[str, float]:
    """Return by how much the outcome changes where each parameter is rounded otherwise, in its last digit."""
    kept = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    try:
        with preserved_buffers(model), torch.no_grad():
            for parameter, values in kept:
                if parameter.is_floating_point():
                    eps = torch.finfo(parameter.dtype).eps
                    parameter.copy_(torch.where(torch.rand_like(values) < 0.5, values * (1 - eps), values * (1 + eps)))
        changed = outcome_of(model, example)
    finally:
        with torch.no_grad():
            for parameter, values in kept:
                parameter.copy_(values)
    return {name: float(_size(changed[name].double() - old.double())) for name, old in outcome.items()}


def difference(before: dict[str, Tensor], spread: dict[str, float], model: nn.Module, example: Any) -> str | None:
    """Return what differs from the outcome before by more than rounding makes of it, or None."""
    try:
        after = outcome_of(model, example)
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
        if not apart <= eps**0.5 * size + eps + _ROUNDINGS * spread[name]:
            return f"with it {name} of the example differs"
    return None


def _size(values: Tensor) -> Tensor:
    size: Tensor = torch.where(values.isfinite(), values.double(), 0.0).norm()
    return size
