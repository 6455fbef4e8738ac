"""Reinitialization of silent units: revive."""

__all__: list[str] = []
