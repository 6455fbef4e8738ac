"""Diagnose: watch a network whose learning rate is too large, and find the units that it killed."""

from __future__ import annotations

import torch
from torch import nn

from leakyrelu.torch import diagnose, watch


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    inputs, targets = torch.randn(256, 20), 10 * torch.randn(256, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    with watch(model) as census:  # counts in the forward passes that the training makes anyway
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    print(f"watched layers: {', '.join(layer.name for layer in census.report().layers)}")

    report = diagnose(model, [inputs])
    print(report)
    for layer in report.layers:
        print(f"{layer.name}: {len(layer.silent_units)} of {layer.units} units silent")


if __name__ == "__main__":
    main()
