"""What a model calls: symbolic tracing, neighbors of a module, call sites of functions."""

__all__: list[str] = []
