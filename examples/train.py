"""Train: the same network with PyTorch's layers and after save_memory; the same losses, less than half the memory."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import nn

from leakyrelu.torch import activation_memory, save_memory

STEPS = 10


def network() -> nn.Module:
    widths = [1, 16, 16, 16]
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 2))


def train(model: nn.Module, images: torch.Tensor, classes: torch.Tensor) -> float:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), classes)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return loss.item()


def main() -> None:
    torch.manual_seed(0)
    plain = network()
    saving = copy.deepcopy(plain)
    print(save_memory(saving))

    # Bright images on the left or on the right.
    images, classes = torch.randn(16, 1, 32, 32), torch.arange(16) % 2
    images[classes == 1, :, :, 16:] += 1
    for name, model in (("PyTorch's layers", plain), ("after save_memory", saving)):
        kept = activation_memory(model, images).bytes
        print(f"{name}: {kept} bytes kept, loss {train(model, images, classes):.5f} after {STEPS} steps")


if __name__ == "__main__":
    main()
