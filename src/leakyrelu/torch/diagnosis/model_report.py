"""The report on a PyTorch model: its batches run through it in evaluation mode while a census counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from leakyrelu._text import printable, with_article
from leakyrelu.torch.diagnosis.batch_checks import BatchChecks
from leakyrelu.torch.diagnosis.rectifiers import RECTIFIERS
from leakyrelu.torch.diagnosis.watcher import watch

if TYPE_CHECKING:
    from torch import nn

    from leakyrelu.diagnosis.report import Report


__all__ = ["NoRectifierError", "diagnose"]


class NoRectifierError(ValueError):
    """Error of a model that ran and called nothing that could be counted.

    Examples
    --------
    >>> import torch
    >>> from leakyrelu.torch import NoRectifierError, diagnose
    >>> try:
    ...     diagnose(torch.nn.Linear(2, 2), torch.ones(3, 2))
    ... except NoRectifierError as error:
    ...     print(str(error)[:40])
    no rectifier was called in Linear: neith
    """


def diagnose(model: nn.Module, data: Any, *, unit_axis: Mapping[str, int] | None = None) -> Report:
    """Run data through a model and report what its rectifiers did.

    The model runs in evaluation mode and without gradients; afterwards every module is back in the mode it was in.
    The counts are those of `leakyrelu.torch.watch`, over all batches together: their order and size do not matter.
    NaN and infinity in the data are noticed: ``report.data`` holds how many there are and where the first is.

    Parameters
    ----------
    model
        The model, on any device; batches are moved to that of its first parameter.
    data
        Any iterable of batches, such as a DataLoader. A batch is a tensor, a tuple or list whose first item is the
        input (the rest, labels for instance, is left alone), or a dict of keyword arguments. One tensor or one dict in
        place of the iterable is one batch.
    unit_axis
        As for `watch`.

    Raises
    ------
    TypeError
        `model` is not a module, `data` cannot be iterated, or a batch is none of the above.
    ValueError
        There is no batch, the model called no rectifier (`NoRectifierError`), or as for `watch`.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import diagnose
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> _ = model.load_state_dict({"0.weight": torch.eye(3, 2), "0.bias": torch.tensor([0.0, 0.0, -1.0])})
    >>> report = diagnose(model, [torch.tensor([[1.0, 2.0], [3.0, -4.0]])])
    >>> report.layers[0].positive_share
    array([1. , 0.5, 0. ])
    """
    census = watch(model, unit_axis=unit_axis)
    if isinstance(data, Tensor | Mapping):
        data = [data]  # iterating would take it apart: rows without their batch axis, or keys
    if not isinstance(data, Iterable) or isinstance(data, str):
        raise TypeError(
            f"data must be an iterable of batches, not {type(data).__name__}: [batch] makes one of a batch, "
            "torch.utils.data.DataLoader(dataset, batch_size=64) of a data set"
        )
    checks = BatchChecks()
    device = next((tensor.device for tensor in chain(model.parameters(), model.buffers())), None)
    modes = [(module, module.training) for module in model.modules()]
    number = -1
    try:
        model.eval()
        with census, torch.no_grad():
            for number, batch in enumerate(data):
                inputs = _inputs(batch, number)
                for name, value in inputs.items():
                    if isinstance(value, Tensor):
                        checks.add(name, value)
                        inputs[name] = value if device is None else value.to(device)
                try:
                    model(*([inputs.pop("")] if "" in inputs else []), **inputs)
                except Exception as error:
                    error.add_note(f"The model was run on batch {number} of the data: {_described(batch)}.")
                    raise
    finally:
        for module, training in modes:
            if module.training is not training:
                module.training = training
    if number < 0:
        raise ValueError(
            "data holds no batch: an empty loader, or a generator that was used up before? "
            "Give a list of batches or a DataLoader, or make the generator again"
        )
    if not census._counts.rectifiers:
        kinds = ", ".join(f"nn.{kind.__name__}" for kind in RECTIFIERS[:-1])
        raise NoRectifierError(
            f"no rectifier was called in {type(model).__name__}: neither {kinds}, a layer of leakyrelu.torch or a "
            f"subclass among its {len(modes)} modules, nor F.relu, x.relu_(), x.clamp(min=0) and the like. "
            "Fused or compiled kernels are not seen: run the model without them"
        )
    return replace(census.report(), data=checks.read())


def _inputs(batch: Any, number: int) -> dict[str, Any]:
    """Return the keyword arguments of the model that a batch holds; its one positional argument has the name ""."""
    if isinstance(batch, Mapping):
        if wrong := [key for key in batch if not isinstance(key, str)]:
            raise TypeError(f"batch {number} is a dict of keyword arguments, but its key {wrong[0]!r} is not a string")
        if arrays := [name for name, value in batch.items() if isinstance(value, np.ndarray)]:
            raise TypeError(
                f"batch {number} holds an ndarray for {arrays[0]!r}, and the model takes tensors: torch.from_numpy "
                "makes a tensor of an array"
            )
        if not batch:
            raise ValueError(f"batch {number} is an empty dict: give the keyword arguments of the model")
        return dict(batch)
    first = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(first, Tensor):
        inside = "" if first is batch else f" that starts with {with_article(type(first).__name__)}"
        raise TypeError(
            f"batch {number} is {with_article(type(batch).__name__)}{inside}: a batch must be a tensor, a tuple or "
            "list that starts with one, or a dict of keyword arguments (torch.from_numpy makes a tensor of an array)"
        )
    return {"": first}


def _described(batch: Any) -> str:
    """Return what a batch gives to the model, for a message: the shape and dtype of its tensors."""
    values = batch if isinstance(batch, Mapping) else {"": batch if isinstance(batch, Tensor) else batch[0]}
    shapes = {
        name: f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        for name, value in values.items()
    }
    return ", ".join(f"{printable(name)} {text}".strip() for name, text in shapes.items())
