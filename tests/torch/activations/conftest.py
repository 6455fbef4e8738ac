"""Fixtures of the tests of activations."""

import pytest


@pytest.fixture
def no_tensor_is_small(monkeypatch):
    """Small tensors take the execution paths of large ones, so that a test of a few elements tests them."""
    monkeypatch.setattr("leakyrelu.torch.activations.functional._SMALL", 0)
