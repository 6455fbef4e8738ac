"""The command ``leakyrelu``: study, slope, diagnose, memory."""

from leakyrelu.cli.entry import main

__all__ = ["main"]
