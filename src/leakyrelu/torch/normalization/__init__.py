"""Normalization followed by a Leaky ReLU, as one layer that keeps only its output for the backward pass."""

__all__: list[str] = []
