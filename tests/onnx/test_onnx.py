"""The ONNX adapter, on files made node by node, against the same computation in NumPy."""

from __future__ import annotations

import sys

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_files import save, tensor

from leakyrelu.diagnosis.input_check import InputCheck
from leakyrelu.onnx import diagnose

RNG = np.random.default_rng(0)
W1 = RNG.normal(size=(5, 8)).astype(np.float32)
B1 = np.array([0, 0, 0, -100, 100, 0, 0, -100], np.float32)  # units 3 and 7 silent, 4 always on
W2 = RNG.normal(size=(8, 4)).astype(np.float32)
B2 = np.array([0, -1000, 0, 0], np.float32)
X = RNG.normal(size=(600, 5)).astype(np.float32)


def mlp(path, act=("Relu", {}), *, batch="n", opset=13, extra=(), tensors=(), **keywords):
    kind, attributes = act
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node(kind, ["h", *extra], ["a"], name="first", **attributes),
        helper.make_node("Gemm", ["a", "w2", "b2"], ["g"]),
        helper.make_node("Relu", ["g"], ["y"]),
    ]
    weights = [tensor("w1", W1), tensor("b1", B1), tensor("w2", W2), tensor("b2", B2), *tensors]
    return save(path, nodes, [("x", TensorProto.FLOAT, [batch, 5])], weights, opset=opset, **keywords)


H = X.astype(np.float64) @ W1 + B1


def check(layer, x, slope=0.0, ceiling=np.inf):
    """Everything in a layer against NumPy on all of its inputs at once; units last."""
    y = np.minimum(np.where(x > 0, x, slope * x), ceiling)
    np.testing.assert_array_equal(layer.counts.positive, (x > 0).sum(0))
    assert layer.samples == len(x)
    np.testing.assert_allclose(layer.output_mean, y.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.output_std, y.std(0), rtol=1e-4, atol=1e-5)
    assert layer.silent_units.tolist() == np.flatnonzero((x <= 0).all(0)).tolist()


@pytest.mark.parametrize("opset", [9, 10, 11, 13, 17, 21])
@pytest.mark.parametrize("batch_size", [7, 600])
def test_planted_units_are_found_at_every_opset_and_batch_size(tmp_path, opset, batch_size):
    report = diagnose(mlp(tmp_path / "m.onnx", opset=opset), X, batch_size=batch_size)
    assert [layer.name for layer in report.layers] == ["first", "y"]  # the second has no name: that of its output
    first, second = report.layers
    check(first, H)
    check(second, np.maximum(H, 0) @ W2 + B2)
    assert first.silent_units.tolist() == [3, 7]
    assert first.always_on_units.tolist() == [4]
    assert 1 in second.silent_units
    assert first.calls == -(-600 // batch_size)


@pytest.mark.parametrize(
    ("act", "extra", "tensors", "opset", "slope", "ceiling"),
    [
        (("LeakyRelu", {}), (), (), 13, 0.01, np.inf),
        (("LeakyRelu", {"alpha": 0.25}), (), (), 9, 0.25, np.inf),
        (("PRelu", {}), ["s"], [tensor("s", np.linspace(0.1, 0.8, 8, dtype=np.float32))], 13, None, np.inf),
        (("PRelu", {}), ["s"], [tensor("s", np.float32([0.3]))], 9, np.float32(0.3), np.inf),
        (("Clip", {"min": 0.0, "max": 6.0}), (), (), 9, 0.0, 6.0),
        (("Clip", {"min": 0.0}), (), (), 10, 0.0, np.inf),
        (("Clip", {}), ["lo", "hi"], [tensor("lo", np.float32(0)), tensor("hi", np.float32(6))], 11, 0.0, 6.0),
        (("Clip", {}), ["lo"], [tensor("lo", np.float32(0))], 13, 0.0, np.inf),
    ],
)
def test_every_kind_of_rectifier(tmp_path, act, extra, tensors, opset, slope, ceiling):
    path = mlp(tmp_path / "m.onnx", act, extra=extra, tensors=tensors, opset=opset)
    layer = diagnose(path, X)["first"]
    if slope is None:
        slope = np.linspace(0.1, 0.8, 8, dtype=np.float32)
    assert layer.kind == act[0]
    assert layer.ceiling == ceiling
    np.testing.assert_allclose(layer.negative_slope, slope, rtol=1e-7)
    check(layer, H, slope, ceiling)
    if ceiling == 6.0:
        np.testing.assert_array_equal(layer.counts.saturated, (H >= 6).sum(0))


def conv(path, batch="n"):
    weight = RNG.normal(size=(3, 2, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "g", "be", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"], name="conv_act"),
        helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("LeakyRelu", ["t"], ["l"], name="last_act"),
        helper.make_node("GlobalAveragePool", ["r"], ["y"]),
    ]
    tensors = [tensor("w", weight), tensor("b", np.float32([0, -1e3, 1e3]))]
    tensors += [tensor(name, np.float32([v] * 3)) for name, v in (("g", 1), ("be", 0), ("m", 0), ("v", 1))]
    return save(path, nodes, [("x", TensorProto.FLOAT, [batch, 2, 6, 6])], tensors)


def test_the_units_of_a_convolution_are_its_channels_also_after_a_transpose(tmp_path):
    report = diagnose(conv(tmp_path / "c.onnx"), RNG.normal(size=(9, 2, 6, 6)), batch_size=4)
    for layer in report.layers:
        assert (layer.units, layer.samples, layer.entries) == (3, 9 * 36, 9)
        assert layer.silent_bound.tolist() == [3 / 9]
        assert layer.silent_units.tolist() == [1]
        assert layer.always_on_units.tolist() == [2]


def test_the_caller_can_say_otherwise(tmp_path):
    path = conv(tmp_path / "c.onnx")
    x = np.ones((2, 2, 6, 6), np.float32)
    assert diagnose(path, x, unit_axis={"conv_act": -1})["conv_act"].units == 6
    with pytest.raises(ValueError, match=r"unit_axis names 'act', which is not counted; there are 'conv_act', 'las"):
        diagnose(path, x, unit_axis={"act": 1})
    with pytest.raises(ValueError, match=r"axis 4 for 'conv_act', but its input has shape .*: give an axis from -4 to"):
        diagnose(path, x, unit_axis={"conv_act": 4})
    with pytest.raises(ValueError, match=r"conv_act has 2 units in one batch and 1 in another: axis 0 is not that"):
        diagnose(path, x[[0, 0, 0]], batch_size=2, unit_axis={"conv_act": 0})


def test_a_fixed_batch_is_filled_up_with_what_is_not_counted(tmp_path):
    fixed = diagnose(mlp(tmp_path / "m.onnx", batch=64), X)
    free = diagnose(mlp(tmp_path / "f.onnx"), X)
    for one, other in zip(fixed.layers, free.layers, strict=True):
        assert one.samples == other.samples == 600  # 9 batches of 64, and 24 left over
        np.testing.assert_array_equal(one.counts.positive, other.counts.positive)
        np.testing.assert_allclose(one.counts.mean, other.counts.mean, rtol=1e-5, atol=1e-5)


def test_leftovers_that_cannot_be_distinguished_are_refused(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("Relu", ["t"], ["y"], name="turned"),
    ]
    path = save(tmp_path / "t.onnx", nodes, [("x", TensorProto.FLOAT, [4, 5])], [])
    diagnose(path, X[:8])
    with pytest.raises(ValueError, match=r"exactly 4 samples at a time, 2 are left over, and at turned they cannot be"):
        diagnose(path, X[:10])
    square = save(tmp_path / "s.onnx", nodes, [("x", TensorProto.FLOAT, [5, 5])], [])
    with pytest.raises(ValueError, match=r"give a multiple of 5"):  # as long, but not the samples
        diagnose(square, X[:8])


@pytest.mark.parametrize("batch", ["n", 64, 600])
def test_values_that_are_not_finite_are_located(tmp_path, batch):
    path = mlp(tmp_path / "m.onnx", batch=batch)
    x = X.copy()
    x[70, 3], x[70, 4], x[599, 1] = np.nan, np.inf, np.inf  # the last is in the batch that is filled up
    assert diagnose(path, x).data == (InputCheck("x", 600, 1, 2, 2, 70, (3,)),)
    assert diagnose(path, X).data == (InputCheck("x", 600),)
    if batch != 600:
        assert diagnose(path, [x[:50], {"x": x[50:]}]).data == (InputCheck("x", 600, 1, 2, 2, 70, (3,)),)


def two_inputs(path):
    nodes = [
        helper.make_node("Add", ["left", "right"], ["s"]),
        helper.make_node("Mul", ["s", "scale"], ["m"]),
        helper.make_node("Relu", ["m"], ["y"], name="act"),
    ]
    kinds = [("left", TensorProto.FLOAT, ["n", 3]), ("right", TensorProto.DOUBLE, ["n", 3])]
    nodes.insert(0, helper.make_node("Cast", ["right"], ["right32"], to=TensorProto.FLOAT))
    nodes[1].input[1] = "right32"
    return save(path, nodes, [*kinds, ("scale", TensorProto.FLOAT, [])], [])


def test_several_inputs_go_by_name(tmp_path):
    path = two_inputs(tmp_path / "two.onnx")
    left, right = RNG.normal(size=(2, 50, 3)).astype(np.float32)
    data = {"right": right, "left": left, "scale": np.float32(-1.0), "labels": np.zeros(50)}
    np.savez(tmp_path / "x.npz", **data)
    with np.load(tmp_path / "x.npz") as archive:
        layer = diagnose(path, archive, batch_size=8)["act"]
    assert layer.samples == 50
    np.testing.assert_array_equal(layer.counts.positive, (-(left + right) > 0).sum(0))
    assert diagnose(path, [(left, right, np.float32(-1.0))])["act"].samples == 50
    with pytest.raises(ValueError, match=r"no array for the input 'scale' among 'left', 'right': the model takes left"):
        diagnose(path, {"left": left, "right": right})
    with pytest.raises(ValueError, match=r"has 3 inputs \(left .*\): give a mapping from their names to arrays"):
        diagnose(path, left)
    with pytest.raises(ValueError, match=r"different numbers of samples \(.*left: 50.*\): give each the same number"):
        diagnose(path, data | {"right": right[:9]})


def test_batches_may_be_any_iterable_and_add_up(tmp_path):
    path = mlp(tmp_path / "m.onnx")
    done: list[int] = []
    report = diagnose(path, (X[i : i + 50] for i in range(0, 600, 50)), batch_size=64, progress=done.append)
    check(report["first"], H)
    assert done == list(range(50, 601, 50))
    halves = diagnose(path, X[:300]) + diagnose(path, X[300:])
    check(halves["first"], H)


def test_external_data(tmp_path):
    slope = tensor("s", np.linspace(0.1, 0.8, 8, dtype=np.float32))
    path = mlp(
        tmp_path / "m.onnx",
        ("PRelu", {}),
        extra=["s"],
        tensors=[slope],
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert path.stat().st_size < 1000
    before = sorted((file.name, file.read_bytes()) for file in tmp_path.iterdir())
    check(diagnose(path, X)["first"], H, np.linspace(0.1, 0.8, 8, dtype=np.float32))
    assert sorted((file.name, file.read_bytes()) for file in tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_precision(tmp_path, kind):
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=kind),
        helper.make_node("Add", ["h", "z"], ["s"]),
        helper.make_node("Relu", ["s"], ["r"], name="act"),
        helper.make_node("Cast", ["r"], ["y"], to=TensorProto.FLOAT),
    ]
    zero = helper.make_tensor("z", kind, [1], [0.0])
    if kind == TensorProto.BFLOAT16:  # on the CPU, ONNX Runtime adds no such numbers
        nodes = [helper.make_node("Cast", ["x"], ["s"], to=kind), *nodes[2:]]
    path = save(tmp_path / "h.onnx", nodes, [("x", TensorProto.FLOAT, ["n", 5])], [zero])
    layer = diagnose(path, X)["act"]
    rounded = X.astype(np.float16 if kind == TensorProto.FLOAT16 else ml_dtypes.bfloat16).astype(np.float64)
    check(layer, rounded)


def test_a_rectifier_of_an_input_and_two_of_one_tensor(tmp_path):
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="b"),
        helper.make_node("LeakyRelu", ["x"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, [("x", TensorProto.FLOAT, ["n", 5])], [])
    report = diagnose(path, X)
    assert [layer.name for layer in report.layers] == [
        "b",
        "b:0",
    ]  # the second goes by its output, which is the name of the first
    for layer in report.layers:
        np.testing.assert_array_equal(layer.counts.positive, (X > 0).sum(0))


def test_gates_and_other_clips_are_no_rectifiers(tmp_path):
    nodes = [
        helper.make_node("Add", ["x", "three"], ["g"]),
        helper.make_node("Clip", ["g", "zero", "six"], ["gate"], name="gate"),
        helper.make_node("Clip", ["x", "minus", "six"], ["c"], name="other"),
        helper.make_node("Add", ["gate", "c"], ["y"]),
    ]
    values = {"three": 3, "zero": 0, "six": 6, "minus": -1}
    tensors = [tensor(name, np.float32(value)) for name, value in values.items()]
    path = save(tmp_path / "g.onnx", nodes, [("x", TensorProto.FLOAT, ["n", 5])], tensors)
    with pytest.raises(ValueError, match=r"no rectifier to count \(Relu, .*\); its operators are Add, Clip"):
        diagnose(path, X)


def test_branches_are_named_in_a_warning(tmp_path):
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["b"], name="inner")],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("If", ["flag"], ["i"], then_branch=inner, else_branch=inner),
        helper.make_node("Relu", ["i"], ["y"], name="outer"),
    ]
    inputs = [("x", TensorProto.FLOAT, ["n", 5])]
    path = save(tmp_path / "i.onnx", nodes, inputs, [tensor("flag", np.bool_(True))])
    with pytest.warns(UserWarning, match=r"'inner', 'inner' lie within branches or loops"):
        assert diagnose(path, X).layers[0].name == "outer"
    nodes[1] = helper.make_node("Tanh", ["i"], ["y"])
    path = save(tmp_path / "j.onnx", nodes, inputs, [tensor("flag", np.bool_(True))])
    with pytest.raises(ValueError, match=r"no rectifier to count: 'inner', 'inner' lie within branches"):
        diagnose(path, X)


@pytest.mark.parametrize("opset", [13, 15])
def test_local_functions_are_looked_into(tmp_path, opset):
    function = helper.make_function(
        "own", "Act", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 13)]
    )
    graph = helper.make_graph(
        [helper.make_node("Act", ["x"], ["y"], domain="own")],
        "f",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8), tmp_path / "f.onnx")
    (layer,) = diagnose(tmp_path / "f.onnx", X).layers
    np.testing.assert_array_equal(layer.counts.positive, (X > 0).sum(0))


def test_what_cannot_be_used_is_refused(tmp_path):
    path = mlp(tmp_path / "m.onnx")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*gone\.onnx"):
        diagnose(tmp_path / "gone.onnx", X)
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"bad\.onnx is no ONNX model: "):
        diagnose(tmp_path / "bad.onnx", X)
    with pytest.raises(
        ValueError, match=r"the input 'x' of .* takes float32, but the data is int64: convert it with \.ast"
    ):
        diagnose(path, X.astype(np.int64))
    with pytest.raises(ValueError, match=r"could not be run on x float32 \(6, 9\): "):
        diagnose(path, np.ones((6, 9), np.float32))
    with pytest.raises(ValueError, match=r"data holds no sample: give an array"):
        diagnose(path, [])
    with pytest.raises(ValueError, match=r"data holds no sample"):
        diagnose(path, X[:0])
    with pytest.raises(TypeError, match=r"data must be an array, a mapping .*, not str"):
        diagnose(path, "x.npz")
    with pytest.raises(ValueError, match=r"batch_size must be at least 1, got 0"):
        diagnose(path, X, batch_size=0)
    slopes = tensor("s", np.ones((2, 1), np.float32))
    odd = save(
        tmp_path / "p.onnx",
        [helper.make_node("PRelu", ["x", "s"], ["y"], name="act")],
        [("x", TensorProto.FLOAT, ["n", 2, 5])],
        [slopes],
    )
    assert diagnose(odd, np.ones((4, 2, 5), np.float32))["act"].units == 2
    with pytest.raises(ValueError, match=r"act has slopes of shape \(2, 1\) for 5 units along axis 2: say which axis"):
        diagnose(odd, np.ones((4, 2, 5), np.float32), unit_axis={"act": 2})


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, missing):
    path = mlp(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, missing, None)
    text = rf"leakyrelu\.onnx needs the package '{missing}', which is not installed: pip install \"leakyrelu\[onnx\]\""
    with pytest.raises(ImportError, match=text):
        diagnose(path, X)
