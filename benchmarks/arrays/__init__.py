"""Measurements of the array functions beside every peer: ``python -m benchmarks arrays``."""
