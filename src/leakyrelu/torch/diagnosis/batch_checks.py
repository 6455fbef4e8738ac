"""Checks of the batches that go into a model: where the first value that is NaN or infinite is, and how many there are.

On the CPU a batch of finite numbers costs its minimum and maximum, and nothing is kept of it. On other devices every
batch is counted there, and the host waits for nothing before the checks are read.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from leakyrelu.diagnosis.input_check import InputCheck, place_within

_NONE = -1


class BatchChecks:
    """Running checks of the inputs of a model, by the name of the input; empty where a batch is one tensor."""

    def __init__(self) -> None:
        self._inputs: dict[str, _Input] = {}

    def add(self, name: str, x: Tensor) -> None:
        """Check one batch of an input; what is no dense tensor of numbers is passed over."""
        if x.layout is torch.strided and not (x.is_nested or x.is_meta):
            self._inputs.setdefault(name, _Input()).add(x.detach())

    def read(self) -> list[InputCheck]:
        """Return what was found; this waits for the device."""
        return [checked.read(name) for name, checked in self._inputs.items()]


class _Input:
    def __init__(self) -> None:
        self.samples = 0
        self.found: Tensor | None = None  # NaN, infinite, flawed samples; batch, place of the first
        self.batches: list[tuple[int, torch.Size]] = []  # samples before those that `found` may name, and their shapes

    def add(self, x: Tensor) -> None:
        before, self.samples = self.samples, self.samples + (x.shape[0] if x.ndim else 1)
        if not x.numel() or not (x.is_floating_point() or x.is_complex()):
            return
        if x.element_size() == 1:
            x = x.float()  # few operations take 8 bits
        if x.is_cpu and _is_finite(x):
            return
        nan, finite = x.isnan(), x.isfinite()
        rows = finite.reshape(x.shape[0] if x.ndim else 1, -1)
        wrong = ~rows
        numbers = [nan.sum(), (~finite & ~nan).sum(), wrong.any(1).sum()]
        any_wrong = numbers[2] > 0
        number = torch.where(any_wrong, len(self.batches), _NONE)
        first = torch.where(any_wrong, wrong.reshape(-1).to(torch.uint8).argmax(), _NONE)
        found = torch.stack([*numbers, number, first])
        self.batches.append((before, x.shape))
        if self.found is None:
            self.found = found
            return
        found = found.to(self.found.device)
        first = torch.where(self.found[3] == _NONE, found[3:], self.found[3:])
        self.found = torch.cat([self.found[:3] + found[:3], first])

    def read(self, name: str) -> InputCheck:
        nan, infinite, flawed, number, index = (0, 0, 0, _NONE, _NONE) if self.found is None else self.found.tolist()
        if number == _NONE:
            return InputCheck(name, self.samples)
        before, shape = self.batches[number]
        each = math.prod(shape[1:])
        place = place_within(index % each, shape[1:])
        return InputCheck(name, self.samples, nan, infinite, flawed, before + index // each, place)


def _is_finite(x: Tensor) -> bool:
    low, high = torch.aminmax(torch.view_as_real(x.resolve_conj()) if x.is_complex() else x)
    return math.isfinite(low) and math.isfinite(high)
