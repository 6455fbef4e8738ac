"""Leaky ReLU for PyTorch: layers that keep one bit an element, and a census of their units."""

from leakyrelu.torch.functional import leaky_relu
from leakyrelu.torch.layers import CenteredLeakyReLU, LeakyReLU
from leakyrelu.torch.rewrite import replace_relu

__all__ = ["CenteredLeakyReLU", "LeakyReLU", "leaky_relu", "replace_relu"]
