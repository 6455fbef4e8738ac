"""Activations that no normalization computes: whether another layer in their place keeps less."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from leakyrelu.torch._compat import share_parameters
from leakyrelu.torch.activations.layers import LeakyReLU, PReLU
from leakyrelu.torch.graph.neighbors import hooks_obstacle
from leakyrelu.torch.graph.tracing import call_model, preserved_buffers
from leakyrelu.torch.normalization.deferred import PendingOutput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from leakyrelu.torch.graph.neighbors import Neighbors

KINDS = (nn.LeakyReLU, nn.PReLU)


def replacement(module: Any) -> nn.Module:
    """Return a layer of this package that computes what an activation of PyTorch computes, and keeps less."""
    new: nn.Module
    if isinstance(module, nn.LeakyReLU):
        new = LeakyReLU(module.negative_slope, module.inplace)
    else:
        new = PReLU(device="meta")
        new.num_parameters = module.num_parameters
        share_parameters(new, module)
    return new.train(module.training)


def obstacle(module: nn.Module, names: list[str], neighbors: Neighbors) -> str | None:
    """Return why an activation has to stay as it is, or None."""
    reason = hooks_obstacle(module) or ("it is the model itself" if "" in names else None)
    if reason is None and type(module) is nn.PReLU and (by := neighbors.overwritten.get(module)) is not None:
        reason = f"{by} changes its output in place, which the backward pass would need"
    return reason


def is_free(module: Any) -> str | None:
    """Return why an activation may keep nothing that the layers around it do not keep as well, or None."""
    if isinstance(module, nn.LeakyReLU) and module.inplace:
        return "it is in place, and the next layer may keep its output anyway: an example would show it"
    return None


class Keepers:
    """Who keeps which memory in a forward pass on an example.

    Parameters
    ----------
    model, example
        The model, and an input of it.
    watched
        The activations that are asked about.
    """

    def __init__(self, model: nn.Module, example: Any, watched: Iterable[nn.Module]) -> None:
        self._keepers: dict[torch.UntypedStorage, set[nn.Module | None]] = defaultdict(set)
        self._outputs: dict[nn.Module, list[torch.UntypedStorage]] = defaultdict(list)
        self._inputs: dict[nn.Module, list[torch.UntypedStorage]] = defaultdict(list)
        self._joined: set[nn.Module] = set()
        self._running: list[nn.Module] = []
        watched = list(watched)
        handles = [module.register_forward_pre_hook(self._enter) for module in watched]
        handles += [module.register_forward_hook(self._leave) for module in watched]
        try:
            saved = torch.autograd.graph.saved_tensors_hooks(self._save, lambda tensor: tensor)
            with preserved_buffers(model), torch.enable_grad(), saved:
                call_model(model, example)
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._running.append(module)
        if isinstance(args[0], PendingOutput):
            self._joined.add(module)
        else:
            self._inputs[module].append(args[0].untyped_storage())

    def _leave(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self._running.pop()
        self._outputs[module].append(output.untyped_storage())

    def _save(self, tensor: Tensor) -> Tensor:
        if tensor.layout is torch.strided:
            self._keepers[tensor.untyped_storage()].add(self._running[-1] if self._running else None)
        return tensor

    def is_joined(self, module: nn.Module) -> bool:
        """Whether an activation is computed with the normalization in front of it wherever it is called."""
        return module in self._joined and not self._inputs[module]

    def gains(self, module: nn.Module) -> bool:
        """Whether the network keeps less with the activation exchanged: one bit an element, or its output, instead."""
        alone = sum(each.nbytes() for each in self._inputs[module] if self._keepers.get(each) == {module})
        if isinstance(module, nn.PReLU):
            more = sum(each.nbytes() for each in self._outputs[module] if not self._keepers.get(each))
        else:
            # Signs of every call. In place, the result is the memory that the input had.
            more = sum(each.nbytes() // 16 for each in self._outputs[module])
        return alone > more
