"""Leaky ReLU as function and layer: autograd, native kernels, packed signs, learned slopes."""

__all__: list[str] = []
