"""How this process computes: threads and instruction set."""

from __future__ import annotations

import operator

from leakyrelu import _core

__all__ = ["get_num_threads", "set_num_threads", "show_config"]


_MOST = 1 << 20  # beyond any machine; the core takes no more


def get_num_threads() -> int:
    """Return the number of threads that the next long operation may use.

    The least of: what `set_num_threads` asked for (at first the environment variable ``LEAKYRELU_NUM_THREADS``, else
    ``OMP_NUM_THREADS``, else every CPU), the CPUs in the affinity mask of the process, and the CPU quota of its
    container. Callers that compute at the same moment share this number, so a pool of Python threads, Dask or joblib
    workers that call from every core does not start more threads than there are cores.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> from leakyrelu import get_num_threads, set_num_threads
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    """
    return _core.get_num_threads()


def set_num_threads(count: int) -> None:
    """Set the number of threads that long operations of this process may use.

    Parameters
    ----------
    count
        At least 1. With 1, everything is computed on the calling thread. More than the process may use counts as what
        it may use.

    Raises
    ------
    ValueError
        If `count` is less than 1.
    TypeError
        If `count` is not an integer.

    Examples
    --------
    >>> from leakyrelu import set_num_threads
    >>> set_num_threads(2)
    """
    try:
        number = operator.index(count)
    except TypeError:
        raise TypeError(
            f"set_num_threads: the number of threads must be an integer, not {type(count).__name__}: {count!r}"
        ) from None
    _core.set_num_threads(min(number, _MOST))


def show_config() -> None:
    """Print the version, the instruction set in use and those this machine has, the threads, and the cache of a core.

    Work that reads and writes more than that cache holds stores its results past it (in memory of the caller's that is
    not the input): the cache would have to fetch each line only to see it overwritten.

    ``LEAKYRELU_ISA`` (``baseline``, ``avx2``, ``avx512`` or ``neon``) forces an instruction set when it is set before
    the import.

    Examples
    --------
    >>> from leakyrelu import show_config
    >>> show_config()
    leakyrelu ...
    instruction set: ... (this machine has: baseline...)
    threads: ... (this process may use ... CPUs)
    last cache of a core: ... MiB
    """
    from leakyrelu import __version__

    now = _core.config()
    print(f"leakyrelu {__version__}")
    print(f"instruction set: {now['isa']} (this machine has: {', '.join(now['isa_available'])})")
    print(f"threads: {now['num_threads']} (this process may use {now['usable_cpus']} CPUs)")
    print(f"last cache of a core: {now['cache_bytes'] / 2**20:g} MiB")
