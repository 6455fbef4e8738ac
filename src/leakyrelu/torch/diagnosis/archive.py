"""Files of PyTorch that hold a program, opened without running anything that they hold.

PyTorch trusts such a file: a record that says it is larger than it is makes it read beyond its memory, and a file of
`torch.export` may hold pickles and expressions of Python, which it executes. What is looked at here is read by the
same reader as PyTorch's, so that both see the same records.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakyrelu._text import first_line
from leakyrelu.torch._compat import ArchiveReader

if TYPE_CHECKING:
    import os

_LARGEST_EXPANSION = 2**28  # bytes that the compressed records of an archive may have beyond the size of the file
# Bytes of an element of a storage, by the name of its class; of the others one.
_ELEMENT = {
    **dict.fromkeys(("Half", "BFloat16", "Short", "UInt16"), 2),
    **dict.fromkeys(("Float", "Int", "QInt32", "UInt32", "ComplexHalf"), 4),
    **dict.fromkeys(("Double", "Long", "UInt64", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}


class Archive:
    """The records of a file, by name; each of its errors is a ValueError that names the file."""

    def __init__(self, path: str | os.PathLike[str], kind: str) -> None:
        self.path, self.kind = Path(path), kind
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file {self.path}")
        try:
            with zipfile.ZipFile(self.path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > self.path.stat().st_size + _LARGEST_EXPANSION:
                raise ValueError(f"its records would have {size:,} bytes")
            self._reader = ArchiveReader(str(self.path))
            self.names: list[str] = self._reader.get_all_records()
        except Exception as error:
            raise self.error(first_line(error)) from None

    def error(self, cause: str) -> ValueError:
        """Return the error that names the file and what is wrong with it."""
        return ValueError(f"{self.path} is not a file of {self.kind}: {cause}")

    def read(self, name: str) -> bytes:
        """Return the bytes of a record."""
        try:
            return bytes(self._reader.get_record(name))
        except Exception as error:
            raise self.error(first_line(error)) from None

    def check_storages(self, name: str, folder: str) -> None:
        """Refuse a pickle that is damaged, or whose tensors are larger than their records in the folder."""

        def check(storage: str, count: Any, kind: str) -> None:
            record = f"{folder}/{storage}"
            if type(count) is not int or count < 0:
                raise ValueError(f"a tensor in {name} has {count!r} elements")
            size = len(self.read(record)) if count else 0
            if count * _ELEMENT.get(kind.removesuffix("Storage"), 1) > size:
                raise ValueError(f"a tensor in {name} has {count} elements, and its record {record!r} {size} bytes")

        try:
            _Inspector(io.BytesIO(self.read(name)), check).load()
        except Exception as error:
            raise self.error(first_line(error)) from None


class _Inert:
    """An object in the place of one of any class: it takes everything and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Take an item."""

    def extend(self, values: Any) -> None:
        """Take items."""


class _Inspector(pickle.Unpickler):
    """Reader of a pickle that makes nothing but inert objects, and checks the storages that it names."""

    def __init__(self, file: Any, check: Any) -> None:
        super().__init__(file)
        self._check = check

    def find_class(self, module: str, name: str, /) -> Any:
        """Return a class that does nothing."""
        return type(name, (_Inert,), {})

    def persistent_load(self, pid: Any, /) -> Any:
        """Check the size of a storage."""
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[2], str)):
            raise ValueError("it refers to something that is no storage")
        kind = pid[1].__name__ if isinstance(pid[1], type) else type(pid[1]).__name__
        self._check(pid[2], pid[4], kind)
        return _Inert()
