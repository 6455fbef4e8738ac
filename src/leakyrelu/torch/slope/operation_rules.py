"""Rules of functions without weights: sums, products, pooling, attention, functions of one number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from leakyrelu.slope.network import (
    Affine,
    AveragePool,
    Concatenation,
    Constant,
    Dropout,
    Function,
    Identity,
    MaxPool,
    Product,
    Sum,
    Unknown,
)
from leakyrelu.torch.graph.call_arguments import argument, reduced_axes
from leakyrelu.torch.graph.calls import Call, Value
from leakyrelu.torch.slope.layer_rules import affine, attend
from leakyrelu.torch.slope.recorder import Moments
from leakyrelu.torch.slope.translator import as_numpy

if TYPE_CHECKING:
    from collections.abc import Callable

    from leakyrelu.torch.slope.translator import Rule, Translator


def _identity(to: Translator, call: Call) -> int:
    number = to.add(Identity(inputs=(to.first(call),), name=call.name))
    if (scores := to.scores.get(to.first(call))) is not None:
        to.scores[number] = scores
    return number


def _function(to: Translator, call: Call) -> int:
    return to.add(Function(inputs=(to.first(call),), name=call.name, function=as_numpy(call)))


def _sum(sign: float) -> Callable[[Translator, Call], int | None]:
    def apply(to: Translator, call: Call) -> int | None:
        left, right = call.args[0], argument(call, 1, "other")
        weight = sign * float(argument(call, 2, "alpha", default=1.0))
        if call.name.startswith("r"):
            left, right = right, left
        is_data = [isinstance(each, Call | Value) and not each.is_weight for each in (left, right)]
        if all(is_data):
            node = Sum(inputs=(to.node_of(left), to.node_of(right)), weights=(1.0, weight), name=call.name)
            return to.independent_sum(call, node)
        data, other = (left, right) if is_data[0] else (right, left)
        moments = to.moments(other)
        own, added = (1.0, weight) if is_data[0] else (weight, 1.0)
        shift = Moments(added * moments.mean, added**2 * moments.square)
        across = 1.0 if _is_by_unit(call, other) else 0.0
        return affine(to, to.node_of(data), Moments(own, own**2), shift, across)

    return apply


def _is_by_unit(call: Call, other: Any) -> bool:
    """Whether a weight has one number for each unit, or one for all: the same at each place."""
    if not isinstance(other, Call | Value) or math.prod(other.shape) == 1:
        return True
    axes = [axis - len(other.shape) for axis, size in enumerate(other.shape) if size > 1]
    layout = call.layout
    return layout is not None and all(any(is_unit for _, is_unit in layout[axis]) for axis in axes)


def _product(to: Translator, call: Call) -> int | None:
    left, right = call.args[0], argument(call, 1, "other")
    is_data = [isinstance(each, Call | Value) and not each.is_weight for each in (left, right)]
    if all(is_data):
        inputs = to.node_of(left), to.node_of(right)
        gates = tuple(place for place, each in enumerate(inputs) if _is_gate(to, each))
        number = to.add(Product(inputs=inputs, gates=gates if len(gates) == 1 else (), name=call.name))
        return to.assume(number, f"product in {to.place(call)}: a gate or the like, taken for independent")
    data, other = (left, right) if is_data[0] else (right, left)
    return affine(to, to.node_of(data), to.moments(other), Moments(0.0, 0.0))


def _is_gate(to: Translator, number: int) -> bool:
    """Whether a tensor is a sigmoid or softmax, moved or scaled perhaps."""
    while isinstance(node := to.nodes[number], Identity | Affine | Dropout) and number not in to.scores:
        (number,) = node.inputs
    return number in to.scores or (isinstance(node, Function) and node.name in _GATES)


_GATES = ("sigmoid", "hardsigmoid")


def _quotient(to: Translator, call: Call) -> int | None:
    left, right = call.args[0], argument(call, 1, "other")
    if isinstance(right, Call | Value):
        if not right.is_weight or math.prod(right.shape) != 1:
            return None
        right = to.moments(right).mean
    if not isinstance(left, Call | Value) or call.name.startswith("r"):
        return None
    return to.add(Affine(inputs=(to.node_of(left),), factor=1.0 / right, is_standard=id(call) in to.recorded.standard))


def _negative(to: Translator, call: Call) -> int:
    return affine(to, to.first(call), Moments(-1.0, 1.0), Moments(0.0, 0.0))


def _concatenate(to: Translator, call: Call) -> int:
    inputs = call.inputs
    sizes = tuple(float(math.prod(each.shape)) for each in inputs)
    return to.add(Concatenation(inputs=tuple(to.node_of(each) for each in inputs), sizes=sizes, name=call.name))


def _pool_window(call: Call) -> int:
    """Return how many places one number of the result of a pooling is made of."""
    source, result = call.inputs[0].shape, call.shape
    axes = int(next(each for each in call.name if each.isdigit()))
    if call.name.startswith("adaptive"):
        return max(round(math.prod(source[-axes:]) / math.prod(result[-axes:])), 1)
    kernel = argument(call, 1, "kernel_size")
    sizes = kernel if isinstance(kernel, tuple) else (kernel,)
    return math.prod(sizes) if len(sizes) > 1 else int(sizes[0]) ** axes


def _average_pool(to: Translator, call: Call) -> int:
    return to.add(AveragePool(inputs=(to.first(call),), places=_pool_window(call), name=call.name))


def _max_pool(to: Translator, call: Call) -> int | None:
    if call.output:
        return to.add(Unknown(inputs=(to.first(call),)))  # indices
    return to.add(MaxPool(inputs=(to.first(call),), places=_pool_window(call), name=call.name))


def _reduced_places(call: Call) -> int | None:
    """Return the number of places that a reduction puts together; None where it takes units or samples."""
    source = call.inputs[0]
    axes = reduced_axes(call)
    if axes is None or source.layout is None:
        return None
    axes = tuple(axis % len(source.shape) for axis in axes)
    if 0 in axes or any(is_unit for axis in axes for _, is_unit in source.layout[axis]):
        return None
    return math.prod(source.shape[axis] for axis in axes)


def _mean(to: Translator, call: Call) -> int | None:
    places = _reduced_places(call)
    return None if places is None else to.add(AveragePool(inputs=(to.first(call),), places=places, name=call.name))


def _total(to: Translator, call: Call) -> int | None:
    places = _reduced_places(call)
    if places is None:
        return None
    number = to.add(AveragePool(inputs=(to.first(call),), places=places, name=call.name))
    return affine(to, number, to.moments(places), Moments(0.0, 0.0))


def _largest(to: Translator, call: Call) -> int | None:
    places = _reduced_places(call)
    return None if places is None else to.add(MaxPool(inputs=(to.first(call),), places=places, name=call.name))


def _dropout(to: Translator, call: Call) -> int:
    p = float(argument(call, 1, "p", default=0.5))
    if not argument(call, 2, "training", default=True) or p == 0.0:
        return _identity(to, call)
    return to.add(Dropout(inputs=(to.first(call),), p=p, name=call.name))


def _softmax(to: Translator, call: Call) -> int:
    scores = to.first(call)
    number = to.add(Identity(inputs=(scores,), name=call.name))
    to.scores[number] = scores
    return number


def _scaled_attention(to: Translator, call: Call) -> int:
    query, key, value = (argument(call, place, name) for place, name in enumerate(("query", "key", "value")))
    return attend(
        to,
        call,
        inputs=tuple(to.node_of(each) for each in (query, key, value)),
        places=key.shape[-2],
        width=query.shape[-1],
        factor=argument(call, 6, "scale") or query.shape[-1] ** -0.5,
    )


def _gated(to: Translator, call: Call) -> int:
    x = to.first(call)
    gate = to.add(Function(inputs=(x,), name="sigmoid", function=lambda v: torch.from_numpy(v).sigmoid().numpy()))
    number = to.add(Product(inputs=(x, gate), gates=(1,), name=call.name))
    return to.assume(number, f"glu in {to.place(call)}: a gate, taken for independent")


def _zeros(to: Translator, call: Call) -> int:
    return to.add(Constant(square=0.0), ())


def _ones(to: Translator, call: Call) -> int:
    return to.add(Constant(square=1.0, mean=1.0, across=1.0), ())


_SAME = (
    "reshape reshape_as flatten unflatten view view_as unsafe_view squeeze unsqueeze ravel permute transpose swapaxes "
    "swapdims mT t T movedim moveaxis expand expand_as broadcast_to repeat tile narrow slice chunk split "
    "split_with_sizes tensor_split unsafe_chunk unsafe_split index_select select unbind getitem unfold pixel_shuffle "
    "pixel_unshuffle channel_shuffle native_channel_shuffle interpolate upsample upsample_nearest upsample_bilinear "
    "pad repeat_interleave roll flip float double half bfloat16 to type type_as contiguous clone detach alias "
    "data cpu cuda requires_grad masked_fill fold"
)
_FUNCTIONS = (
    "sigmoid tanh silu gelu elu selu celu softplus softsign hardswish hardsigmoid hardtanh mish relu6 logsigmoid exp "
    "abs absolute square pow sin cos erf clamp clip clamp_min clamp_max softshrink hardshrink tanhshrink relu threshold"
)

GROUPS: tuple[tuple[str, Rule], ...] = (
    (_SAME, _identity),
    (_FUNCTIONS, _function),
    ("add radd iadd", _sum(1.0)),
    ("sub rsub isub subtract", _sum(-1.0)),
    ("mul rmul imul multiply", _product),
    ("div idiv divide truediv itruediv true_divide", _quotient),
    ("neg negative", _negative),
    ("cat concat concatenate stack", _concatenate),
    (" ".join(f"{kind}_pool{d}d" for kind in ("avg", "adaptive_avg") for d in (1, 2, 3)), _average_pool),
    (
        " ".join(
            f"{kind}_pool{d}d{end}"
            for kind in ("max", "adaptive_max")
            for d in (1, 2, 3)
            for end in ("", "_with_indices")
        ),
        _max_pool,
    ),
    ("mean", _mean),
    ("sum", _total),
    ("amax max", _largest),
    ("dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout", _dropout),
    ("softmax", _softmax),
    ("scaled_dot_product_attention", _scaled_attention),
    ("glu", _gated),
    ("zeros_like new_zeros", _zeros),
    ("ones_like new_ones", _ones),
)
"""Names, and the rule of the functions that have them."""
