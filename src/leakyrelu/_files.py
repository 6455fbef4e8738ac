"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys

_NO_FILE_BESIDE = (errno.EACCES, errno.EPERM, errno.EROFS)


def write_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file so that a failure leaves what was there before.

    The content goes into a temporary file in the same folder, which then replaces the old one and has its permissions.
    A symbolic link stays one. Devices and pipes are written directly, and so is a file in whose folder no other can be
    made, or that cannot be replaced because it is mounted. Text is UTF-8, a lone surrogate the six characters of its
    escape sequence. A process that is killed meanwhile leaves the temporary file, ``.leakyrelu-*.tmp``, which may be
    deleted: no other run looks at it.

    Raises
    ------
    OSError
        It cannot be written; ``filename`` is `path`.
    """
    content = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    path = os.fspath(path)
    try:
        beside = _create_beside(path)
        if beside is None:
            _write_directly(path, content)
            return
        temporary, target = beside
        try:
            with open(temporary, "wb") as file:
                file.write(content)
            os.replace(temporary, target)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            _write_directly(path, content)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    except OSError as error:
        error.filename, error.filename2 = path, None
        raise


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise the OSError that `write_file` would raise, and leave the file as it is.

    A file beside it is made and removed: permissions alone do not show a file system that is full or read-only.
    """
    beside = _create_beside(os.fspath(path))
    if beside is not None:
        os.unlink(beside[0])


def _create_beside(path: str) -> tuple[str, str] | None:
    """Create a file in the folder of the one at the end of a path: both names; None where that is to be written."""
    old: os.stat_result | None = None
    with contextlib.suppress(FileNotFoundError):
        old = os.stat(path)
    if old is not None:
        if stat.S_ISDIR(old.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not os.access(path, os.W_OK):  # replacing it would only need permission for the folder
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        if not stat.S_ISREG(old.st_mode) or _stream_of(old) is not None:
            return None
    target = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(target), f".leakyrelu-{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        if old is not None and error.errno in _NO_FILE_BESIDE:
            return None
        raise
    with contextlib.closing(os.fdopen(descriptor, "wb")):
        if old is not None:
            with contextlib.suppress(OSError):  # not every user may, and not every file system knows them
                os.fchown(descriptor, old.st_uid, old.st_gid)
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
    return temporary, target


def _write_directly(path: str, content: bytes) -> None:
    stream = _stream_of(os.stat(path))
    if stream is None:
        with open(path, "wb") as file:
            file.write(content)
    else:  # opened again, the file would have two positions, and what was printed would be written over
        sys.stdout.flush()
        with open(os.dup(stream), "wb") as file:
            file.write(content)


def _stream_of(status: os.stat_result) -> int | None:
    """Return the descriptor, 1 or 2, of a standard stream of this process that goes to the file with this status."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(status, os.fstat(descriptor)):
                return descriptor
    return None
