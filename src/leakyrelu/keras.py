"""Adapter for Keras models on the PyTorch backend: a watch that reads Keras layers, and a callback for `fit`.

Keras runs on one backend a process. On PyTorch its layers are modules and its operations PyTorch's functions, so
`leakyrelu.torch.watch` observes them. JAX and TensorFlow have no such hooks: there, write the model out with
``model.export("model.onnx", format="onnx")`` and give the file to `leakyrelu.onnx.diagnose`. Keras is imported when
one of the two functions is called.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from leakyrelu._extras import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from leakyrelu.diagnosis.report import Report

__all__ = ["watch", "watch_callback"]

_FEATURE_LAYERS = ("Dense", "EinsumDense", "Embedding", "MultiHeadAttention", "GroupedQueryAttention", "LSTM", "GRU")
_CHANNEL_LAYERS = ("BaseConv", "BaseConvTranspose", "BaseDepthwiseConv", "BaseSeparableConv")
_NORMALIZATIONS = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization")
_RECTIFIERS = ("ReLU", "LeakyReLU", "PReLU")


def watch(model: Any, **options: Any) -> Any:
    """Make a `leakyrelu.torch.watch` of a Keras model on the PyTorch backend.

    Layers go by their Keras names, those in nested models by ``model/layer``; a layer with ``activation="relu"`` is
    ``dense.relu()``. The units are what the layer has as units or filters, in either ``data_format``. With `every`,
    steps end when the census's ``step`` is called, which `watch_callback` does; Keras optimizers call no hook.

    A ``PReLU`` whose slopes differ along other axes than that of the units is counted with their mean over these.

    Parameters
    ----------
    model
        A Keras model that is built.
    options
        As for `leakyrelu.torch.watch`.

    Raises
    ------
    ImportError
        Keras or PyTorch is not installed.
    ValueError
        Keras runs on another backend, the model is not built, or it is compiled with ``jit_compile=True``.
    TypeError
        `model` is not a Keras model.

    Examples
    --------
    >>> import keras  # doctest: +SKIP
    >>> from leakyrelu.keras import watch
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="relu")])  # doctest: +SKIP
    >>> with watch(model) as census:  # doctest: +SKIP
    ...     model.predict(x)
    >>> census.report().silent  # doctest: +SKIP
    """
    keras = _keras()
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model, not {type(model).__name__}")
    if not model.built:
        raise ValueError(f"the model {model.name!r} is not built, so its layers are not there yet: call it once before")
    if getattr(model, "jit_compile", False) is True:
        raise ValueError(
            f"the model {model.name!r} is compiled with jit_compile=True, and compiled code passes hooks by: "
            "call model.compile(..., jit_compile=False)"
        )
    return _watch_class(keras)(model, **options)


def watch_callback(*, every: int = 50, **options: Any) -> Any:
    """Make a callback that watches the model in `fit` and adds ``silent_units`` to the logs of each epoch.

    That is the share of the model's units that were silent in the latest census. The callback's attribute ``census`` is
    the watch, with the report and the history, also after the fit. A fit that fails leaves its hooks on the model until
    the next one with this callback, or until ``census.__exit__(None, None, None)``.

    Parameters
    ----------
    every, options
        As for `leakyrelu.torch.watch`: one training batch in `every` is counted.

    Raises
    ------
    ImportError, ValueError
        As `watch`; the model is checked when the fit begins.
    """
    base: Any = _keras().callbacks.Callback

    class WatchCallback(base):  # type: ignore[misc]
        census: Any = None
        _latest: Report | None = None

        def on_train_begin(self, logs: Any = None) -> None:
            def keep(step: int, report: Report) -> None:
                self._latest = report

            self.on_train_end()  # a fit before this one may have failed, and Keras calls no callback then
            writers = options.get("to")
            others = writers if isinstance(writers, list | tuple) else [writers]
            self.census = watch(self.model, every=every, **{**options, "to": [keep, *others]})
            self.census.__enter__()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.census.step()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if self._latest is not None and logs is not None:
                logs["silent_units"] = self._latest.silent / max(self._latest.units, 1)

        def on_train_end(self, logs: Any = None) -> None:
            if self.census is not None:
                self.census.__exit__(None, None, None)

    return WatchCallback()


def _watch_class(keras: Any) -> Any:
    """Return the subclass of `leakyrelu.torch.watch` that reads Keras layers."""
    from leakyrelu.torch.diagnosis.framework import Framework
    from leakyrelu.torch.diagnosis.rectifiers import Rectifier
    from leakyrelu.torch.diagnosis.watcher import watch as torch_watch

    layers = keras.layers
    rectifiers = tuple(getattr(layers, name) for name in _RECTIFIERS)
    last = tuple(getattr(layers, name) for name in _FEATURE_LAYERS if hasattr(layers, name))
    norms = tuple(getattr(layers, name) for name in _NORMALIZATIONS if hasattr(layers, name))

    def named_modules(model: Any) -> Iterator[tuple[str, Any]]:
        yield "", model
        taken: set[int] = {id(model)}
        pending = [("", layer) for layer in _children(model)]
        while pending:
            path, layer = pending.pop(0)
            if id(layer) in taken:
                continue
            taken.add(id(layer))
            yield path + layer.name, layer
            pending[:0] = [(f"{path}{layer.name}/", child) for child in _children(layer)]

    def output_axis(layer: Any) -> int | None:
        if isinstance(layer, last):
            return -1
        if any(kind.__name__ in _CHANNEL_LAYERS for kind in type(layer).__mro__):
            return -1 if layer.data_format == "channels_last" else -1 - layer.rank
        if isinstance(layer, norms):
            axis = getattr(layer, "axis", -1)
            return int(axis[-1] if isinstance(axis, list | tuple) else axis)
        return None

    def rectifier_of(layer: Any) -> Rectifier | None:
        kind = type(layer).__name__
        if isinstance(layer, layers.LeakyReLU):
            return Rectifier(kind, float(layer.negative_slope))
        if isinstance(layer, layers.PReLU):
            slopes = layer.alpha.value.detach()
            # One axis of the slopes is that of the units: the last that is not shared.
            axis = next((i for i in reversed(range(slopes.ndim)) if slopes.shape[i] > 1), slopes.ndim - 1)
            others = [i for i in range(slopes.ndim) if i != axis]
            slope = slopes.mean(others) if others else slopes
            return Rectifier(kind, slope, slope_axis=axis + 1)
        ceiling = math.inf if layer.max_value is None else float(layer.max_value)
        low, slope = float(layer.threshold), float(layer.negative_slope)
        if slope == 0:
            return Rectifier(kind, rest=0.0, low=low, ceiling=ceiling)
        # With a slope and another threshold than 0 it is not continuous, and no `Rectifier`.
        return Rectifier(kind, slope, ceiling=ceiling) if low == 0 else None

    class Watch(torch_watch):
        _framework = Framework(named_modules, lambda layer: isinstance(layer, rectifiers), output_axis, rectifier_of)

    return Watch


def _children(layer: Any) -> list[Any]:
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _keras() -> Any:
    keras = require("keras", by="leakyrelu.keras", hint=", and set KERAS_BACKEND=torch")
    backend = keras.config.backend()
    if backend != "torch":
        raise ValueError(
            f"Keras runs on the backend {backend!r} here, where a model cannot be watched: set KERAS_BACKEND=torch "
            'before the first import, or export the model, model.export("model.onnx", format="onnx"), for '
            "leakyrelu.onnx.diagnose"
        )
    return keras
