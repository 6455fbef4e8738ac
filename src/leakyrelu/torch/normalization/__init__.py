"""A normalization and the Leaky ReLU behind it as one layer that keeps only its output."""

__all__: list[str] = []
