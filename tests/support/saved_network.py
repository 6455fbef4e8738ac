"""A network with everything of version 0.1 that can stand in a file of a whole model, and what saved it.

``python -c "from support.saved_network import save; save('torch/data/network-0.1.pt')"`` was run in tests/ with version
0.1 installed.
"""

import torch
import torch.nn.functional as F
from torch import nn

INPUT = torch.linspace(-3, 3, 2 * 4 * 5).reshape(2, 4, 5)


class Block(nn.Module):
    """Calls ReLU as a function, which `replace_relu` redirects."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 5)

    def forward(self, x):
        return F.relu(self.linear(x))


def network():
    from leakyrelu.torch import CenteredLeakyReLU, PReLU, replace_relu, save_memory

    torch.manual_seed(0)
    model = nn.Sequential(
        Block(),
        *(nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4), nn.LeakyReLU(0.1)),
        *(nn.LeakyReLU(0.2), nn.ReLU(), PReLU(4), CenteredLeakyReLU(0.3)),
        nn.TransformerEncoderLayer(5, 1, 8, dropout=0.0, batch_first=True),
    )
    replace_relu(model, 0.25)
    save_memory(model)
    return model.eval()


def save(path):
    model = network()
    with torch.no_grad():
        torch.save({"model": model, "output": model(INPUT)}, path)
