"""Choose: a residual network of ReLUs without normalization, which does not train, becomes one that does."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from leakyrelu.torch import choose_slope, initialize, replace_relu


class Block(nn.Module):
    """act(x + f(x)), f of two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second, self.act = nn.Linear(width, width), nn.Linear(width, width), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(x + self.second(self.act(self.first(x))))
        return y


def network() -> nn.Module:
    """Fifty layers and a classifier of ten digits, with the weights of He et al. for ReLU."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), *[Block(64) for _ in range(25)], nn.Linear(64, 10))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return model


def accuracy(model: nn.Module, inputs: Tensor, digits: Tensor) -> float:
    """Train on the first 1,400 images, and return the accuracy on the others."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    for epoch in range(6):
        for batch in torch.randperm(1400, generator=torch.Generator().manual_seed(epoch)).view(-1, 50):
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(model(inputs[batch]), digits[batch]))
            optimizer.step()
    with torch.no_grad():
        return float((model(inputs[1400:]).argmax(1) == digits[1400:]).double().mean())


def main() -> None:
    data = load_digits()
    inputs, digits = torch.tensor(data.data, dtype=torch.float32), torch.tensor(data.target)
    inputs = (inputs - inputs.mean()) / inputs.std()

    print(f"ReLU: test accuracy {accuracy(network(), inputs, digits):.3f}")

    model, batch = network(), inputs[:50]
    choice = choose_slope(model, batch)
    print(choice.reason)
    assert choice.slope is not None  # where no slope is to be chosen, the reason says so
    replace_relu(model, choice.slope)
    initialize(model, choice.slope, batch)  # the gain of that slope; branches that do not add up
    print(f"Leaky ReLU: test accuracy {accuracy(model, inputs, digits):.3f}")


if __name__ == "__main__":
    main()
