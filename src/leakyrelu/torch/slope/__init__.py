"""The slope of a network, chosen from its own graph."""
