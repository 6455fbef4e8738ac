"""Similarity of unrelated inputs at every activation of networks at initialization: measured, and predicted."""
