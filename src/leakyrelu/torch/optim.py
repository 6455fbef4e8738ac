"""Parameters sorted for an optimizer: learned slopes apart, without weight decay."""

from __future__ import annotations

from typing import Any

from torch import nn

from leakyrelu._checks import real_number
from leakyrelu.torch._checks import require_module

__all__ = ["parameter_groups"]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups for any optimizer of PyTorch, in which the slopes of PReLU layers have no weight decay.

    Weight decay pulls every parameter towards 0, and a slope at 0 is a ReLU: "weight decay tends to push a_i to zero,
    and thus biases PReLU toward ReLU. Even without regularization, the learned coefficients rarely have a magnitude
    larger than 1" (He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", ICCV 2015, section 2.1).

    Parameters
    ----------
    model
        Any module. Slopes are the parameters of `torch.nn.PReLU`, of `leakyrelu.torch.PReLU` and of other subclasses.
        A parameter used in several places is in one group, and without decay if any of them is a PReLU.
    weight_decay
        Of all other parameters; as the optimizer takes it.

    Returns
    -------
    list of dict
        Two groups: all other parameters, and the slopes. Each parameter once, in the order of `model.parameters()`.
        Further options, such as a learning rate of its own for the slopes, may be added to a group.

    Raises
    ------
    TypeError
        If `model` is not a module, or the weight decay is not a number.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import PReLU, parameter_groups
    >>> model = nn.Sequential(nn.Linear(3, 4), PReLU(4), nn.Linear(4, 2))
    >>> optimizer = torch.optim.SGD(parameter_groups(model, weight_decay=0.01), lr=0.1)
    >>> [(group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]
    [(0.01, 4), (0.0, 1)]
    """
    require_module(model)
    decay = real_number(weight_decay, "weight_decay")
    layers = [module for module in model.modules() if isinstance(module, nn.PReLU)]
    slopes = {id(parameter) for layer in layers for parameter in layer.parameters()}
    parameters = list(model.parameters())
    return [
        {"params": [each for each in parameters if id(each) not in slopes], "weight_decay": decay},
        {"params": [each for each in parameters if id(each) in slopes], "weight_decay": 0.0},
    ]
