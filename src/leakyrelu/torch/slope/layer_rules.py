"""Rules of functions that take weights: layers, products of matrices, normalizations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from leakyrelu.slope.network import Affine, Attention, BatchNorm, GroupNorm, Input, LayerNorm, Linear, Product, RMSNorm
from leakyrelu.torch.graph.call_arguments import argument
from leakyrelu.torch.graph.calls import Call, Value
from leakyrelu.torch.slope.padding import valid_taps
from leakyrelu.torch.slope.recorder import Moments

if TYPE_CHECKING:
    from collections.abc import Callable

    from leakyrelu.slope.network import Node
    from leakyrelu.torch.slope.translator import Rule, Translator


def _linear(to: Translator, call: Call, weight: Any, fan: float, bias: Any = None, **geometry: Any) -> int:
    x = to.first(call)
    moments = to.moments(weight)
    bias2 = 0.0 if bias is None else to.moments(bias).square
    gain2: float | None = fan * moments.square
    # The scale of a weight that is computed, such as a standardized one, is no matter of initialization.
    if to.exact_gain and isinstance(weight, Value):
        gain2, bias2 = None, 0.0
    number = to.add(
        Linear(inputs=(x,), name=call.module or call.name, gain2=gain2, bias2=bias2, **geometry), {id(weight)}
    )
    to.weights[number] = weight.weight_name
    return number


def _dense(to: Translator, call: Call) -> int | None:
    weight = argument(call, 1, "weight")
    if not weight.is_weight:
        return None
    return _linear(to, call, weight, weight.shape[-1], argument(call, 2, "bias"))


def _matrix_product(first: int) -> Callable[[Translator, Call], int | None]:
    def apply(to: Translator, call: Call) -> int | None:
        left, right = call.inputs[first : first + 2]
        if call.name == "rmatmul":
            left, right = right, left
        bias = call.inputs[0] if first else None
        if right.is_weight:
            return _linear(to, call, right, right.shape[-2], bias)
        if left.is_weight:
            return _linear(to, call, left, left.shape[-1], bias)
        return _contraction(to, call, left, right, left.shape[-1])

    return apply


def _contraction(to: Translator, call: Call, left: Any, right: Any, summed: int) -> int:
    """Append the sum of so many products of two tensors that depend on the inputs: attention behind a softmax."""
    one, two = to.node_of(left), to.node_of(right)
    if (scores := to.scores.get(one)) is not None:
        return attend(to, call, inputs=(scores, two), places=summed)
    product = to.add(Product(inputs=(one, two)))
    number = to.add(Affine(inputs=(product,), factor=0.0, factor2=float(summed), name=call.name))
    return to.assume(number, f"{call.name} in {to.place(call)}: a product of two tensors, taken for independent")


def attend(to: Translator, call: Call, **attributes: Any) -> int:
    """Append attention, which is an approximation."""
    number = to.add(Attention(name=call.name, **attributes))
    return to.assume(number, f"attention in {to.place(call)}: weights of random scores")


def _convolution(to: Translator, call: Call) -> int | None:
    weight = argument(call, 1, "weight")
    if not weight.is_weight:
        return None
    kernel = weight.shape[2:]
    x = to.data(call)[0]
    valid, overlap = valid_taps(
        x.shape[-len(kernel) :],
        kernel,
        call.shape[-len(kernel) :],
        argument(call, 3, "stride", default=1),
        argument(call, 4, "padding", default=0),
        argument(call, 5, "dilation", default=1),
    )
    fan = weight.shape[1] * math.prod(kernel)
    return _linear(to, call, weight, fan, argument(call, 2, "bias"), valid=valid, overlap=overlap)


def _transposed_convolution(to: Translator, call: Call) -> int | None:
    weight = argument(call, 1, "weight")
    if not weight.is_weight:
        return None
    kernel = weight.shape[2:]
    stride = argument(call, 3, "stride", default=1)
    strides = math.prod(stride) if isinstance(stride, tuple) else stride ** len(kernel)
    groups = argument(call, 6, "groups", default=1)
    # Of the taps each place of the output has one in so many, and two places have the same ones as often.
    fan = weight.shape[0] / groups * max(math.prod(kernel) / strides, 1.0)
    return _linear(to, call, weight, fan, argument(call, 2, "bias"), overlap=1.0 / strides)


def _einsum(to: Translator, call: Call) -> int | None:
    left, _, output = call.args[0].replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2 or "." in left:
        return None
    weights = [each for each in call.inputs if each.is_weight]
    sizes = {a: n for term, each in zip(terms, call.inputs, strict=True) for a, n in zip(term, each.shape, strict=True)}
    summed = math.prod(size for letter, size in sizes.items() if letter not in output)
    if len(weights) == 1:
        return _linear(to, call, weights[0], summed)
    one, two = call.inputs
    return _contraction(to, call, one, two, summed)


def _with_affine(to: Translator, number: int, weight: Any, bias: Any) -> int:
    if weight is None and bias is None:
        return number
    factor = Moments(1.0, 1.0) if weight is None else to.moments(weight)
    shift = Moments(0.0, 0.0) if bias is None else to.moments(bias)
    return affine(to, number, factor, shift)


def affine(to: Translator, number: int, factor: Moments, shift: Moments, across: float = 1.0) -> int:
    """Append what multiplies each channel and adds to it."""
    return to.add(
        Affine(
            inputs=(number,),
            factor=factor.mean,
            factor2=factor.square,
            shift=shift.mean,
            shift2=shift.square,
            across=across,
        )
    )


def _batch_norm(to: Translator, call: Call) -> int:
    x = to.first(call)
    scales = to.recorded.scales.get(id(call))
    if scales is not None:
        return affine(to, x, *scales)
    shape = to.data(call)[0].shape
    number = to.add(BatchNorm(inputs=(x,), batch=shape[0], places=math.prod(shape[2:]), name=call.module))
    return _with_affine(to, number, argument(call, 3, "weight"), argument(call, 4, "bias"))


def _instance_norm(to: Translator, call: Call) -> int:
    shape = to.data(call)[0].shape
    number = to.add(GroupNorm(inputs=(to.first(call),), channels=1, places=math.prod(shape[2:]), name=call.module))
    return _with_affine(to, number, argument(call, 3, "weight"), argument(call, 4, "bias"))


def _group_norm(to: Translator, call: Call) -> int:
    shape = to.data(call)[0].shape
    channels = shape[1] // argument(call, 1, "num_groups")
    number = to.add(
        GroupNorm(inputs=(to.first(call),), channels=channels, places=math.prod(shape[2:]), name=call.module)
    )
    return _with_affine(to, number, argument(call, 2, "weight"), argument(call, 3, "bias"))


def _layer_norm(to: Translator, call: Call) -> int:
    shape = argument(call, 1, "normalized_shape")
    shape = shape if isinstance(shape, tuple) else (shape,)
    x = to.first(call)
    node: Node
    if len(shape) == 1:
        node = LayerNorm(inputs=(x,), name=call.module)
    else:  # channels first, over all places
        node = GroupNorm(inputs=(x,), channels=shape[0], places=math.prod(shape[1:]), name=call.module)
    return _with_affine(to, to.add(node), argument(call, 2, "weight"), argument(call, 3, "bias"))


def _rms_norm(to: Translator, call: Call) -> int:
    number = to.add(RMSNorm(inputs=(to.first(call),), name=call.module))
    return _with_affine(to, number, argument(call, 2, "weight"), None)


def _normalize(to: Translator, call: Call) -> int | None:
    axis = argument(call, 2, "dim", default=1)
    layout = to.data(call)[0].layout
    if layout is None or not any(is_unit for _, is_unit in layout[axis]):
        return None
    return to.add(RMSNorm(inputs=(to.first(call),), name=call.name))


def _embedding(to: Translator, call: Call) -> int:
    weight = argument(call, 1, "weight")
    x = to.add(Input(name=call.module or call.name), {id(weight)})
    return affine(to, x, Moments(0.0, to.moments(weight).square), Moments(0.0, 0.0))


def _multi_head_attention(to: Translator, call: Call) -> int | None:
    if call.output or argument(call, 5, "in_proj_weight") is None:
        return None
    *given, width, heads, weight, bias = call.args[:7]
    out_weight, out_bias = call.args[11:13]

    def project(x: int, matrix: Any, shift: Any, source: Any) -> int:
        # With the weights that it has: `initialize` leaves them.
        bias2 = 0.0 if shift is None else to.moments(shift).square
        node = Linear(inputs=(x,), gain2=width * to.moments(matrix).square, bias2=bias2, name=call.module)
        return to.add(node, {source})

    number = attend(
        to,
        call,
        inputs=tuple(project(to.node_of(x), weight, bias, (id(weight), part)) for part, x in enumerate(given)),
        places=given[1].shape[0],
        width=width // heads,
        factor=(width // heads) ** -0.5,
    )
    return project(number, out_weight, out_bias, id(out_weight))


GROUPS: tuple[tuple[str, Rule], ...] = (
    ("linear", _dense),
    ("matmul rmatmul mm bmm", _matrix_product(0)),
    ("addmm baddbmm addbmm", _matrix_product(1)),
    ("einsum", _einsum),
    ("conv1d conv2d conv3d", _convolution),
    ("conv_transpose1d conv_transpose2d conv_transpose3d", _transposed_convolution),
    ("batch_norm", _batch_norm),
    ("instance_norm", _instance_norm),
    ("group_norm", _group_norm),
    ("layer_norm", _layer_norm),
    ("rms_norm", _rms_norm),
    ("normalize", _normalize),
    ("multi_head_attention_forward", _multi_head_attention),
    ("embedding", _embedding),
)
"""Names, and the rule of the functions that have them."""
