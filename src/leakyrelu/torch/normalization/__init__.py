"""Normalization followed by a Leaky ReLU, as one layer that keeps only its output for the backward pass."""

from leakyrelu.torch.normalization.layer import NormLeakyReLU

__all__ = ["NormLeakyReLU"]
