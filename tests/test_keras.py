"""Keras models on the PyTorch backend, with the real Keras: layers by their names, units in either data format."""

from __future__ import annotations

import os
import re
import subprocess
import sys

os.environ["KERAS_BACKEND"] = "torch"  # before the first import

import keras
import numpy as np
import pytest
from keras import layers

from leakyrelu.keras import watch, watch_callback

# Keras asks NumPy for arrays of tensors, which know no `copy`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

GENERATOR = np.random.default_rng(0)


def planted(data_format):
    """Make a model in which units 1 and 3 of each layer are silent and unit 0 of the first is always on."""
    keras.utils.set_random_seed(0)
    shape = (7, 9, 3) if data_format == "channels_last" else (3, 7, 9)
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, name="dense"), layers.LeakyReLU(name="act")], name="in"
    )
    model = keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(4, 3, activation="relu", data_format=data_format, name="conv"),
            layers.Conv2D(5, 3, data_format=data_format, name="second"),
            layers.ReLU(max_value=2.0, name="act"),
            layers.Flatten(data_format=data_format),
            layers.Dense(6, activation="leaky_relu", name="dense"),
            inner,
            layers.Dense(1, name="head"),
        ]
    )
    for layer in (model.get_layer("conv"), model.get_layer("second"), model.get_layer("dense"), inner.layers[0]):
        bias = np.zeros(layer.bias.shape, np.float32)
        bias[[1, 3]] = -100.0
        layer.bias.assign(bias)
    bias = np.array(model.get_layer("conv").bias.value.detach())
    bias[0] = 100.0
    model.get_layer("conv").bias.assign(bias)
    return model, GENERATOR.standard_normal((20, *shape)).astype(np.float32)


NAMES = ["conv.relu()", "act", "dense.leaky_relu()", "in/act"]


def attached(census):
    modules = [module for module, _ in census._observer.modules.values()]
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_planted_units_are_found_under_the_names_of_keras(data_format):
    model, x = planted(data_format)
    expected = model.predict(x, verbose=0)
    with watch(model) as census:
        y = model.predict(x, batch_size=8, verbose=0)
    assert attached(census) == 0
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    report = census.report()
    assert [layer.name for layer in report.layers] == NAMES
    assert [layer.units for layer in report.layers] == [4, 5, 6, 6]
    assert [layer.samples for layer in report.layers] == [20 * 5 * 7, 20 * 3 * 5, 20, 20]
    assert [layer.entries for layer in report.layers] == [20] * 4
    for layer in report.layers:
        assert set(layer.silent_units) >= {1, 3}
    assert report["conv.relu()"].silent_units.tolist() == [1, 3]
    assert report["conv.relu()"].always_on_units.tolist() == [0]
    assert (report["act"].ceiling, report["in/act"].negative_slope, report["in/act"].kind) == (2.0, 0.3, "LeakyReLU")
    assert report["dense.leaky_relu()"].negative_slope == 0.2
    # Keras itself says what goes into the layer.
    inside = keras.Model(model.inputs, model.get_layer("second").output).predict(x, verbose=0)
    others = tuple(axis for axis in range(4) if axis != (3 if data_format == "channels_last" else 1))
    np.testing.assert_array_equal(report["act"].counts.positive, (inside > 0).sum(others))
    np.testing.assert_array_equal(report["act"].counts.saturated, (inside >= 2).sum(others))


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (layers.ReLU(), lambda x: np.maximum(x, 0)),
        (layers.ReLU(threshold=0.5), lambda x: np.where(x > 0.5, x, 0)),
        (layers.ReLU(max_value=6.0, negative_slope=0.25), lambda x: np.where(x > 0, np.minimum(x, 6), 0.25 * x)),
        (layers.LeakyReLU(0.125), lambda x: np.where(x > 0, x, 0.125 * x)),
        (layers.PReLU("ones"), lambda x: x),
        (layers.PReLU("zeros"), lambda x: np.maximum(x, 0)),
        (layers.PReLU("zeros", shared_axes=[1]), lambda x: np.maximum(x, 0)),
    ],
)
def test_rectifiers_are_read_as_keras_computes_them(layer, function):
    model = keras.Sequential([keras.Input((5, 3)), layer])
    x = (4 * GENERATOR.standard_normal((400, 5, 3))).astype(np.float32)
    with watch(model, unit_axis={layer.name: -1}) as census:
        y = model.predict(x, batch_size=128, verbose=0)
    np.testing.assert_allclose(y, function(x), rtol=1e-6, atol=1e-6)
    (found,) = census.report().layers
    assert (found.kind, found.units, found.samples) == (type(layer).__name__, 3, 2000)
    low = 0.5 if getattr(layer, "threshold", 0) else 0.0
    np.testing.assert_array_equal(found.counts.positive, (x > low).sum((0, 1)))
    np.testing.assert_allclose(found.output_mean, y.mean((0, 1), dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(found.output_std, y.std((0, 1), dtype=np.float64), rtol=1e-5)


def test_slopes_of_units_of_their_own():
    model = keras.Sequential([keras.Input((5, 3)), layers.Dense(4), layers.PReLU(shared_axes=[1], name="act")])
    slopes = np.array([[0.0, 0.1, 0.2, 0.4]], np.float32)
    model.get_layer("act").alpha.assign(slopes)
    with watch(model) as census:
        y = model.predict(GENERATOR.standard_normal((100, 5, 3)).astype(np.float32), verbose=0)
    layer = census.report()["act"]
    np.testing.assert_array_equal(layer.negative_slope, slopes[0].astype(np.float64))
    np.testing.assert_allclose(layer.output_mean, y.mean((0, 1)), rtol=1e-4)


def test_the_callback_counts_training_batches_and_logs():
    model, x = planted("channels_last")
    model.compile("sgd", "mse")
    for variable in model.variables:
        variable.trainable = False  # the units stay as they were planted
    seen = []
    callback = watch_callback(every=2, to=lambda step, report: seen.append((step, report["conv.relu()"].samples)))
    assert isinstance(callback, keras.callbacks.Callback)
    model.get_layer("head").trainable = True
    y = np.zeros((20, 1), np.float32)
    history = model.fit(
        x, y, batch_size=4, epochs=2, verbose=0, shuffle=False, callbacks=[callback], validation_data=(x, y)
    )
    assert seen == [(step, 4 * 35) for step in (0, 2, 4, 6, 8)]
    units = callback.census.history["conv.relu()"]
    assert (units.observations, units.silent_units.tolist()) == (5, [1, 3])
    assert callback.census.report()["conv.relu()"].samples == 5 * 4 * 35
    share = callback.census.history.reports[-1].silent / 21
    assert history.history["silent_units"][-1] == share >= 8 / 21
    assert attached(callback.census) == 0


def test_a_fit_that_fails_is_cleared_up_by_the_next():
    model, x = planted("channels_last")
    model.compile("sgd", "mse")

    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise OSError("the disk is full")

    callback = watch_callback(every=1)
    with pytest.raises(OSError, match="the disk is full"):
        model.fit(x, np.zeros((20, 1)), verbose=0, callbacks=[callback, Fails()])
    model.fit(x, np.zeros((20, 1)), verbose=0, callbacks=[callback])
    assert attached(callback.census) == 0


def test_what_cannot_be_watched():
    with pytest.raises(TypeError, match=r"model must be a keras\.Model, not str"):
        watch("model")
    with pytest.raises(ValueError, match=r"the model 'sequential.*' is not built"):
        watch(keras.Sequential([layers.Dense(3)]))
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3), layers.ReLU()])
    model.compile("sgd", "mse", jit_compile=True)
    with pytest.raises(ValueError, match=r"is compiled with jit_compile=True, .*jit_compile=False"):
        watch(model)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("None", r"leakyrelu\.keras needs the package 'keras', .*: pip install keras, and set KERAS_BACKEND=torch"),
        (
            "types.SimpleNamespace(config=types.SimpleNamespace(backend=lambda: 'jax'))",
            r"Keras runs on the backend 'jax' here, .*KERAS_BACKEND=torch .*leakyrelu\.onnx\.diagnose",
        ),
    ],
)
def test_other_backends_are_refused_with_the_way_out(module, expected):
    code = f"import sys, types; sys.modules['keras'] = {module}\n"
    code += "from leakyrelu.keras import watch_callback\nassert 'torch' not in sys.modules\nwatch_callback()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(expected, done.stderr), done.stderr
