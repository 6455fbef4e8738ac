"""Leaky ReLU for PyTorch: layers that keep one bit an element, and a census of their units."""

from leakyrelu.torch.activations.functional import leaky_relu
from leakyrelu.torch.activations.layers import CenteredLeakyReLU, LeakyReLU, PReLU
from leakyrelu.torch.activations.parametric import prelu
from leakyrelu.torch.diagnosis.model_report import NoRectifierError, diagnose
from leakyrelu.torch.diagnosis.watcher import watch
from leakyrelu.torch.memory_profile import ActivationMemory, activation_memory
from leakyrelu.torch.normalization.layer import NormLeakyReLU
from leakyrelu.torch.optim import parameter_groups
from leakyrelu.torch.revival.revival import Revival, revive
from leakyrelu.torch.rewrite.memory_saving import Saving, restore, save_memory
from leakyrelu.torch.rewrite.relu_replacement import Replacement, replace_relu

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
