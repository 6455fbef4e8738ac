"""Reinitialization of silent units: revive."""

from leakyrelu.torch.revival.revival import Revival, revive

__all__ = ["Revival", "revive"]
