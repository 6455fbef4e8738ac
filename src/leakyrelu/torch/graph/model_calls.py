"""One call of a whole model: its arguments, and the state of the generators of random numbers around it."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


__all__ = ["call_model", "preserved_random_state"]


def call_model(model: Callable[..., Any], arguments: Any) -> Any:
    """Call a model on a tuple or list of arguments, a dict of keyword arguments, or anything else as the argument."""
    if isinstance(arguments, dict):
        return model(**arguments)
    if isinstance(arguments, tuple | list):
        return model(*arguments)
    return model(arguments)


@contextlib.contextmanager
def preserved_random_state() -> Iterator[None]:
    """Set the generators of PyTorch, Python and NumPy back to where they were."""
    cpu, plain, legacy = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        random.setstate(plain)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.cuda.set_rng_state_all(gpus)
