"""Fixtures of the tests of the study."""

import pytest
import torch


@pytest.fixture
def one_thread():
    """Small matrices gain nothing from more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
