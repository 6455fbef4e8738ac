"""The latest outputs of layers, where the producer of a rectifier's input is looked for."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any, NamedTuple

import torch
from torch import Tensor

from leakyrelu.torch._compat import DisableTorchFunction

_KEPT = 64  # a rectifier is called a few layers after the producer of its input


class ProducedOutput(NamedTuple):
    """The output of a layer or function whose units are known to lie on an axis."""

    output: weakref.ReferenceType[Tensor]
    shape: torch.Size
    name: str
    axis: int


class RecentOutputs:
    """The latest outputs of one thread, by weak references."""

    def __init__(self) -> None:
        self._outputs: deque[ProducedOutput] = deque(maxlen=_KEPT)

    def add(self, output: Any, name: str, axis: int) -> None:
        """Add the output of a layer or function; of several tensors, the first."""
        if isinstance(output, tuple) and output:
            output = output[0]  # recurrent, attention layers
        if isinstance(output, Tensor):
            with DisableTorchFunction():  # or a mode is asked for the shape
                shape = output.shape
            self._outputs.append(ProducedOutput(weakref.ref(output), shape, name, axis % max(len(shape), 1)))

    def clear(self) -> None:
        """Forget all outputs."""
        self._outputs.clear()

    def producer(self, x: Tensor) -> ProducedOutput | None:
        """Find the output that this very tensor is."""
        return next((produced for produced in reversed(self._outputs) if produced.output() is x), None)

    def nearest(self, x: Tensor) -> ProducedOutput | None:
        """Find the latest output of this shape, or else of as many axes."""
        shape = x.shape
        of_shape = (produced for produced in reversed(self._outputs) if produced.shape == shape)
        of_axes = (produced for produced in reversed(self._outputs) if len(produced.shape) == len(shape))
        return next(of_shape, None) or next(of_axes, None)
