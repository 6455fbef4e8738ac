"""Ctrl-C while a program of a file runs, in whose interpreter no handler of Python is called."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERRUPTED = 130
"""The exit status after Ctrl-C."""

_GRACE = 1.0  # seconds that Python gets to call its handler


def print_interrupted() -> None:
    """Print the one line that an interrupted command ends with."""
    print("leakyrelu: interrupted", file=sys.stderr, flush=True)


@contextmanager
def interruptible() -> Iterator[None]:
    """End the process on Ctrl-C, even where the interpreter of TorchScript or ONNX Runtime is in a loop without end.

    Python calls handlers of signals between its own instructions alone. So a thread waits for the byte that the handler
    below Python writes for each signal, and ends the process where the handler of Python is not called soon after. An
    error that follows a KeyboardInterrupt is one: TorchScript makes a RuntimeError of it.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    called = threading.Event()
    interrupted = False

    def handle(*_: object) -> NoReturn:
        nonlocal interrupted
        interrupted = True
        called.set()
        raise KeyboardInterrupt

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] == signal.SIGINT:
                if not called.wait(_GRACE):
                    if sys.stderr.isatty():
                        print("\x1b[?25h", file=sys.stderr)  # the cursor, which the progress bar hides
                    print_interrupted()
                    os._exit(INTERRUPTED)
                called.clear()

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    except Exception as error:
        if interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(descriptor)
        os.close(writer)
        thread.join()
        os.close(reader)


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """Have Ctrl-C end the process as it ends one without a handler, where no thread of Python can run.

    PyTorch loads a TorchScript file without releasing Python's lock, and runs methods of the file meanwhile.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
