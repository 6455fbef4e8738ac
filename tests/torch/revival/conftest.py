"""Fixtures of the tests of reviving."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _alone():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
