"""Fixtures of the tests of activations."""

import importlib
import warnings

import pytest

with warnings.catch_warnings():
    # PyTorch loads these on the first forward-mode derivative, through a function of its own that it has deprecated.
    warnings.filterwarnings("ignore", ".*torch.jit")
    importlib.import_module("torch._decomp.decompositions_for_jvp")


@pytest.fixture
def no_tensor_is_small(monkeypatch):
    """Small tensors take the execution paths of large ones, so that a test of a few elements tests them."""
    monkeypatch.setattr("leakyrelu.torch.activations.functional._SMALL", 0)
