"""Renderers of a report: text, terminal, notebook, JSON, data frame, charts and HTML."""

__all__: list[str] = []
