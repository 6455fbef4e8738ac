"""Choose: slopes for a plain network of 50 layers, and what they do to two unrelated inputs."""

from __future__ import annotations

import torch
from torch import nn

from leakyrelu.slope import centered, gain, tailored
from leakyrelu.torch import CenteredLeakyReLU, LeakyReLU

DEPTH, WIDTH = 50, 256


def similarity(activation: nn.Module, scale: float) -> float:
    """Cosine similarity of two unrelated inputs after all layers, at initialization."""
    torch.manual_seed(0)
    x = torch.randn(2, WIDTH)
    with torch.no_grad():
        for layer in range(DEPTH):
            linear = nn.Linear(WIDTH, WIDTH, bias=False)
            nn.init.orthogonal_(linear.weight, gain=1.0 if layer == 0 else scale)
            x = activation(linear(x))
    return nn.functional.cosine_similarity(x[0], x[1], dim=0).item()


def main() -> None:
    for name, slope in (("usual", 0.01), ("tailored", tailored(DEPTH))):
        print(f"{name} slope {slope:.4f}: similarity {similarity(LeakyReLU(slope), gain(slope)):.3f}")
    slope = centered(DEPTH)
    print(f"centered slope {slope:.4f}: similarity {similarity(CenteredLeakyReLU(slope), 1.0):.3f}")


if __name__ == "__main__":
    main()
