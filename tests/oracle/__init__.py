"""Oracles of the tests: references that import nothing of leakyrelu."""
