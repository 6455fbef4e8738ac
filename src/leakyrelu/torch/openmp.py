"""One pool of threads for PyTorch and for the native core.

OpenMP's threads go on spinning for some milliseconds after each parallel operation of PyTorch, and threads of our own
would have to share their cores with them. So the core is handed the entry of the library that PyTorch runs on.
"""

from __future__ import annotations

import ctypes

from leakyrelu import _core
from leakyrelu.torch._compat import openmp_library

__all__ = ["share_threads"]


def share_threads() -> bool:
    """Let the native core compute on PyTorch's OpenMP threads, where they are those of GCC's library."""
    path = openmp_library()
    if path is None:
        return False
    try:
        entry = ctypes.CDLL(path).GOMP_parallel
    except (OSError, AttributeError):
        return False
    _core.share_openmp(ctypes.cast(entry, ctypes.c_void_p).value or 0)
    return True
