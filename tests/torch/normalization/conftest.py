"""Fixtures of the tests of NormLeakyReLU."""

import pytest

from leakyrelu.torch.normalization import autograd


@pytest.fixture(params=["native", "plain"])
def implementation(request, monkeypatch):
    """Run the test on both implementations of the layer: the native core and PyTorch operations."""
    if request.param == "plain":
        monkeypatch.setattr(autograd, "NATIVE_DTYPES", {})
    return request.param
