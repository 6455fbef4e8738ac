"""Pairs of normalization and Leaky ReLU in networks of others: found by an oracle, joined by ``save_memory``."""
