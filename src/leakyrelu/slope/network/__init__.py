"""Similarity of unrelated inputs through a network of any graph, as a function of the slope. NumPy alone."""

from leakyrelu.slope.network.activations import Activation, Function
from leakyrelu.slope.network.attention import Attention
from leakyrelu.slope.network.graph import Network, Part
from leakyrelu.slope.network.layers import (
    Affine,
    Concatenation,
    Constant,
    Dropout,
    Identity,
    Input,
    Linear,
    Product,
    Sum,
    Unknown,
)
from leakyrelu.slope.network.node import Node
from leakyrelu.slope.network.normalizations import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from leakyrelu.slope.network.pooling import AveragePool, MaxPool
from leakyrelu.slope.network.residual import scale_branches
from leakyrelu.slope.network.state import State

__all__ = [
    "Activation",
    "Affine",
    "Attention",
    "AveragePool",
    "BatchNorm",
    "Concatenation",
    "Constant",
    "Dropout",
    "Function",
    "GroupNorm",
    "Identity",
    "Input",
    "LayerNorm",
    "Linear",
    "MaxPool",
    "Network",
    "Node",
    "Part",
    "Product",
    "RMSNorm",
    "State",
    "Sum",
    "Unknown",
    "scale_branches",
]
