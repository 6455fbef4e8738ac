"""Leaky ReLU as function and layer: autograd, native kernels, packed signs, learned slopes."""

from leakyrelu.torch.activations.functional import leaky_relu
from leakyrelu.torch.activations.layers import CenteredLeakyReLU, LeakyReLU, PReLU
from leakyrelu.torch.activations.parametric import prelu

__all__ = ["CenteredLeakyReLU", "LeakyReLU", "PReLU", "leaky_relu", "prelu"]
