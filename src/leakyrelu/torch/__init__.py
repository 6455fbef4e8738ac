"""Leaky ReLU for PyTorch: layers that keep one bit an element, and a census of their units."""

from leakyrelu.torch.functional import leaky_relu
from leakyrelu.torch.groups import parameter_groups
from leakyrelu.torch.layers import CenteredLeakyReLU, LeakyReLU, PReLU
from leakyrelu.torch.learned import prelu
from leakyrelu.torch.memory import ActivationMemory, activation_memory
from leakyrelu.torch.norm import NormLeakyReLU
from leakyrelu.torch.openmp import share_threads
from leakyrelu.torch.revive import Revival, revive
from leakyrelu.torch.rewrite import Replacement, replace_relu
from leakyrelu.torch.saving import Saving, restore, save_memory
from leakyrelu.torch.watch import NoRectifierError, diagnose, watch

__all__ = [
    "ActivationMemory",
    "CenteredLeakyReLU",
    "LeakyReLU",
    "NoRectifierError",
    "NormLeakyReLU",
    "PReLU",
    "Replacement",
    "Revival",
    "Saving",
    "activation_memory",
    "diagnose",
    "leaky_relu",
    "parameter_groups",
    "prelu",
    "replace_relu",
    "restore",
    "revive",
    "save_memory",
    "watch",
]

share_threads()
