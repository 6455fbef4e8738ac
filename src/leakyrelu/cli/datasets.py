"""Readers of data for ``leakyrelu diagnose``: arrays, folders of images, checkpoints. No file can run code."""

from __future__ import annotations

import contextlib
import pickle
import re
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from leakyrelu._text import first_line, with_article
from leakyrelu.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    Arrays = dict[str, NDArray[Any]]


SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"))
_INSIDE = ("state_dict", "model_state_dict", "model")  # where checkpoints of training programs keep the weights


class Images:
    """Images of a folder, in the order of their paths, one batch at a time: float32 of shape (n, 3, height, width).

    RGB values from 0 to 255, less `mean`, over `std` (one number a channel); resized by Pillow's bilinear filter
    where a size is given.
    """

    def __init__(
        self, folder: Path, size: tuple[int, int] | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
    ) -> None:
        self.folder, self.size = folder, size
        self.mean = np.array(mean or (0.0,), np.float32).reshape(-1, 1, 1)
        self.std = np.array(std or (1.0,), np.float32).reshape(-1, 1, 1)
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not self.paths:
            raise CommandError(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))})")

    def __len__(self) -> int:
        return len(self.paths)

    def batches(self, batch_size: int) -> Iterator[NDArray[np.float32]]:
        """Read them, `batch_size` at a time."""
        first: tuple[int, ...] | None = None
        for start in range(0, len(self.paths), batch_size):
            images = []
            for path in self.paths[start : start + batch_size]:
                image = self._read(path)
                first = first or image.shape
                if image.shape != first:
                    raise CommandError(
                        f"{path} has {image.shape[2]} x {image.shape[1]} pixels, not {first[2]} x {first[1]} as those "
                        "before it: give --image-size HEIGHTxWIDTH to resize them all"
                    )
                images.append(image)
            yield np.stack(images)

    def _read(self, path: Path) -> NDArray[np.float32]:
        from PIL import Image

        try:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise CommandError(f"{path} cannot be read as an image: {error}") from None
        if self.size is not None:
            image = image.resize((self.size[1], self.size[0]), Image.Resampling.BILINEAR)
        pixels = np.asarray(image, np.float32).transpose(2, 0, 1)
        return np.ascontiguousarray((pixels - self.mean) / self.std)


def read_arrays(path: Path) -> Arrays:
    """Arrays of an ``.npz`` file by name, or the one of an ``.npy`` file as ``X``; samples first, real numbers."""
    try:
        # Opened here: given a name, NumPy leaves the file open where it is no archive.
        with path.open("rb") as file, contextlib.ExitStack() as stack:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                stack.enter_context(loaded)
                arrays = {name: loaded[name] for name in loaded.files}
            else:
                arrays = {"X": loaded}
    except FileNotFoundError:
        raise CommandError(f"{path} does not exist") from None
    except (ValueError, EOFError, zipfile.BadZipFile, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise CommandError(f"{path} cannot be read: {error.strerror}") from None
        if "object arrays" in str(error).lower():
            raise CommandError(
                f"{path} holds no plain arrays: it would have to be unpickled, which can run code; "
                "save arrays of numbers with np.save or np.savez"
            ) from None
        raise CommandError(f"{path} is not a file written by np.save or np.savez") from None
    if not arrays:
        raise CommandError(f"{path} holds no array")
    return arrays


def the_array(path: Path, arrays: Arrays) -> tuple[str, NDArray[Any]]:
    """Return the array for a model of one input: the only one, or X."""
    name = next(iter(arrays)) if len(arrays) == 1 else "X"
    if name not in arrays:
        raise CommandError(f"{path} has no array 'X', only {', '.join(arrays)}; save with X=...")
    x = arrays[name]
    if x.ndim < 1 or len(x) == 0:
        raise CommandError(f"{path}: {name} has shape {x.shape}; it must hold at least one sample, samples first")
    if x.dtype.kind not in "biuf":
        raise CommandError(f"{path}: {name} has dtype {x.dtype}; it must hold real numbers")
    return name, x


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Put the weights of a file into a model: safetensors, or what PyTorch reads without running code."""
    state = _state(path)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        first = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CommandError(f"{path} does not fit the model: {' '.join(first[1:3]) or first[0]}") from None


def _state(path: Path) -> Mapping[str, Any]:
    import torch

    if not path.is_file():
        raise CommandError(f"--checkpoint {path} does not exist")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CommandError(f"{path} is not a safetensors file: {error}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what it does not read: the error names it
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        if isinstance(error, pickle.UnpicklingError) and re.search("weights only|unsupported global", str(error), re.I):
            raise CommandError(
                f"{path} holds more than weights, and to read it could run code: save model.state_dict(), "
                "or use safetensors"
            ) from None
        raise CommandError(f"{path} is not a file of torch.save: {first_line(error)}") from None
    for name in _INSIDE:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise CommandError(
            f"{path} holds no state_dict, but {with_article(type(state).__name__)}: save model.state_dict()"
        )
    return state
