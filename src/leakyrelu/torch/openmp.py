"""One pool of threads for PyTorch and for the native core.

OpenMP's threads go on spinning for some milliseconds after each parallel operation of PyTorch, and threads of our own
would have to share their cores with them. So the core is handed the entry of the library that PyTorch runs on.
"""

from __future__ import annotations

import ctypes
import pathlib

import torch

from leakyrelu import _core

__all__ = ["share_threads"]


def share_threads() -> bool:
    """Let the native core compute on PyTorch's OpenMP threads, where they are those of GCC's library."""
    path = _library()
    if path is None:
        return False
    try:
        entry = ctypes.CDLL(path).GOMP_parallel
    except (OSError, AttributeError):
        return False
    _core.share_openmp(ctypes.cast(entry, ctypes.c_void_p).value or 0)
    return True


def _library() -> str | None:
    """Return the path of the library that is loaded: PyTorch's own where several are (each package may bring one)."""
    try:
        lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    paths = sorted({line.split(maxsplit=5)[-1] for line in lines if "/libgomp" in line})
    own = [path for path in paths if path.startswith(str(pathlib.Path(torch.__file__).parent))]
    candidates = own or paths
    return candidates[0] if len(candidates) == 1 else None
