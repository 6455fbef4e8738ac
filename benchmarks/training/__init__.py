"""Measurements of training with PyTorch: ``python -m benchmarks training``."""
