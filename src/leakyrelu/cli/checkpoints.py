"""Files of weights: safetensors, or what PyTorch reads without running code."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakyrelu._extras import require
from leakyrelu._text import counted, few, first_line, type_and_first_line, with_article
from leakyrelu.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

_INSIDE = ("state_dict", "model_state_dict", "model")  # where checkpoints of training programs keep the weights
_SHOWN = 3  # names of each kind in a message


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Put the weights of a file into a model."""
    if not path.is_file():
        raise CommandError(f"--checkpoint {path} {'is not a file' if path.exists() else 'does not exist'}")
    state = _safetensors(path) if path.suffix.lower() == ".safetensors" else _state_dict(path)
    try:
        model.load_state_dict(state)
    except Exception as error:  # layers of the user's own may raise any
        differences = "; ".join(_differences(model.state_dict(), state)) or type_and_first_line(error)
        raise CommandError(f"{path} does not fit the model: {differences}") from error


def error_without_program(path: str) -> CommandError:
    """Return the error of a file of PyTorch that was given as a model and holds no program."""
    remedy = "name what builds the model, MODULE:FACTORY, and give"
    try:
        _state_dict(Path(path))
    except _PickledError as error:
        return CommandError(
            f"{path} holds {error.what}, pickled, and to read it could run code: {remedy} its weights to --checkpoint "
            "(torch.save(model.state_dict(), ...)), or export it with torch.onnx.export or torch.export.save"
        )
    except CommandError as error:
        return error
    return CommandError(f"{path} holds weights without the model: {remedy} this file to --checkpoint")


class _PickledError(CommandError):
    """Error of a file that holds more than tensors; `what` says what, as far as it is known without reading it."""

    def __init__(self, path: Path, error: Exception) -> None:
        kind = re.search(r"GLOBAL ([\w.]+)", str(error))
        self.what = f"a whole model or another object ({kind[1]})" if kind else "a whole model or another object"
        super().__init__(
            f"{path} holds more than weights, and to read it could run code: save model.state_dict(), or use "
            "safetensors"
        )


def _safetensors(path: Path) -> Mapping[str, Any]:
    read = require("safetensors.torch", by="a .safetensors file").load_file
    try:
        state: Mapping[str, Any] = read(path)
    except Exception as error:
        raise CommandError(f"{path} is not a safetensors file: {first_line(error)}") from None
    return state


def _state_dict(path: Path) -> Mapping[str, Any]:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what it does not read: the error names it
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise almost any
        if isinstance(error, pickle.UnpicklingError) and re.search("weights only|unsupported global", str(error), re.I):
            raise _PickledError(path, error) from None
        raise CommandError(f"{path} is not a file of torch.save: {first_line(error)}") from None
    for name in _INSIDE:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())) or not state:
        raise CommandError(
            f"{path} holds no state_dict, but {with_article(type(state).__name__)}: save model.state_dict()"
        )
    return state


def _differences(model: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[str]:
    """Yield what keeps weights from fitting a model: how many tensors, and the first of them with their shapes."""
    prefix = f"{next(iter(state)).partition('.')[0]}."
    if {f"{prefix}{name}" for name in model} == set(state):
        yield f"every name in the file begins with {prefix!r}, so it is that of a model around this one"
        return
    lacking = [f"{name} {tuple(x.shape)}" for name, x in model.items() if name not in state]
    unknown = [f"{name} {tuple(x.shape)}" for name, x in state.items() if name not in model]
    other = [
        f"{name} {tuple(state[name].shape)} for {tuple(x.shape)}"
        for name, x in model.items()
        if name in state and state[name].shape != x.shape
    ]
    for names, what in (
        (lacking, f"of {len(model)} are not in the file"),
        (unknown, f"of {len(state)} in the file are unknown to the model"),
        (other, "have another shape"),
    ):
        if names:
            yield f"{counted(len(names), 'tensor')} {what} ({few(names, _SHOWN)})"
