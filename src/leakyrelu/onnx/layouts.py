"""Layouts of the tensors of an ONNX graph: each operator says where its output has the units of its inputs.

The shapes are those of a run, so that whatever a model computes about shapes needs no rule of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from leakyrelu.diagnosis import layout as follow
from leakyrelu.onnx.graph import attribute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from leakyrelu.diagnosis.layout import Layout
    from leakyrelu.onnx.graph import Graph

    Shape = tuple[int, ...]


class _Call(NamedTuple):
    """A node as its rule sees it: its inputs, and which of its outputs is asked about."""

    node: Any
    graph: Graph
    layouts: Sequence[Layout | None]  # of the inputs
    shapes: Sequence[Shape | None]  # of the inputs
    fixed: Sequence[bool]  # which inputs do not depend on the data
    shape: Shape  # of the output
    output: int  # the number of the output

    @property
    def first(self) -> Layout | None:
        return self.layouts[0] if self.layouts else None

    def get(self, name: str, default: Any = None) -> Any:
        return attribute(self.node, name, default)

    def integers(self, name: str, position: int) -> list[int] | None:
        """Return integers that are an attribute in old operator sets and a constant input in new ones."""
        value = self.get(name)
        if value is None and len(self.node.input) > position and self.node.input[position]:
            constant = self.graph.constant(self.node.input[position])
            if constant is None:
                raise ValueError("the axes are computed")
            value = constant.reshape(-1).tolist()
        return None if value is None else [int(each) for each in ([value] if isinstance(value, int) else value)]


def find_layouts(graph: Graph, nodes: Sequence[Any], shapes: Mapping[str, Shape]) -> dict[str, Layout | None]:
    """Return the layout of each tensor that these nodes make, as far as it is known; the nodes are in order."""
    layouts: dict[str, Layout | None] = {}
    for node in nodes:
        rule = _RULES.get(node.op_type)
        if rule is None:
            continue
        for index, name in enumerate(node.output):
            if name not in shapes or graph.is_fixed(name):
                continue
            inputs = list(node.input)
            call = _Call(
                node,
                graph,
                [layouts.get(each) for each in inputs],
                [shapes.get(each) for each in inputs],
                [graph.is_fixed(each) for each in inputs],
                shapes[name],
                index,
            )
            try:
                layouts[name] = rule(call)
            except (ValueError, TypeError, IndexError, KeyError):  # attributes that are not as the operator has them
                layouts[name] = None
    return layouts


def _made_at(axis: int) -> Callable[[_Call], Layout | None]:
    return lambda call: follow.produced(call.shape, axis)


def _norm(call: _Call) -> Layout | None:
    """Lay out a normalization with a weight for each channel: units stay what they were, or are its channels."""
    return call.first or follow.produced(call.shape, 1)


def _layer_norm(call: _Call) -> Layout | None:
    if call.first is not None or call.get("axis", -1) % len(call.shape) != len(call.shape) - 1:
        return call.first
    return follow.produced(call.shape, -1)


def _recurrent(call: _Call) -> Layout | None:
    """Lay out the output of an LSTM and the like: a unit is one of its hidden units, in one of its directions."""
    directions = (1 if call.output == 0 else 0) + (1 if call.get("layout", 0) else 0)
    made = follow.produced(call.shape, -1)
    if made is None or len(call.shape) < 3:
        return None
    size = call.shape[directions]
    return (*made[:directions], ((size, True),) if size > 1 else (), *made[directions + 1 :])


def _same_numbers(call: _Call) -> Layout | None:
    return follow.reshaped(call.first, call.shape)


def _combined(call: _Call) -> Layout | None:
    return follow.combined(call.layouts, call.shape)


def _first_kept(call: _Call) -> Layout | None:
    return call.first if call.shape == call.shapes[0] else None


def _resized(call: _Call) -> Layout | None:
    return follow.resized(call.first, call.shape)


def _cut(call: _Call) -> Layout | None:
    return follow.cut(call.first, call.shape)


def _transposed(call: _Call) -> Layout | None:
    return follow.permuted(call.first, call.get("perm", range(len(call.shape))[::-1]))


def _reduced(call: _Call) -> Layout | None:
    axes = call.integers("axes", 1)
    if not axes:
        return call.first if call.get("noop_with_empty_axes", 0) else None
    return follow.without(call.first, axes, keep=bool(call.get("keepdims", 1)))


def _arg_reduced(call: _Call) -> Layout | None:
    return follow.without(call.first, [call.get("axis", 0)], keep=bool(call.get("keepdims", 1)))


def _concatenated(call: _Call) -> Layout | None:
    return follow.concatenated(call.layouts, call.get("axis", 1), call.shape)


def _gathered(call: _Call) -> Layout | None:
    table, indices = call.shapes[0], call.shapes[1]
    if table is None or indices is None:
        return None
    axis = call.get("axis", 0) % len(table)
    if call.fixed[0]:  # an embedding: its rows are picked by the data, its columns are units
        return follow.produced(call.shape, -1) if len(table) == 2 and axis == 0 else None
    if not indices:
        return follow.without(call.first, [axis])
    return follow.cut(call.first, call.shape) if len(indices) == 1 else None


def _embedded(call: _Call) -> Layout | None:
    return follow.produced(call.shape, -1)


def _matrices(call: _Call) -> Layout | None:
    """Lay out a product of matrices, or of stacks of them, in which some inputs are weights."""
    second = {"QLinearMatMul": 3}.get(call.node.op_type, 1)
    left, right = call.shapes[0], call.shapes[second]
    if not left or not right:
        return None
    batch = "abcdefgh"[: max(len(left), len(right)) - 2]
    one = (batch[len(batch) - len(left) + 2 :] if len(left) > 1 else "") + ("mk" if len(left) > 1 else "k")
    two = (batch[len(batch) - len(right) + 2 :] if len(right) > 1 else "") + ("kn" if len(right) > 1 else "k")
    if call.get("transA", 0):
        one = one[:-2] + one[:-3:-1]
    if call.get("transB", 0):
        two = two[:-2] + two[:-3:-1]
    output = batch + ("m" if len(left) > 1 else "") + ("n" if len(right) > 1 else "")
    return _product(call, [one, two], output, (0, second))


def _einsum(call: _Call) -> Layout | None:
    equation = re.sub(r"\s", "", call.get("equation", b"").decode())
    left, arrow, output = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = sorted(set(left) - set(",."))
        output = ("..." if "..." in left else "") + "".join(each for each in letters if left.count(each) == 1)
    ranks = [len(shape or ()) - len(term.replace("...", "")) for term, shape in zip(terms, call.shapes, strict=True)]
    rest = "0123456789"[: max((rank for term, rank in zip(terms, ranks, strict=True) if "..." in term), default=0)]
    terms = [term.replace("...", rest[len(rest) - rank :]) for term, rank in zip(terms, ranks, strict=True)]
    return _product(call, terms, output.replace("...", rest), range(len(terms)))


def _product(call: _Call, terms: list[str], output: str, inputs: Sequence[int]) -> Layout | None:
    layouts = [call.layouts[each] for each in inputs]
    fixed = [call.fixed[each] for each in inputs]
    return follow.contracted(terms, output, layouts, fixed, dict(zip(output, call.shape, strict=True)))


def _depth_to_space(call: _Call) -> Layout | None:
    n, c, h, w = call.shapes[0] or ()
    block = call.get("blocksize")
    if call.get("mode", b"DCR") == b"DCR":
        inner, order = (n, block, block, c // block**2, h, w), (0, 3, 4, 1, 5, 2)
    else:
        inner, order = (n, c // block**2, block, block, h, w), (0, 1, 4, 2, 5, 3)
    return follow.reshaped(follow.permuted(follow.reshaped(call.first, inner), order), call.shape)


def _space_to_depth(call: _Call) -> Layout | None:
    n, c, h, w = call.shapes[0] or ()
    block = call.get("blocksize")
    inner = follow.reshaped(call.first, (n, c, h // block, block, w // block, block))
    return follow.reshaped(follow.permuted(inner, (0, 3, 5, 1, 2, 4)), call.shape)


_BROADCASTING = (
    *("Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Mean", "Pow", "Mod", "Where", "And", "Or", "Xor", "Equal"),
    *("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "BitShift", "BiasGelu", "QLinearAdd", "QLinearMul"),
)
_UNARY = (
    *("Identity", "Cast", "CastLike", "Dropout", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    *("Relu", "LeakyRelu", "PRelu", "Clip", "ThresholdedRelu", "Elu", "Selu", "Celu", "Gelu", "FastGelu", "QuickGelu"),
    *("Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish", "Tanh", "Softplus", "Softsign", "Erf", "Shrink"),
    *("Softmax", "LogSoftmax", "Hardmax", "Neg", "Abs", "Sign", "Exp", "Log", "Sqrt", "Reciprocal", "Floor", "Ceil"),
    *("Round", "Not", "IsNaN", "IsInf", "Sin", "Cos", "Tan", "CumSum", "LpNormalization", "MeanVarianceNormalization"),
    *("InstanceNormalization", "Trilu", "Bernoulli", "ScatterND", "ScatterElements"),
)
_REDUCTIONS = ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")
_RULES: dict[str, Callable[[_Call], Layout | None]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv"), _made_at(1)),
    **dict.fromkeys(("BatchNormalization", "GroupNormalization", "LRN"), _norm),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), _layer_norm),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _same_numbers),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _resized),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _resized),
    **dict.fromkeys(("Resize", "Upsample", "Pad", "GridSample", "MaxUnpool", "CenterCropPad"), _resized),
    **dict.fromkeys(("Slice", "Split"), _cut),
    **dict.fromkeys(("Expand", "Tile"), lambda call: follow.expanded(call.first, call.shape)),
    **dict.fromkeys(_BROADCASTING, _combined),
    **dict.fromkeys(_UNARY, _first_kept),
    **dict.fromkeys((f"Reduce{kind}" for kind in _REDUCTIONS), _reduced),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg_reduced),
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "Gemm"), _matrices),
    "Attention": _embedded,
    "Concat": _concatenated,
    "DepthToSpace": _depth_to_space,
    "Einsum": _einsum,
    "Gather": _gathered,
    "SpaceToDepth": _space_to_depth,
    "Transpose": _transposed,
}
