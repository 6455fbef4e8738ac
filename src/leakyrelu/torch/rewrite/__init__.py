"""Rewriting a model in place: replace_relu, save_memory, restore."""

__all__: list[str] = []
