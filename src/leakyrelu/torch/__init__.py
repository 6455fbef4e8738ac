"""Leaky ReLU for PyTorch: layers that keep one bit an element, and a census of their units."""

from leakyrelu.torch import _installed  # noqa: F401 - first, so that the error names the extra
from leakyrelu.torch.activations import CenteredLeakyReLU, LeakyReLU, PReLU, leaky_relu, prelu
from leakyrelu.torch.diagnosis import NoRectifierError, diagnose, watch
from leakyrelu.torch.memory_profile import ActivationMemory, activation_memory
from leakyrelu.torch.normalization import NormLeakyReLU
from leakyrelu.torch.optim import parameter_groups
from leakyrelu.torch.revival import Revival, revive
from leakyrelu.torch.rewrite import Replacement, Saving, replace_relu, restore, save_memory
from leakyrelu.torch.slope import (
    Initialization,
    SlopeChoice,
    SlopeMeasurement,
    choose_slope,
    initialize,
    measure_slope,
)

__all__ = [
    "ActivationMemory",
    "CenteredLeakyReLU",
    "Initialization",
    "LeakyReLU",
    "NoRectifierError",
    "NormLeakyReLU",
    "PReLU",
    "Replacement",
    "Revival",
    "Saving",
    "SlopeChoice",
    "SlopeMeasurement",
    "activation_memory",
    "choose_slope",
    "diagnose",
    "initialize",
    "leaky_relu",
    "measure_slope",
    "parameter_groups",
    "prelu",
    "replace_relu",
    "restore",
    "revive",
    "save_memory",
    "watch",
]
