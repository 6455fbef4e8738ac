"""Where the units of a rectifier are, in ONNX files: followed from the layer that makes them, or marked as assumed."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_files import save, tensor

from leakyrelu.onnx import diagnose

RNG = np.random.default_rng(7)
DEAD = [1, 4]
IMAGES = RNG.normal(size=(6, 3, 8, 8)).astype(np.float32)
N = helper.make_node
FLOAT = TensorProto.FLOAT


WEIGHT = RNG.normal(scale=0.3, size=(8, 3, 1, 1)).astype(np.float32)
SHIFT = np.where(np.isin(range(8), DEAD), -1e4, 2).astype(np.float32)  # two of 8 units are never positive


def conv():
    """A convolution of 3 channels to 8 units."""
    tensors = [tensor("weight", WEIGHT), tensor("bias", SHIFT)]
    return N("Conv", ["x", "weight", "bias"], ["c"], name="conv"), tensors


def ints(name, *values):
    return tensor(name, np.int64(values))


def row(tmp_path, nodes, tensors, *, x=IMAGES, opset=18, act="Relu", **keywords):
    shape = ["n", *x.shape[1:]]
    path = save(tmp_path / "m.onnx", nodes, [("x", FLOAT, shape)], tensors, opset=opset)
    return diagnose(path, x, batch_size=4, **keywords)["act"]


RELU = N("Relu", ["h"], ["y"], name="act")
# Nodes between a convolution of 8 units, "c", and a rectifier of "h"; constants; the axes that hold the units.
BETWEEN = {
    "nothing": ([N("Identity", ["c"], ["h"])], [], (1,)),
    "transpose": ([N("Transpose", ["c"], ["h"], perm=[0, 2, 3, 1])], [], (3,)),
    "flatten": ([N("Flatten", ["c"], ["h"])], [], (1,)),
    "heads": ([N("Reshape", ["c", "s"], ["h"])], [ints("s", 0, 4, 2, 64)], (1, 2)),
    "heads, permuted": (
        [N("Reshape", ["c", "s"], ["r"]), N("Transpose", ["r"], ["h"], perm=[0, 1, 3, 2])],
        [ints("s", 0, 4, 2, 64)],
        (1, 3),
    ),
    "heads, permuted and merged": (
        [
            *(N("Reshape", ["c", "s"], ["r"]), N("Transpose", ["r"], ["t"], perm=[0, 3, 1, 2])),
            N("Reshape", ["t", "u"], ["h"]),
        ],
        [ints("s", 0, 4, 2, 64), ints("u", 0, 64, 8)],
        (2,),
    ),
    "tokens": (
        [N("Reshape", ["c", "s"], ["r"]), N("Transpose", ["r"], ["h"], perm=[0, 2, 1])],
        [ints("s", 0, 8, -1)],
        (2,),
    ),
    "shape computed": (
        [
            *(N("Shape", ["c"], ["cs"]), N("Gather", ["cs", "zero"], ["b"]), N("Unsqueeze", ["b", "axis"], ["b1"])),
            *(N("Concat", ["b1", "tail"], ["s"], axis=0), N("Reshape", ["c", "s"], ["r"])),
            N("Transpose", ["r"], ["h"], perm=[0, 2, 1]),
        ],
        [tensor("zero", np.int64(0)), ints("axis", 0), ints("tail", 8, 64)],
        (2,),
    ),
    "batch norm after a reshape": (
        [
            N("Reshape", ["c", "s"], ["r"]),
            N("BatchNormalization", ["r", "one", "none", "none", "one"], ["h"]),
        ],
        [ints("s", 0, 4, 2, 64), tensor("one", np.ones(4, np.float32)), tensor("none", np.zeros(4, np.float32))],
        (1, 2),
    ),
    "group norm spelled out": (
        [
            *(N("Reshape", ["c", "s"], ["r"]), N("InstanceNormalization", ["r", "one", "none"], ["i"])),
            *(N("Shape", ["c"], ["cs"]), N("Reshape", ["i", "cs"], ["j"]), N("Mul", ["j", "scale"], ["k"])),
            N("Add", ["k", "shift"], ["h"]),
        ],
        [
            *(ints("s", 0, 8, -1), tensor("one", np.ones(8, np.float32)), tensor("none", np.zeros(8, np.float32))),
            tensor("scale", np.ones((8, 1, 1), np.float32)),
            tensor("shift", SHIFT.reshape(8, 1, 1)),
        ],
        (1,),
    ),
    "layer norm of channels first": (
        [
            *(N("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]), N("LayerNormalization", ["t", "g", "b"], ["l"])),
            N("Transpose", ["l"], ["h"], perm=[0, 3, 1, 2]),
        ],
        [
            tensor("g", np.ones(8, np.float32)),
            tensor("b", SHIFT),
        ],
        (1,),
    ),
    "layer norm of channels first, spelled out": (
        [
            *(N("ReduceMean", ["c", "one"], ["m"]), N("Sub", ["c", "m"], ["d"]), N("Mul", ["d", "d"], ["sq"])),
            *(N("ReduceMean", ["sq", "one"], ["v"]), N("Sqrt", ["v"], ["sd"]), N("Div", ["d", "sd"], ["q"])),
            N("Add", ["q", "shift"], ["h"]),
        ],
        [
            ints("one", 1),
            tensor("shift", SHIFT.reshape(8, 1, 1)),
        ],
        (1,),
    ),
    "max pooling": ([N("MaxPool", ["c"], ["h"], kernel_shape=[2, 2], strides=[2, 2])], [], (1,)),
    "global pooling, squeezed": (
        [N("GlobalAveragePool", ["c"], ["g"]), N("Squeeze", ["g", "a"], ["h"])],
        [ints("a", 2, 3)],
        (1,),
    ),
    "mean over positions": ([N("ReduceMean", ["c", "a"], ["h"], keepdims=0)], [ints("a", 2, 3)], (1,)),
    "concatenated with itself": ([N("Concat", ["c", "c"], ["h"], axis=1)], [], (1,)),
    "sliced": ([N("Slice", ["c", "a", "b", "d"], ["h"])], [ints("a", 0), ints("b", 6), ints("d", 1)], (1,)),
    "split": ([N("Split", ["c", "s"], ["h", "other"], axis=1)], [ints("s", 6, 2)], (1,)),
    "gathered": ([N("Gather", ["c", "i"], ["h"], axis=1)], [ints("i", 0, 1, 4)], (1,)),
    "one position": ([N("Gather", ["c", "i"], ["h"], axis=2)], [tensor("i", np.int64(0))], (1,)),
    "pixel shuffle": ([N("DepthToSpace", ["c"], ["h"], blocksize=2, mode="CRD")], [], (1, 3, 5)),
    "resized": ([N("Resize", ["c", "", "s"], ["h"], mode="nearest")], [tensor("s", np.float32([1, 1, 2, 2]))], (1,)),
    "padded": (
        [N("Pad", ["c", "p", "v"], ["h"])],
        [ints("p", 0, 0, 1, 1, 0, 0, 1, 1), tensor("v", np.float32(-1))],
        (1,),
    ),
    "gated by its mean": (
        [N("GlobalAveragePool", ["c"], ["g"]), N("Sigmoid", ["g"], ["q"]), N("Mul", ["c", "q"], ["h"])],
        [],
        (1,),
    ),
    "attention over positions, as an image": (
        [
            *(N("Reshape", ["c", "s"], ["v0"]), N("Transpose", ["v0"], ["v"], perm=[0, 1, 3, 2])),
            *(N("MatMul", ["v", "v0"], ["scores"]), N("Softmax", ["scores"], ["p"], axis=-1)),
            *(N("MatMul", ["p", "v"], ["o"]), N("Transpose", ["o"], ["t"], perm=[0, 1, 3, 2])),
            N("Reshape", ["t", "u"], ["h"]),
        ],
        [ints("s", 0, 4, 2, 64), ints("u", 0, 8, 8, 8)],
        (1,),
    ),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_units_are_followed(tmp_path, between):
    nodes, tensors, axes = BETWEEN[between]
    node, weights = conv()
    layer = row(tmp_path, [node, *nodes, RELU], [*weights, *tensors])
    assert layer.axis.known
    assert layer.axis.axes == axes
    expected = {"concatenated with itself": [1, 4, 9, 12], "gathered": [1, 2]}.get(between, DEAD)
    assert layer.silent_units.tolist() == expected
    assert layer.units == {"concatenated with itself": 16, "gathered": 3, "sliced": 6, "split": 6}.get(between, 8)
    assert not layer.axis.alternatives
    assert layer.entries == 6


TOKENS = RNG.normal(size=(6, 5, 8)).astype(np.float32)
SQUARE = RNG.normal(size=(8, 8)).astype(np.float32)
# Operators that make units of their own of tokens of 8 features; the axis that holds the units.
LAYERS = {
    "weight on the right": ([N("MatMul", ["x", "w"], ["h0"])], [tensor("w", SQUARE)], 2),
    "weight on the left": (
        [N("Transpose", ["x"], ["t"], perm=[0, 2, 1]), N("MatMul", ["w", "t"], ["h0"])],
        [tensor("w", SQUARE)],
        1,
    ),
    "weight that is dequantized and transposed": (
        [
            *(N("DequantizeLinear", ["wq", "scale"], ["wd"]), N("Transpose", ["wd"], ["w"], perm=[1, 0])),
            N("MatMul", ["x", "w"], ["h0"]),
        ],
        [tensor("wq", np.clip(SQUARE * 50, -127, 127).astype(np.int8)), tensor("scale", np.float32(0.02))],
        2,
    ),
    "einsum": ([N("Einsum", ["x", "w"], ["h0"], equation="bij,jk->bik")], [tensor("w", SQUARE)], 2),
    "einsum with the weight first": (
        [N("Einsum", ["w", "x"], ["h0"], equation="kj,...ij->...ki")],
        [tensor("w", SQUARE)],
        1,
    ),
    "einsum without an output": ([N("Einsum", ["x", "w"], ["h0"], equation="bij, jk")], [tensor("w", SQUARE)], 2),
    "layer norm": (
        [N("LayerNormalization", ["x", "g", "z"], ["h0"])],
        [tensor("g", np.ones(8, np.float32)), tensor("z", np.zeros(8, np.float32))],
        2,
    ),
}


@pytest.mark.parametrize("made", LAYERS)
def test_layers_make_units(tmp_path, made):
    nodes, tensors, axis = LAYERS[made]
    shape = [1, 1, 1]
    shape[axis] = 8
    shift = tensor("shift", SHIFT.reshape(shape))
    layer = row(tmp_path, [*nodes, N("Add", ["h0", "shift"], ["h"]), RELU], [*tensors, shift], x=TOKENS)
    assert (layer.axis.known, layer.axis.axes, layer.units) == (True, (axis,), 8)
    assert layer.silent_units.tolist() == DEAD


def test_gemm_and_recurrent_layers_and_embeddings_make_units(tmp_path):
    weights = {"w": (8, 4), "wi": (1, 12, 8), "wr": (1, 12, 3), "table": (10, 7)}
    tensors = [tensor(name, RNG.normal(size=shape).astype(np.float32)) for name, shape in weights.items()]
    nodes = [
        N("ReduceMean", ["x", "one"], ["f"], keepdims=0),
        N("Transpose", ["w"], ["wt"]),
        N("Gemm", ["f", "wt"], ["g"], transB=1),
        N("Relu", ["g"], ["a"], name="gemm"),
        N("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        N("LSTM", ["t", "wi", "wr"], ["seq", "last"], hidden_size=3),
        N("Relu", ["seq"], ["b"], name="sequence"),
        N("Relu", ["last"], ["d"], name="last"),
        N("ArgMax", ["x"], ["i"], axis=2, keepdims=0),
        N("Gather", ["table", "i"], ["e"]),
        N("Relu", ["e"], ["y"], name="embedded"),
    ]
    path = save(tmp_path / "m.onnx", nodes, [("x", FLOAT, ["n", 5, 8])], [*tensors, ints("one", 1)], opset=18)
    report = diagnose(path, TOKENS)
    assert [(layer.name, layer.units, layer.axis.axes, layer.axis.known) for layer in report.layers] == [
        *[("gemm", 4, (1,), True), ("sequence", 3, (3,), True), ("last", 3, (2,), True), ("embedded", 7, (2,), True)]
    ]


def test_the_units_of_attention_are_those_of_its_values(tmp_path):
    """Scores come of two activations and have no units; what they weigh keeps its own."""
    nodes = [
        N("MatMul", ["x", "w"], ["v"]),
        N("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        N("MatMul", ["x", "t"], ["scores"]),
        N("Softmax", ["scores"], ["p"], axis=-1),
        N("MatMul", ["p", "v"], ["h"]),
        RELU,
    ]
    weight = RNG.normal(size=(8, 3)).astype(np.float32)
    layer = row(tmp_path, nodes, [tensor("w", weight)], x=TOKENS)
    assert (layer.units, layer.axis.axes, layer.axis.known) == (3, (2,), True)


def test_what_cannot_be_followed_is_assumed_and_its_alternatives_are_counted(tmp_path):
    x = RNG.normal(size=(6, 4, 5, 1)).astype(np.float32)
    x[:, 2] = -1.0
    x[:, :, 3] = -1.0
    layer = row(tmp_path, [N("Relu", ["x"], ["y"], name="act")], [], x=x)
    assert (layer.units, layer.axis.axes, layer.axis.known) == (4, (1,), False)
    assert layer.silent_units.tolist() == [2]
    assert {axis: counts.units for axis, counts in layer.axis.alternatives.items()} == {2: 5}
    assert np.flatnonzero(layer.axis.alternatives[2].positive == 0).tolist() == [3]
    assert layer.axis.alternatives[2].samples == 6 * 4
    settled = row(tmp_path, [N("Relu", ["x"], ["y"], name="act")], [], x=x, unit_axis={"act": 2})
    assert (settled.axis.axes, settled.axis.known, settled.axis.alternatives) == ((2,), True, {})
    assert settled.silent_units.tolist() == [3]


def test_slopes_say_where_the_units_are(tmp_path):
    slopes = tensor("s", np.linspace(0.1, 0.4, 4, dtype=np.float32).reshape(4, 1))
    layer = row(tmp_path, [N("PRelu", ["x", "s"], ["y"], name="act")], [slopes], x=TOKENS[:, :4])
    assert (layer.units, layer.axis.axes, layer.axis.known) == (4, (1,), True)


def test_an_axis_whose_size_changes_is_no_alternative(tmp_path):
    path = save(tmp_path / "m.onnx", [N("Relu", ["x"], ["y"], name="act")], [("x", FLOAT, ["n", 4, "t"])], [])
    layer = diagnose(path, [RNG.normal(size=(2, 4, t)).astype(np.float32) for t in (3, 5)])["act"]
    assert (layer.units, dict(layer.axis.alternatives)) == (4, {})


def test_a_row_says_what_feeds_it_and_the_report_what_was_run(tmp_path):
    node, weights = conv()
    nodes = [
        node,
        N("Relu", ["c"], ["r"], name="first"),
        N("MatMul", ["r", "m"], ["k"], name="mix"),
        N("Add", ["k", "r"], ["s"]),
        N("Transpose", ["s"], ["h"], perm=[0, 2, 3, 1]),
        RELU,
    ]
    path = save(tmp_path / "m.onnx", nodes, [("x", FLOAT, ["n", 3, 8, 8])], [*weights, tensor("m", SQUARE)], opset=18)
    report = diagnose(path, IMAGES)
    assert report.source == "onnx"
    assert [layer.place.after for layer in report.layers] == ["conv", "mix + first"]
