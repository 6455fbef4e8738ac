"""Outcome of a model on an example: outputs, gradients, and whether two are the same within rounding."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from leakyrelu._text import first_line
from leakyrelu.torch._compat import tree_leaves
from leakyrelu.torch.graph.tracing import call_model, preserved_buffers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn


_ROUNDINGS = 30
"""How many times what one rounding of each parameter makes is the rounding of a pair taken for."""

_POINTS = 2
"""Roundings of the parameters at which a model is compared too, where it differs at the parameters as they are."""


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


class Reference:
    """What a model makes of an example, at its parameters and at random roundings of them in the last digit.

    An activation within rounding of zero may come out on its other side, and with it goes its share of the gradient: in
    the stem of a network, with a million elements, a thousandth of its norm. So a difference at one point proves
    nothing; what computes something else differs at each of them.
    """

    def __init__(self, model: nn.Module, example: Any) -> None:
        self.model = model
        self.example = example
        self._outcomes: list[dict[str, Tensor]] = []
        for point in range(1 + _POINTS):
            with _rounded(model, point):
                self._outcomes.append(outcome_of(model, example))
        exact, *others = self._outcomes
        self._spread = {name: max(_spread(old, other.get(name)) for other in others) for name, old in exact.items()}

    def difference(self) -> str | None:
        """Return what differs from the outcome before, at each point, by more than rounding makes of it, or None."""
        reason = None
        for point, before in enumerate(self._outcomes):
            with _rounded(self.model, point):
                found = self._difference(before)
            if found is None:
                return None
            reason = reason or found
        return reason

    def _difference(self, before: dict[str, Tensor]) -> str | None:
        try:
            after = outcome_of(self.model, self.example)
        except RuntimeError as error:
            return f"with it the example raises: {first_line(error, 120)}"
        # All gradients together: one that should be 0, such as that of a bias before a normalization, is rounding.
        gradients = torch.stack(
            [torch.zeros(()).double(), *(_size(t) for name, t in before.items() if name.startswith("the gradient"))]
        )
        for name, old in before.items():
            new = after.get(name)
            if self._spread[name] == float("inf"):
                continue
            if new is None or new.shape != old.shape:
                return f"with it {name} is missing"
            # Where the example makes NaN or infinity, there is nothing to compare.
            apart = torch.where(old.isfinite(), new.double() - old.double(), 0.0).norm()
            size = gradients.norm() if name.startswith("the gradient") else _size(old)
            eps = torch.finfo(old.dtype).eps
            if not apart <= eps**0.5 * size + eps + _ROUNDINGS * self._spread[name]:
                return f"with it {name} of the example differs"
        return None


@contextlib.contextmanager
def _rounded(model: nn.Module, point: int) -> Iterator[None]:
    """Round each parameter up or down in its last digit, at random; at point 0 leave all as they are."""
    named = sorted(model.named_parameters()) if point else []
    kept = [each.detach().clone() for _, each in named]
    generator = torch.Generator().manual_seed(point)
    try:
        with torch.no_grad():
            for _, each in named:
                if each.is_floating_point():
                    eps = torch.finfo(each.dtype).eps
                    is_down = torch.rand(each.shape, generator=generator).to(each.device) < 0.5
                    each.copy_(torch.where(is_down, each * (1 - eps), each * (1 + eps)))
        yield
    finally:
        with torch.no_grad():
            for (_, each), values in zip(named, kept, strict=True):
                each.copy_(values)


def _spread(old: Tensor, other: Tensor | None) -> float:
    # A rounding may change how many boxes a detector finds: then there is nothing to compare.
    if other is None or other.shape != old.shape:
        return float("inf")
    return float(_size(other.double() - old.double()))


def _size(values: Tensor) -> Tensor:
    size: Tensor = torch.where(values.isfinite(), values.double(), 0.0).norm()
    return size
