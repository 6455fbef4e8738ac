"""A recorded pass as a list of nodes: a rule for each function of PyTorch, by its name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from leakyrelu.slope.network import (
    Activation,
    Affine,
    Attention,
    AveragePool,
    BatchNorm,
    Concatenation,
    Constant,
    Dropout,
    Function,
    GroupNorm,
    Identity,
    Input,
    LayerNorm,
    Linear,
    MaxPool,
    Product,
    RMSNorm,
    Sum,
    Unknown,
)
from leakyrelu.torch.graph.call_arguments import argument, reduced_axes
from leakyrelu.torch.graph.calls import Call, Value
from leakyrelu.torch.slope.padding import valid_taps
from leakyrelu.torch.slope.recorder import Moments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from leakyrelu.slope.network import Node
    from leakyrelu.torch.slope.recorder import Pass


class Translation(NamedTuple):
    """The nodes of a pass.

    Attributes
    ----------
    nodes
        In the order of the calls.
    assumed, unknown
        What is only approximately true, and the operations without a rule: number of the node, and a text.
    widths
        Units in front of each activation, by the number of its node, where they are known.
    weights
        Name of the weight of each `Linear` node, by its number.
    """

    nodes: list[Node]
    assumed: list[tuple[int, str]]
    unknown: list[tuple[int, str]]
    widths: dict[int, int]
    weights: dict[int, str]


class Translator:
    """Makes nodes of calls. With `exact_gain` layers have the exact gain and no bias, else the weights they have."""

    def __init__(self, recorded: Pass, exact_gain: bool) -> None:
        self.recorded = recorded
        self.exact_gain = exact_gain
        self.nodes: list[Node] = []
        self.assumed: list[tuple[int, str]] = []
        self.unknown: list[tuple[int, str]] = []
        self.widths: dict[int, int] = {}
        self.weights: dict[int, str] = {}
        self._made: dict[int, int] = {}
        self._sources: list[frozenset[Any]] = []
        self._scores: dict[int, int] = {}  # node of the scores of a softmax, by identity of what has its result

    def translate(self) -> Translation:
        """Translate all calls."""
        for call in self.recorded.calls:
            if call.is_weight:
                continue
            if not self.recorded.is_number.get(id(call), True):
                self._made[id(call)] = self._unknown(call, "its result is not made of real floating-point numbers")
                continue
            rule = _RULES.get(call.name)
            try:
                if id(call) in self.recorded.rectifiers:
                    node = self._rectify(call)
                elif rule is not None:
                    node = rule(self, call)
                else:
                    node = None
            except (LookupError, TypeError, ValueError, AttributeError, ZeroDivisionError):
                node = None
            self._made[id(call)] = self._unknown(call) if node is None else node
        return Translation(self.nodes, self.assumed, self.unknown, self.widths, self.weights)

    # What rules are made of.

    def add(self, node: Node, sources: Iterable[Any] | None = None) -> int:
        """Append a node; its sources are those of its inputs where it makes none of its own."""
        if sources is None:
            sources = frozenset().union(*(self._sources[each] for each in node.inputs))
        self.nodes.append(node)
        self._sources.append(frozenset(sources))
        return len(self.nodes) - 1

    def node_of(self, value: Call | Value) -> int:
        """Return the node of a tensor that depends on the inputs, or that of a constant."""
        if id(value) in self._made:
            return self._made[id(value)]
        if value.is_weight:
            moments = self.moments(value)
            number = self.add(Constant(square=moments.square, mean=moments.mean), {id(value)})
        else:
            number = self.add(Input(name="input"), {id(value)})
        self._made[id(value)] = number
        return number

    def data(self, call: Call) -> list[Call | Value]:
        """Return the arguments that depend on the inputs of the model."""
        return [each for each in call.inputs if not each.is_weight]

    def first(self, call: Call) -> int:
        """Return the node of the first of them."""
        return self.node_of(self.data(call)[0])

    def moments(self, value: Any) -> Moments:
        """Return the moments of a weight, or of a number."""
        if isinstance(value, int | float):
            return Moments(float(value), float(value) ** 2)
        return self.recorded.moments[id(value)]

    def place(self, call: Call) -> str:
        """Return where a call is made."""
        return self.recorded.places.get(id(call), "") or "the model"

    def assume(self, number: int, text: str) -> int:
        """Note that a node is an approximation."""
        self.assumed.append((number, text))
        return number

    def independent_sum(self, call: Call, node: Node) -> int:
        """Append a sum or product, and note where its sides are not independent."""
        sides = [self._sources[each] for each in node.inputs]
        number = self.add(node)
        if any(one & two for place, one in enumerate(sides) for two in sides[:place]):
            self.assume(number, f"{call.name} in {self.place(call)}: its sides share weights or inputs")
        return number

    def _unknown(self, call: Call, why: str = "") -> int:
        inputs = tuple(self.node_of(each) for each in self.data(call)[:1])
        text = f"{call.name} in {self.place(call)}" + (f": {why}" if why else "")
        number = self.add(Unknown(inputs=inputs, name=text)) if inputs else self.add(Input(name=text), {id(call)})
        self.unknown.append((number, text))
        return number

    def _rectify(self, call: Call) -> int:
        name, rectifier, is_open = self.recorded.rectifiers[id(call)]
        x = self.first(call)
        node: Node
        if is_open:
            node = Activation(inputs=(x,), name=name)
        elif rectifier.rest is None:
            slope = rectifier.slope
            number = float(slope.double().mean()) if isinstance(slope, torch.Tensor) else slope
            node = Activation(inputs=(x,), name=name, slope=number)
        else:
            node = Function(inputs=(x,), name=name, function=_as_numpy(call), is_activation=True)
        number = self.add(node)
        layout = call.inputs[0].layout
        if layout is not None:
            units = math.prod(size for factors in layout for size, is_unit in factors if is_unit)
            self.widths[number] = units
        return number


Rule = "Callable[[Translator, Call], int | None]"


def _as_numpy(call: Call) -> Callable[[Any], Any]:
    """Return a function of one tensor, with its other arguments as they were, for arrays of float64."""
    rest = call.args[1:]
    if any(isinstance(each, Call | Value) for each in (*rest, *call.kwargs.values())):
        raise TypeError("other arguments are tensors")
    options = {key: value for key, value in call.kwargs.items() if key not in ("input", "inplace", "out")}

    def apply(values: Any) -> Any:
        return call.function(torch.from_numpy(values.copy()), *rest, **options).numpy()

    return apply


def _identity(to: Translator, call: Call) -> int:
    number = to.add(Identity(inputs=(to.first(call),), name=call.name))
    if (scores := to._scores.get(to.first(call))) is not None:
        to._scores[number] = scores
    return number


def _function(to: Translator, call: Call) -> int:
    return to.add(Function(inputs=(to.first(call),), name=call.name, function=_as_numpy(call)))


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
        one, two = to.node_of(left), to.node_of(right)
        if (scores := to._scores.get(one)) is not None:
            number = to.add(Attention(inputs=(scores, two), places=left.shape[-1], name=call.name))
            return to.assume(number, f"attention in {to.place(call)}: overlap of the weights by a formula")
        product = to.add(Product(inputs=(one, two)))
        number = to.add(Affine(inputs=(product,), factor=0.0, factor2=float(left.shape[-1]), name=call.name))
        return to.assume(number, f"{call.name} in {to.place(call)}: a product of two tensors, taken for independent")

    return apply


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
    one, two = (to.node_of(each) for each in call.inputs)
    if (scores := to._scores.get(one)) is not None:
        number = to.add(Attention(inputs=(scores, two), places=summed, name=call.name))
        return to.assume(number, f"attention in {to.place(call)}: overlap of the weights by a formula")
    product = to.add(Product(inputs=(one, two)))
    number = to.add(Affine(inputs=(product,), factor=0.0, factor2=float(summed), name=call.name))
    return to.assume(number, f"einsum in {to.place(call)}: a product of two tensors, taken for independent")


def _with_affine(to: Translator, number: int, weight: Any, bias: Any) -> int:
    if weight is None and bias is None:
        return number
    factor = Moments(1.0, 1.0) if weight is None else to.moments(weight)
    shift = Moments(0.0, 0.0) if bias is None else to.moments(bias)
    return _affine(to, number, factor, shift)


def _affine(to: Translator, number: int, factor: Moments, shift: Moments, across: float = 1.0) -> int:
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
        return _affine(to, x, *scales)
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
        return _affine(to, to.node_of(data), Moments(own, own**2), shift, across)

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
        number = to.add(Product(inputs=(to.node_of(left), to.node_of(right)), name=call.name))
        return to.assume(number, f"product in {to.place(call)}: a gate or the like, taken for independent")
    data, other = (left, right) if is_data[0] else (right, left)
    return _affine(to, to.node_of(data), to.moments(other), Moments(0.0, 0.0))


def _quotient(to: Translator, call: Call) -> int | None:
    left, right = call.args[0], argument(call, 1, "other")
    if isinstance(right, Call | Value):
        if not right.is_weight or math.prod(right.shape) != 1:
            return None
        right = to.moments(right).mean
    if not isinstance(left, Call | Value) or call.name.startswith("r"):
        return None
    return _affine(to, to.node_of(left), to.moments(1.0 / right), Moments(0.0, 0.0))


def _negative(to: Translator, call: Call) -> int:
    return _affine(to, to.first(call), Moments(-1.0, 1.0), Moments(0.0, 0.0))


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
    return (
        math.prod(kernel)
        if isinstance(kernel, tuple) and len(kernel) > 1
        else ((kernel[0] if isinstance(kernel, tuple) else kernel) ** axes)
    )


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
    return _affine(to, number, to.moments(places), Moments(0.0, 0.0))


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
    to._scores[number] = scores
    return number


def _scaled_attention(to: Translator, call: Call) -> int:
    query, key, value = (argument(call, place, name) for place, name in enumerate(("query", "key", "value")))
    factor = argument(call, 6, "scale") or query.shape[-1] ** -0.5
    number = to.add(
        Attention(
            inputs=tuple(to.node_of(each) for each in (query, key, value)),
            places=key.shape[-2],
            width=query.shape[-1],
            factor=factor,
            name=call.name,
        )
    )
    return to.assume(number, f"attention in {to.place(call)}: overlap of the weights by a formula")


def _multi_head_attention(to: Translator, call: Call) -> int | None:
    if call.output or argument(call, 5, "in_proj_weight") is None:
        return None
    query, key, value = call.args[:3]
    width, heads = call.args[3:5]
    weight, bias = to.moments(call.args[5]), call.args[6]
    bias2 = 0.0 if bias is None else to.moments(bias).square
    exact = to.exact_gain
    given = []
    for part, x in enumerate((query, key, value)):
        node = Linear(
            inputs=(to.node_of(x),),
            gain2=None if exact else width * weight.square,
            bias2=0.0 if exact else bias2,
            name=call.module,
        )
        given.append(to.add(node, {(id(call.args[5]), part)}))
    batch_first = len(query.shape) == 3
    number = to.add(
        Attention(
            inputs=tuple(given),
            places=key.shape[0 if batch_first else -2],
            width=width // heads,
            factor=(width // heads) ** -0.5,
            name=call.name,
        )
    )
    to.assume(number, f"attention in {to.place(call)}: overlap of the weights by a formula")
    out_weight, out_bias = call.args[11:13]
    return to.add(
        Linear(
            inputs=(number,),
            gain2=None if exact else width * to.moments(out_weight).square,
            bias2=0.0 if exact or out_bias is None else to.moments(out_bias).square,
            name=call.module,
        ),
        {id(out_weight)},
    )


def _embedding(to: Translator, call: Call) -> int:
    weight = argument(call, 1, "weight")
    x = to.add(Input(name=call.module or call.name), {id(weight)})
    return _affine(to, x, Moments(0.0, to.moments(weight).square), Moments(0.0, 0.0))


def _gated(to: Translator, call: Call) -> int:
    x = to.first(call)
    gate = to.add(Function(inputs=(x,), name="sigmoid", function=lambda values: 1.0 / (1.0 + _exp(-values))))
    number = to.add(Product(inputs=(x, gate), name=call.name))
    return to.assume(number, f"glu in {to.place(call)}: a gate, taken for independent")


def _exp(values: Any) -> Any:
    return torch.from_numpy(values).clamp(max=700.0).exp().numpy()


def _zeros(to: Translator, call: Call) -> int:
    return to.add(Constant(square=0.0), ())


def _ones(to: Translator, call: Call) -> int:
    return to.add(Constant(square=1.0, mean=1.0, across=1.0), ())


_SAME = (
    "reshape reshape_as flatten unflatten view view_as unsafe_view squeeze unsqueeze ravel permute transpose swapaxes "
    "swapdims mT t T movedim moveaxis expand expand_as broadcast_to repeat tile narrow slice chunk split "
    "split_with_sizes tensor_split unsafe_chunk unsafe_split index_select select unbind getitem unfold pixel_shuffle "
    "pixel_unshuffle channel_shuffle native_channel_shuffle interpolate upsample upsample_nearest upsample_bilinear pad "
    "repeat_interleave roll flip float double half bfloat16 to type type_as contiguous clone detach alias data cpu cuda "
    "requires_grad masked_fill fold"
)
_FUNCTIONS = (
    "sigmoid tanh silu gelu elu selu celu softplus softsign hardswish hardsigmoid hardtanh mish relu6 logsigmoid exp "
    "abs absolute square pow sin cos erf clamp clip clamp_min clamp_max softshrink hardshrink tanhshrink relu threshold"
)

_GROUPS: tuple[tuple[str, Any], ...] = (
    (_SAME, _identity),
    (_FUNCTIONS, _function),
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
    ("multi_head_attention_forward", _multi_head_attention),
    ("embedding", _embedding),
    ("glu", _gated),
    ("zeros_like new_zeros", _zeros),
    ("ones_like new_ones", _ones),
)
_RULES: dict[str, Callable[[Translator, Call], int | None]] = {
    name: rule for names, rule in _GROUPS for name in names.split()
}
