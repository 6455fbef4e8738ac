"""Data for ``leakyrelu diagnose``: arrays, or the images of a folder. No file can run code."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from leakyrelu._array_files import ArrayFileError, read_arrays
from leakyrelu._extras import require
from leakyrelu._text import few, type_and_first_line
from leakyrelu.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"))

_EIGHT, _SIXTEEN, _INTEGERS, _FLOATS = (
    "values of 8 bits, 0 to 255",
    "values of 16 bits, 0 to 65535",
    "integers",
    "floating-point numbers",
)
_REDUCED = re.compile(r";16[BLNS]")  # as Pillow calls the layout of a file whose values it makes 8 bits


class Images:
    """Images of a folder, in the order of their paths, one batch at a time: float32 of shape (n, 3, height, width).

    The values of the file, less `mean`, over `std` (one number a channel): RGB from 0 to 255; grayscale of 16 bits from
    0 to 65535, the same in each channel. Resized by Pillow's bilinear filter where a size is given.
    """

    def __init__(
        self, folder: Path, size: tuple[int, int] | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
    ) -> None:
        require("PIL.Image", by="a folder of images")
        self.folder, self.size = folder, size
        self.mean = np.array(mean or (0.0,), np.float32).reshape(-1, 1, 1)
        self.std = np.array(std or (1.0,), np.float32).reshape(-1, 1, 1)
        self.paths = image_paths(folder)
        if not self.paths:
            raise CommandError(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))})")

    def __len__(self) -> int:
        return len(self.paths)

    def batches(self, batch_size: int) -> Iterator[NDArray[np.float32]]:
        """Read them, `batch_size` at a time."""
        shape: tuple[int, ...] | None = None
        values: str | None = None
        for start in range(0, len(self.paths), batch_size):
            images = []
            for path in self.paths[start : start + batch_size]:
                image, kind = self._read(path)
                shape, values = shape or image.shape, values or self._noted(kind)
                if image.shape != shape:
                    raise CommandError(
                        f"{path} has {image.shape[2]} x {image.shape[1]} pixels, not {shape[2]} x {shape[1]} as those "
                        "before it: give --image-size HEIGHTxWIDTH to resize them all"
                    )
                if kind != values:
                    raise CommandError(
                        f"{path} holds {kind}, and those before it {values}: one --image-mean and --image-std cannot "
                        "fit both; convert them all to one kind"
                    )
                images.append(image)
            yield np.stack(images)

    def _noted(self, kind: str) -> str:
        if kind != _EIGHT:
            warnings.warn(
                f"the images of {self.folder} hold {kind}, and are read as such: --image-mean and --image-std are in "
                "these units",
                stacklevel=2,
            )
        return kind

    def _read(self, path: Path) -> tuple[NDArray[np.float32], str]:
        """Read an image, and say what its values are."""
        from PIL import Image

        try:
            with Image.open(path) as opened:
                kind = _values(opened)
                if kind == _EIGHT:
                    image = opened.convert("RGB")
                elif kind:
                    image = Image.fromarray(np.asarray(opened).astype(np.float32))
        except OSError as error:
            cause = error.strerror or f"as an image: {error}"
            raise CommandError(f"{path} cannot be read{':' if error.strerror else ''} {cause}") from None
        except Exception as error:  # its plugins raise almost any for a damaged file
            raise CommandError(f"{path} cannot be read as an image: {type_and_first_line(error)}") from None
        if not kind:
            raise CommandError(
                f"{path} has several channels of 16 bits, which Pillow would cut to 8: convert it to 8 bits a channel, "
                "or save the pixels of all images as an array with np.save"
            )
        if self.size is not None:
            image = image.resize((self.size[1], self.size[0]), Image.Resampling.BILINEAR)
        pixels = np.asarray(image, np.float32)
        pixels = pixels.transpose(2, 0, 1) if kind == _EIGHT else np.stack([pixels] * 3)
        return np.ascontiguousarray((pixels - self.mean) / self.std), kind


def image_paths(folder: Path) -> list[Path]:
    """Return the images of a folder and of those inside it, in the order of their paths."""
    try:
        return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as error:
        raise CommandError(f"{error.filename or folder} cannot be read: {error.strerror}") from None


def _values(image: Any) -> str:
    """Say what the values of an image are; nothing where Pillow would reduce them to 8 bits."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _SIXTEEN
    if image.mode in ("I", "F"):
        return _INTEGERS if image.mode == "I" else _FLOATS
    wide = image.format == "PPM" and any(isinstance(part, int) and part > 255 for part in _layout(image))
    return "" if wide or _REDUCED.search(str(image.tile)) else _EIGHT


def _layout(image: Any) -> tuple[Any, ...]:
    layout = image.tile[0][3] if image.tile else ()
    return layout if isinstance(layout, tuple) else (layout,)


def read_data(path: Path, max_memory: int) -> Arrays:
    """Read the arrays of a file by name."""
    try:
        return read_arrays(path, max_memory)
    except ArrayFileError as error:
        raise CommandError(str(error)) from None


def the_array(path: Path, arrays: Arrays) -> tuple[str, NDArray[Any]]:
    """Return the array for a model of one input: the only one, or X."""
    name = next(iter(arrays)) if len(arrays) == 1 else "X"
    if name not in arrays:
        raise CommandError(f"{path} has no array 'X', only {few(arrays, 8)}; save with X=...")
    x = arrays[name]
    if x.ndim < 1 or x.size == 0:
        raise CommandError(f"{path}: {name} has shape {x.shape}; it must hold at least one sample, samples first")
    if x.dtype.kind not in "biuf":
        raise CommandError(f"{path}: {name} has dtype {x.dtype}; it must hold real numbers")
    return name, x
