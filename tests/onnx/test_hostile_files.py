"""ONNX files that are damaged or hostile: one ValueError each, whatever they hold."""

from __future__ import annotations

import math
import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_files import save, tensor

from leakyrelu.cli import main
from leakyrelu.onnx import diagnose

N = helper.make_node
FLOAT = TensorProto.FLOAT
X = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
INPUT = [("x", FLOAT, ["n", 5])]
PRELU = [N("PRelu", ["x", "s"], ["y"], name="act")]
RELU = [N("Relu", ["x"], ["y"], name="act")]


def stored(path, nodes, tensors=(), *, inputs=INPUT, opset=18, functions=(), domains=()):
    """A file of a model that nothing has checked."""
    path = save(path, [N("Relu", ["x"], ["y"])], inputs, tensors, opset=opset)
    model = onnx.ModelProto.FromString(path.read_bytes())
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.functions.extend(functions)
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in domains)
    path.write_bytes(model.SerializeToString())
    return path


def outside(name="s", dims=(5,), **entries):
    """A tensor whose numbers are in another file."""
    value = onnx.TensorProto(name=name, data_type=FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, text in entries.items():
        value.external_data.add(key=key, value=text)
    return value


def own(name, *nodes):
    return helper.make_function(
        "own", name, ["a"], ["b"], nodes, [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    )


DOUBLED = [own("F0", N("Relu", ["a"], ["b"]))] + [
    own(f"F{i}", *(N(f"F{i - 1}", [a], [b], domain="own") for a, b in (("a", "c"), ("c", "b")))) for i in range(1, 60)
]
REFUSED = {
    "external data above the folder": (
        PRELU,
        [outside(location="../x.bin")],
        {},
        r"data '\.\./x\.bin' lie outside the",
    ),
    "external data at a path": (PRELU, [outside(location="/etc/passwd")], {}, r"'/etc/passwd' lie outside the folder"),
    "external data on a drive": (PRELU, [outside(location="C:\\x")], {}, r"'C:\\\\x' lie outside the folder"),
    "external weights above the folder": (
        [N("MatMul", ["x", "w"], ["h"]), N("Relu", ["h"], ["y"])],
        [outside("w", (5, 5), location="../x.bin")],
        {},
        r"'\.\./x\.bin' lie outside the folder",
    ),
    "external data missing": (PRELU, [outside(location="gone.bin")], {}, "its constant 's' cannot be read: "),
    "external data too short": (PRELU, [outside(location="short.bin", length="20")], {}, "'s' cannot be read: "),
    "external data at a negative offset": (PRELU, [outside(location="short.bin", offset="-3")], {}, "cannot be read: "),
    "external data at no number": (PRELU, [outside(location="short.bin", offset="x")], {}, "cannot be read: "),
    "external data without a place": (PRELU, [outside()], {}, "its constant 's' cannot be read: "),
    "external weights of terabytes": (
        [N("MatMul", ["x", "w"], ["h"]), N("Relu", ["h"], ["y"])],
        [outside("w", (5, 2**40), location="short.bin", length=str(20 * 2**40))],
        {},
        "ONNX Runtime cannot load",
    ),
    "slopes of terabytes": (
        PRELU,
        [outside(dims=(2**40,), location="short.bin")],
        {},
        r"has the shape \(1099511627776,\)",
    ),
    "slopes of an unknown type": (
        PRELU,
        [onnx.TensorProto(name="s", data_type=99, dims=[5], raw_data=b"1234")],
        {},
        "its constant 's' cannot be read: ",
    ),
    "slopes of text": (
        PRELU,
        [tensor("s", np.array(["a"] * 5, object))],
        {},
        "slopes of its node 'act' have type object",
    ),
    "a cycle": (
        [N("Add", ["x", "b"], ["a"]), N("Relu", ["a"], ["b"]), N("Identity", ["b"], ["y"])],
        [],
        {},
        "ONNX Runtime cannot load",
    ),
    "a cycle of one": ([N("Relu", ["y"], ["y"])], [], {}, "ONNX Runtime cannot load"),
    "a cycle of constants": (
        [N("Identity", ["t"], ["s"]), N("Identity", ["s"], ["t"]), *PRELU],
        [],
        {},
        "has no rectifier to count",
    ),
    "Relu without inputs": ([N("Relu", [], ["y"])], [], {}, r"its node 'y' \(Relu\) lacks an input or an output"),
    "Relu without outputs": ([N("Relu", ["x"], [])], [], {}, r"its node '' \(Relu\) lacks an input or an output"),
    "Relu of nothing": ([N("Relu", [""], ["y"])], [], {}, r"its node 'y' \(Relu\) lacks an input or an output"),
    "PRelu without slopes": ([N("PRelu", ["x"], ["y"])], [], {}, r"its node 'y' \(PRelu\) has no slopes"),
    "Clip from an empty bound": (
        [N("Clip", ["x", "lo"], ["y"])],
        [tensor("lo", np.zeros(0, np.float32))],
        {},
        r"its constant 'lo' is to be one number, but has shape \(0,\)",
    ),
    "Clip from text": (
        [N("Clip", ["x", "lo"], ["y"])],
        [tensor("lo", np.array("a", object))],
        {},
        r"'lo' is to be one number, but has shape \(\) and type object",
    ),
    "Clip from a computed bound": (
        [N("ReduceMin", ["x"], ["lo"]), N("Clip", ["x", "lo"], ["y"])],
        [],
        {},
        "has no rectifier to count",
    ),
    "a slope that is text": ([N("LeakyRelu", ["x"], ["y"], alpha="a")], [], {}, "'alpha' of its node 'y' is no number"),
    "one name for two nodes": (
        [N("Relu", [a], [b], name="r") for a, b in ("xa", "ab", "by")],
        [],
        {},
        "ONNX Runtime cannot load",
    ),
    "an unknown domain": (
        [N("Foo", ["x"], ["h"], domain="evil"), N("Relu", ["h"], ["y"])],
        [],
        {},
        "Runtime cannot load",
    ),
    "an operator set of the future": (RELU, [], {"opset": 999}, "ONNX Runtime cannot load"),
    "operator set 0": (RELU, [], {"opset": 0}, "ONNX Runtime cannot load"),
    "no samples allowed": (RELU, [], {"inputs": [("x", FLOAT, [0, 5])]}, r"could not be run on x float32 \(4, 5\)"),
    "no features allowed": (RELU, [], {"inputs": [("x", FLOAT, ["n", 0])]}, r"could not be run on x float32 \(4, 5\)"),
    "an input of text": (RELU, [], {"inputs": [("x", TensorProto.STRING, ["n", 5])]}, "could not be run on x"),
    "an input twice": (RELU, [], {"inputs": [*INPUT, *INPUT]}, "ONNX Runtime cannot load"),
    "a rectifier of a sequence": (
        [N("SequenceConstruct", ["x"], ["h"]), N("Relu", ["h"], ["y"])],
        [],
        {},
        "of y in .* is a list",
    ),
    "a tensor of half a terabyte": (
        [N("ConstantOfShape", ["s"], ["h"]), N("Relu", ["h"], ["y"])],
        [tensor("s", np.int64([2**20, 2**20]))],
        {},
        "could not be run",
    ),
    "a function that calls itself": (
        [N("F", ["x"], ["h"], domain="own"), N("Relu", ["h"], ["y"])],
        [],
        {"functions": [own("F", N("F", ["a"], ["b"], domain="own"))], "domains": ["own"]},
        "its function 'F' calls itself",
    ),
    "functions that double 59 times": (
        [N("F59", ["x"], ["y"], domain="own")],
        [],
        {"functions": DOUBLED, "domains": ["own"]},
        "its functions stand for more than 1,000,000 nodes",
    ),
    "functions in a chain of 2,000": (
        [N("F1999", ["x"], ["y"], domain="own")],
        [],
        {
            "functions": [own("F0", N("Relu", ["a"], ["b"]))]
            + [own(f"F{i}", N(f"F{i - 1}", ["a"], ["b"], domain="own")) for i in range(1, 2000)],
            "domains": ["own"],
        },
        "is no ONNX model: ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused(tmp_path, case, capsys):
    nodes, tensors, more, message = REFUSED[case]
    (tmp_path / "short.bin").write_bytes(b"1234")
    path = stored(tmp_path / "m.onnx", nodes, tensors, **more)
    with pytest.raises(ValueError, match=message):
        diagnose(path, X)
    np.save(tmp_path / "x.npy", X)
    assert main(["diagnose", str(path), "--data", str(tmp_path / "x.npy")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1


@pytest.mark.parametrize("kind", ["seq(tensor(float))", "optional(tensor(float))"])
def test_an_input_that_is_no_tensor_is_refused(tmp_path, kind):
    make, node = {
        "seq(tensor(float))": (helper.make_sequence_type_proto, N("SequenceAt", ["x", "i"], ["h"])),
        "optional(tensor(float))": (helper.make_optional_type_proto, N("OptionalGetElement", ["x"], ["h"])),
    }[kind]
    path = stored(tmp_path / "m.onnx", [node, N("Relu", ["h"], ["y"])], [tensor("i", np.int64(0))], inputs=[])
    model = onnx.load(path)
    model.graph.input.add(name="x").type.CopyFrom(make(helper.make_tensor_type_proto(FLOAT, None)))
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"the input 'x' of .* is (seq|optional)\(.*: only tensors can be given"):
        diagnose(path, X)


@pytest.mark.parametrize("content", [b"", b"text\n" * 9, b"\x80\x04\x95", b"PK\x03\x04" + bytes(99), bytes(range(256))])
def test_what_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.onnx is no ONNX model: "):
        diagnose(tmp_path / "m.onnx", X)


def test_more_than_the_format_allows_is_not_read(tmp_path):
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ValueError, match="it has more than 2 GB, the limit of the format without external data"):
        diagnose(tmp_path / "m.onnx", X)


@pytest.mark.parametrize("operator", ["Identity", "Add"])
def test_5000_nodes_in_a_chain_are_followed(tmp_path, operator):
    before = [N("MatMul", ["x", "w"], ["t0"])]
    chain = [N(operator, [f"t{i}", "zero"][: 1 + (operator == "Add")], [f"t{i + 1}"]) for i in range(5000)]
    tensors = [tensor("w", np.eye(5, dtype=np.float32)), tensor("zero", np.float32(0))]
    path = stored(tmp_path / "m.onnx", [*before, *chain, N("Relu", ["t5000"], ["y"], name="act")], tensors)
    layer = diagnose(path, X)["act"]
    assert (layer.units, layer.axis.known, layer.place.after) == (5, True, "t0")
    np.testing.assert_array_equal(layer.counts.positive, (X > 0).sum(0))


def test_slopes_behind_5000_nodes_are_read(tmp_path):
    chain = [N("Identity", [f"s{i}"], [f"s{i + 1}"]) for i in range(5000)]
    path = stored(
        tmp_path / "m.onnx", [*chain, N("PRelu", ["x", "s5000"], ["y"])], [tensor("s0", np.float32([0.1] * 5))]
    )
    assert diagnose(path, X).layers[0].negative_slope.tolist() == pytest.approx([0.1] * 5)


NAMES = ["\x1b[31mred\x00\n\u202e", "leakyrelu:0", "\ufdd0", "a" * 10_000]


@pytest.mark.parametrize("name", NAMES)
def test_names_may_be_any(tmp_path, name):
    nodes = [N("Relu", ["x"], ["leakyrelu:0"], name=name), N("Relu", ["leakyrelu:0"], ["y"])]
    assert [layer.name for layer in diagnose(stored(tmp_path / "m.onnx", nodes), X).layers] == [name, "y"]


def test_names_that_are_not_utf8_are_text(tmp_path):
    path = stored(tmp_path / "m.onnx", [N("Relu", ["x"], ["y"], name="QQQQ")])
    path.write_bytes(path.read_bytes().replace(b"QQQQ", b"\xed\xa0\x80Q"))
    assert diagnose(path, X).layers[0].name == "\\xed\\xa0\\x80Q"


def test_an_input_may_have_any_rank(tmp_path):
    for shape in (None, [], ["n", "m"], ["n", -1]):
        path = stored(tmp_path / "m.onnx", RELU, inputs=[("x", FLOAT, shape)])
        assert diagnose(path, X).layers[0].units == 5


def test_external_data_may_be_larger_than_the_format_allows(tmp_path):
    """Weights that are no slope of a rectifier are left to ONNX Runtime; what nothing needs is not read."""
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(3 * 2**30)  # takes no space
    unused = outside("unused", (3 * 2**28,), location="large.bin")
    nodes = [*RELU, N("Add", ["y", "unused"], ["z"])]
    assert diagnose(stored(tmp_path / "m.onnx", nodes, [unused]), X)["act"].units == 5


def small(path):
    """A model with something of everything."""
    weights = np.random.default_rng(1)
    inner = helper.make_graph(
        [N("Relu", ["p"], ["b"], name="inner")], "branch", [], [helper.make_tensor_value_info("b", FLOAT, None)]
    )
    nodes = [
        N("Reshape", ["x", "image"], ["i"]),
        N("Conv", ["i", "w", "b3"], ["c"], name="conv"),
        N("BatchNormalization", ["c", "one", "zero", "zero", "one"], ["n"]),
        N("Relu", ["n"], ["r"], name="act"),
        N("Transpose", ["r"], ["t"], perm=[0, 2, 3, 1]),
        N("LeakyRelu", ["t"], ["l"], name="leaky", alpha=0.1),
        N("ReduceMean", ["l", "axes"], ["m"], keepdims=0),
        N("Clip", ["m", "lo", "hi"], ["k"], name="clip"),
        N("PRelu", ["k", "slopes"], ["p"], name="prelu"),
        N("If", ["flag"], ["q"], then_branch=inner, else_branch=inner),
        N("Act", ["q"], ["o"], domain="own"),
        N("Split", ["o", "sizes"], ["y", "rest"], axis=1),
    ]
    tensors = [
        tensor("image", np.int64([0, 1, 1, 5])),
        tensor("w", weights.normal(size=(3, 1, 1, 2)).astype(np.float32)),
        *(tensor(name, np.full(3, value, np.float32)) for name, value in (("b3", 1), ("one", 1), ("zero", 0))),
        *(tensor("axes", np.int64([1, 2])), tensor("sizes", np.int64([2, 1])), tensor("flag", np.bool_(True))),
        *(tensor("lo", np.float32(0)), tensor("hi", np.float32(6)), tensor("slopes", weights.random(3, np.float32))),
    ]
    act = own("Act", N("Relu", ["a"], ["b"], name="within"))
    return stored(path, nodes, tensors, functions=[act], domains=["own"])


def mutated_bytes(content, rng):
    """The bytes with a few of them changed, removed, inserted or copied, or cut off."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        start, kind = rng.randrange(len(content)), rng.randrange(5)
        if kind == 0:
            content[start] = rng.randrange(256)
        elif kind == 1:
            content[start] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del content[start : start + rng.randrange(1, 9)]
        elif kind == 3:
            content[start:start] = rng.randbytes(rng.randrange(1, 9))
        else:
            content[start : start + 8] = content[rng.randrange(len(content)) :][:8]
    return bytes(content[: rng.randrange(len(content))] if rng.random() < 0.1 else content)


OPERATORS = (
    *(
        "Relu",
        "Clip",
        "PRelu",
        "LeakyRelu",
        "Gather",
        "Reshape",
        "If",
        "Einsum",
        "Concat",
        "Split",
        "Conv",
        "Unknown",
        "",
    ),
    *("Gemm", "MatMul", "Constant", "Transpose", "LSTM", "Scan", "SequenceEmpty", "Slice", "Resize", "Pad", "Expand"),
    *("Squeeze", "ReduceMean", "LayerNormalization", "MaxPool", "DepthToSpace", "Optional", "BatchNormalization"),
)


def mutated_model(content, rng):
    """The model with a few of its fields changed."""
    model = onnx.ModelProto.FromString(content)
    graph = model.graph
    for _ in range(rng.choice([1, 1, 2, 4])):
        node, weights, kind = rng.choice(graph.node), rng.choice(graph.initializer), rng.randrange(10)
        names = [name for each in graph.node for name in (*each.input, *each.output)] + ["", "unknown"]
        if kind == 0 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
        elif kind == 1 and node.output:
            node.output[rng.randrange(len(node.output))] = rng.choice(names)
        elif kind == 2:
            node.op_type = rng.choice(OPERATORS)
        elif kind == 3:
            del node.input[rng.randrange(3) :]
        elif kind == 4:
            del node.output[:]
        elif kind == 5 and weights.dims:
            weights.dims[rng.randrange(len(weights.dims))] = rng.choice([0, -1, 1, 2, 7, 2**40])
        elif kind == 6:
            weights.data_type = rng.randrange(27)
        elif kind == 7 and node.attribute:
            given = rng.choice(node.attribute)
            given.type, given.i, given.f = rng.randrange(15), rng.choice([-1, 0, 2**62]), math.nan
            given.ints.append(rng.choice([-1, 2**40]))
        elif kind == 8:
            rng.choice(model.opset_import).version = rng.choice([0, -1, 6, 9, 30, 2**40])
        elif len(graph.node) > 1:
            graph.node.remove(node)
    return model.SerializeToString()


@pytest.mark.filterwarnings("ignore:.*lie within branches or loops")
@pytest.mark.parametrize("mutated", [mutated_bytes, mutated_model])
def test_mutated_files_are_counted_or_refused(tmp_path, mutated, capsys):
    content = small(tmp_path / "m.onnx").read_bytes()
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    names = [layer.name for layer in diagnose(tmp_path / "m.onnx", x).layers]
    assert names == ["act", "leaky", "clip", "prelu", "within__1"]
    rng, refused = random.Random(0), 0
    for number in range(200):
        (tmp_path / "m.onnx").write_bytes(mutated(content, rng))
        try:
            diagnose(tmp_path / "m.onnx", x)
        except ValueError:
            refused += 1
        if number % 10 == 0:
            assert main(["diagnose", str(tmp_path / "m.onnx"), "--data", str(tmp_path / "x.npy")]) in (0, 2)
            assert "Traceback" not in capsys.readouterr().err
    assert 20 < refused < 200
