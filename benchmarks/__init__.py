"""Measurements. Run ``make bench``, or ``python -m benchmarks --help`` for parts."""
