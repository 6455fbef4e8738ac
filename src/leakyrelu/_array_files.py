"""Arrays in files of ``np.save`` and ``np.savez``: nothing is unpickled, and what is unpacked has a bound."""

from __future__ import annotations

import io
import math
import os
import stat
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from leakyrelu._text import size_text, type_and_first_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MAX_MEMORY = 2 * 2**30
"""Bytes that arrays may take in memory where their file is smaller."""

_LONGEST_HEADER = 10_000  # characters, the limit of NumPy, which compares only after it has read them all
_HEADERS = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}


class ArrayFileError(ValueError):
    """Error of a file that holds no arrays that can be used; the message names the file, the cause and the remedy."""


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    length: int  # bytes of the header itself

    @property
    def size(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_arrays(path: str | os.PathLike[str], max_memory: int = MAX_MEMORY) -> Mapping[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file by name, or the one of an ``.npy`` file as ``X``.

    A larger ``.npy`` file than `max_memory` is mapped into memory, not read. Arrays of an ``.npz`` file that take more
    than `max_memory` are refused, unless the file itself is as large.

    Raises
    ------
    ArrayFileError
        Whatever is wrong with the file.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ArrayFileError(f"{path} is {_kind(status.st_mode)}, not a file written by np.save or np.savez")
        with open(path, "rb") as file:
            start = file.read(len(np.lib.format.MAGIC_PREFIX))
            file.seek(0)
            if start == np.lib.format.MAGIC_PREFIX:
                return {"X": _array(path, file, status.st_size, max_memory)}
            if not zipfile.is_zipfile(file):
                raise ArrayFileError(f"{path} is not a file written by np.save or np.savez")
            with zipfile.ZipFile(file) as archive:
                return _members(path, archive, max(max_memory, status.st_size), status.st_size)
    except ArrayFileError:
        raise
    except FileNotFoundError:
        raise ArrayFileError(f"{path} does not exist") from None
    except MemoryError:
        raise ArrayFileError(f"{path} does not fit into memory: save fewer samples") from None
    except Exception as error:  # decompression and the parsers of headers raise almost any
        if isinstance(error, OSError) and error.errno is not None:
            raise ArrayFileError(f"{path} cannot be read: {error.strerror}") from None
        if isinstance(error, RuntimeError) and "encrypted" in str(error):
            raise ArrayFileError(f"{path} is encrypted: save it without a password, with np.savez") from None
        raise ArrayFileError(
            f"{path} is damaged, or not a file written by np.save or np.savez ({type_and_first_line(error)})"
        ) from None


def _array(path: Any, file: Any, length: int, max_memory: int) -> NDArray[Any]:
    header = _header(path, file, length)
    if header.size <= max_memory:
        file.seek(0)
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    order: Any = "F" if header.fortran_order else "C"
    return np.memmap(file, header.dtype, "r", header.length, header.shape, order)


def _members(path: Any, archive: zipfile.ZipFile, limit: int, length: int) -> dict[str, NDArray[Any]]:
    entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
    if not entries:
        raise ArrayFileError(f"{path} holds no array")
    total = 0
    for entry in entries:
        with archive.open(entry) as member:
            total += _header(path, member, entry.file_size).size
    if total > limit:
        raise ArrayFileError(
            f"{path} holds {size_text(total)} of arrays in a file of {size_text(length)}, and may take "
            f"{size_text(limit)} of memory: raise the limit (--max-memory {math.ceil(total / 2**30)}GiB), or save the "
            "array with np.save"
        )
    arrays = {}
    for entry in entries:
        with archive.open(entry) as member:
            arrays[entry.filename.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
            member.read(1)  # at its end the checksum is compared
    return arrays


def _header(path: Any, file: Any, length: int) -> _Header:
    """Read the header of an array of which `length` bytes are there."""
    start = file.read(12)
    digits = 2 if start[6:7] == b"\x01" else 4
    end = 8 + digits + int.from_bytes(start[8 : 8 + digits], "little")
    if end > _LONGEST_HEADER:
        raise ArrayFileError(f"{path} has a header of {end} bytes, more than any array of numbers: the file is damaged")
    header = io.BytesIO(start + file.read(end - len(start)))
    version = np.lib.format.read_magic(header)[0]
    if version not in _HEADERS:
        raise ArrayFileError(f"{path} holds records, not plain arrays (version {version} of the format)")
    found = _Header(*_HEADERS[version](header), end)
    if found.dtype.hasobject:
        raise ArrayFileError(
            f"{path} holds no plain arrays: it would have to be unpickled, which can run code; save arrays of numbers "
            "with np.save or np.savez"
        )
    if min(found.shape, default=0) < 0:
        raise ArrayFileError(f"{path} has a header with the shape {found.shape}: the file is damaged")
    if end + found.size > length:
        raise ArrayFileError(
            f"{path} is cut short: an array of shape {found.shape} and dtype {found.dtype} takes "
            f"{size_text(found.size)}, and the file has {size_text(max(length - end, 0))} of it"
        )
    return found


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
