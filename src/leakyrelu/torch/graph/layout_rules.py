"""Where units lie in the result of each function of PyTorch, given where they lie in its arguments.

A rule is looked up by the name of the function, the method or the type of a layer, without underscores at its ends.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from leakyrelu.diagnosis import layout as layouts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leakyrelu.diagnosis.layout import Layout
    from leakyrelu.torch.graph.calls import Call, Value

    Inputs = Sequence[Call | Value]
    Rule = Callable[[Call, Inputs], "tuple[Layout | None, bool]"]


def layout_of(call: Call, inputs: Inputs, axis: int | None) -> tuple[Layout | None, bool]:
    """Return the layout of a call's result, and whether the call makes new units: whether it has weights of its own."""
    if axis is not None:
        return layouts.produced(call.shape, axis), True
    rule = RULES.get(call.name)
    if rule is None:
        return None, False
    try:
        return rule(call, inputs)
    except (LookupError, TypeError, ValueError, AttributeError):
        return None, False  # arguments given in a way that the rule does not read; the model must not fail of it


@cache
def rule_name(function: Any) -> str:
    """Return the name by which rules know a function; empty for one that makes no tensor, such as `Tensor.size`.

    Examples
    --------
    >>> import torch
    >>> rule_name(torch.Tensor.__iadd__), rule_name(torch.relu_), rule_name(torch.Tensor.mT.__get__)
    ('iadd', 'relu', 'mT')
    """
    name = str(getattr(function, "__name__", ""))
    if name == "__get__":
        name = str(getattr(function.__self__, "__name__", ""))
        return name if name in RULES else ""
    name = name.partition(".")[0].strip("_")
    return "" if name in _NO_TENSORS else name


_NO_TENSORS = frozenset(
    {"size", "dim", "numel", "stride", "is_contiguous", "is_floating_point", "is_complex", "item", "tolist", "len"}
    | {"data_ptr", "element_size", "storage_offset", "get_device", "has_names", "register_hook", "backward", "hash"}
    | {"set", "index", "format", "repr", "nelement", "is_same_size", "equal", "is_tensor", "delete"}
)


def _first(call: Call, inputs: Inputs) -> Any:
    """Return the first tensor that is data, or else the first."""
    return next((each for each in inputs if not each.is_weight), inputs[0] if inputs else None)


def _argument(call: Call, position: int, *names: str, default: Any = None) -> Any:
    if len(call.args) > position:
        return call.args[position]
    return next((call.kwargs[name] for name in names if name in call.kwargs), default)


def _integers(call: Call, position: int, *names: str) -> tuple[int, ...]:
    """Read integers that are given one by one or as a sequence."""
    value = _argument(call, position, *names)
    if isinstance(value, tuple):
        return value
    if value is None:
        return ()
    rest = call.args[position:] if len(call.args) > position else (value,)
    return tuple(each for each in rest if isinstance(each, int) and not isinstance(each, bool))


def _elementwise(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    return layouts.combined([each.layout for each in inputs], call.shape), False


def _reshape(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    return layouts.reshaped(inputs[0].layout, call.shape) if inputs else None, False


def _of_first(rule: Callable[..., Layout | None]) -> Rule:
    """Make a rule of a function that takes the layout of the first tensor and the shape of the result."""

    def apply(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
        first = _first(call, inputs)
        return (rule(first.layout, call.shape) if first is not None else None), False

    return apply


def _permute(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    return layouts.permuted(inputs[0].layout, _integers(call, 1, "dims")), False


def _swap(*default: int) -> Rule:
    """Make a rule of a function that exchanges two axes."""

    def apply(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
        order = list(range(len(call.shape)))
        first = _argument(call, 1, "dim0", "axis0", default=default[0] if default else None)
        second = _argument(call, 2, "dim1", "axis1", default=default[1] if default else None)
        if len(order) > 1 and isinstance(first, int) and isinstance(second, int):
            order[first], order[second] = order[second], order[first]
        return layouts.permuted(inputs[0].layout, order), False

    return apply


def _reverse(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    return layouts.permuted(inputs[0].layout, range(len(call.shape))[::-1]), False


def _move(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    count = len(call.shape)
    taken, put = (
        [axis % count for axis in (value if isinstance(value, tuple) else (value,))]
        for value in (_argument(call, 1, "source"), _argument(call, 2, "destination"))
    )
    order = [axis for axis in range(count) if axis not in taken]
    for place, axis in sorted(zip(put, taken, strict=True)):
        order.insert(place, axis)
    return layouts.permuted(inputs[0].layout, order), False


def _concatenate(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    axis = _argument(call, 1, "dim", "axis", default=0)
    return layouts.concatenated([each.layout for each in inputs], axis, call.shape), False


def _stack(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    axis = _argument(call, 1, "dim", default=0) % max(len(call.shape), 1)
    part = layouts.combined([each.layout for each in inputs], (*call.shape[:axis], *call.shape[axis + 1 :]))
    if part is None:
        return None, False
    return layouts.expanded((*part[:axis], (), *part[axis:]), call.shape), False


def _take(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    """Follow a function that takes one index of an axis: select, unbind."""
    axis = _argument(call, 1, "dim", default=0)
    return layouts.selected(inputs[0].layout, axis), False


def _index(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    source = inputs[0]
    if source.layout is None:
        return None, False
    index = call.args[1]
    index = index if isinstance(index, tuple) else (index,)
    given = sum(each is not None and each is not Ellipsis for each in index)
    lists = [each for each in index if not (each is None or each is Ellipsis or isinstance(each, slice | int))]
    if len(lists) > 1 or (lists and (len(getattr(lists[0], "shape", (0,))) != 1 or any(type(i) is int for i in index))):
        return None, False  # several lists of indices move axes
    dimensions: list[Any] = []
    axis = 0
    for each in index:
        if each is None:
            dimensions.append(())
        elif each is Ellipsis:
            stop = axis + len(source.layout) - given
            dimensions += source.layout[axis:stop]
            axis = stop
        else:
            if isinstance(each, bool):
                return None, False
            if not isinstance(each, int):
                dimensions.append(source.layout[axis])
            axis += 1
    dimensions += source.layout[axis:]
    return layouts.cut(tuple(dimensions), call.shape), False


def _set_item(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    target, value = inputs[0], inputs[-1]
    return target.layout or layouts.resized(value.layout, call.shape), False


def _scatter(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    given = [each.layout or layouts.resized(inputs[-1].layout, call.shape) for each in inputs[:1]]
    return layouts.combined(given, call.shape), False


def _reduce(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    axes = reduced_axes(call)
    if axes is None:
        return None, False
    return layouts.without(inputs[0].layout, axes, keep=len(call.shape) == len(inputs[0].shape)), False


def reduced_axes(call: Call) -> tuple[int, ...] | None:
    """Return the axes over which a mean, a maximum or the like is taken; None where that is not known."""
    axes = _integers(call, 1, "dim", "axis")[: 1 if isinstance(_argument(call, 1), int) else None]
    if call.name in ("norm", "quantile") or not axes:
        axes = tuple(axis for axis in _integers(call, 2, "dim"))
    missing = len(call.inputs[0].shape) - len(call.shape)
    return axes if axes and missing in (0, len(axes)) else None


def _product(first: int) -> Rule:
    """Make a rule of a product of matrices, which are the arguments from `first` on."""

    def apply(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
        left, right = inputs[first : first + 2]
        if call.name == "rmatmul":
            left, right = right, left
        if len(left.shape) < 2 or len(right.shape) < 2 or len(call.shape) < 2:
            return (layouts.produced(call.shape, -1), True) if right.is_weight else (None, False)
        operands = ((left, "xy"), (right, "yz"))
        batch = "abcdefgh"[: len(call.shape) - 2]
        terms = [_batch_letters(batch, each.shape[:-2], call.shape[:-2]) + ends for each, ends in operands]
        sizes = {**dict(zip(batch, call.shape, strict=False)), "x": call.shape[-2], "z": call.shape[-1]}
        return _contract(call, (left, right), terms, batch + "xz", sizes)

    return apply


def _batch_letters(letters: str, shape: tuple[int, ...], result: tuple[int, ...]) -> str:
    """Name the leading axes of an operand; those that are broadcast by letters that the result does not have."""
    start = len(result) - len(shape)
    return "".join(
        letter if size == whole else letter.upper()
        for letter, size, whole in zip(letters[start:], shape, result[start:], strict=True)
    )


_GREEK = "αβγδεζηθικλμ"


def _einsum(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    equation = call.args[0]
    if not isinstance(equation, str):
        return None, False
    left, arrow, output = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    # What dots stand for gets letters of its own, counted from the last axis.
    hidden = [
        len(each.shape) - len(term) + 3 if "..." in term else 0 for term, each in zip(terms, inputs, strict=False)
    ]
    letters = _GREEK[len(_GREEK) - max(hidden, default=0) :]
    terms = [term.replace("...", letters[len(letters) - count :]) for term, count in zip(terms, hidden, strict=False)]
    if not arrow:
        output = letters + "".join(sorted(letter for letter in set(left) - {",", "."} if left.count(letter) == 1))
    output = output.replace("...", letters)
    if len(terms) != len(inputs) or len(output) != len(call.shape):
        return None, False
    return _contract(call, inputs, terms, output, dict(zip(output, call.shape, strict=True)))


def _contract(
    call: Call, inputs: Inputs, terms: list[str], output: str, sizes: dict[str, int]
) -> tuple[Layout | None, bool]:
    # A constant on the left, such as the adjacency matrix of a graph, mixes positions and makes no units.
    weights = [each.is_weight and (each.is_parameter or place > 0) for place, each in enumerate(inputs)]
    layout = layouts.contracted(terms, output, [each.layout for each in inputs], weights, sizes)
    return layout, any(weights) and not all(weights)


def _makes(axis: int) -> Rule:
    """Make a rule of a function that puts its own units on an axis."""

    def apply(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
        return layouts.produced(call.shape, axis), True

    return apply


def _normalize(axis: int) -> Rule:
    """Make a rule of a normalization: with weights it makes units; without, it leaves those that are there."""

    def apply(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
        made = layouts.produced(call.shape, axis)
        if any(each.is_weight for each in inputs[1:]) and not inputs[0].is_weight:
            shape = _argument(call, 1, "normalized_shape") if axis == -1 else ()
            if isinstance(shape, tuple) and len(shape) > 1:  # weights for each position
                made = inputs[0].layout
            return made, True
        return inputs[0].layout or made, False

    return apply


def _attention(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    value = _argument(call, 2, "value")
    return layouts.resized(getattr(value, "layout", None), call.shape), False


def _unfold(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    source = inputs[0]
    if source.layout is None or len(call.shape) != 3 or len(source.shape) != 4 or not source.shape[1]:
        return None, False
    batch, channels = source.shape[:2]
    patches = layouts.resized(
        layouts.reshaped(source.layout, (batch, channels, 1, source.shape[2] * source.shape[3])),
        (batch, channels, call.shape[1] // channels, call.shape[2]),
    )
    return layouts.reshaped(patches, call.shape), False


def _shuffle_pixels(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    source, factor = inputs[0], _argument(call, 1, "upscale_factor")
    batch, (channels, height, width) = source.shape[:-3], source.shape[-3:]
    layout = layouts.reshaped(source.layout, (*batch, channels // factor**2, factor, factor, height, width))
    count = len(batch)
    order = [*range(count), *(count + axis for axis in (0, 3, 1, 4, 2))]
    return layouts.reshaped(layouts.permuted(layout, order), call.shape), False


_ELEMENTWISE = (
    "add radd iadd sub rsub isub subtract mul rmul imul multiply div rdiv idiv divide truediv rtruediv itruediv "
    "true_divide floordiv floor_divide mod remainder fmod neg negative pos positive abs absolute pow rpow ipow "
    "square sqrt rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan tanh arctan atan sigmoid logit erf erfc "
    "reciprocal clamp clip clamp_min clamp_max minimum maximum fmin fmax lerp addcmul addcdiv where masked_fill "
    "nan_to_num sign round floor ceil trunc frac heaviside relu leaky_relu prelu rrelu relu6 threshold hardtanh "
    "elu selu celu gelu silu mish softplus softsign hardswish hardsigmoid logsigmoid log_sigmoid tanhshrink "
    "softshrink hardshrink sinc softmax log_softmax softmin gumbel_softmax dropout alpha_dropout feature_dropout "
    "feature_alpha_dropout dropout1d dropout2d dropout3d float half double bfloat16 to type type_as cpu cuda "
    "contiguous clone detach requires_grad alias data real copy normalize local_response_norm cumsum roll flip "
    "bernoulli gt lt ge le eq ne logical_and logical_or logical_not and or xor invert channel_shuffle "
    "native_channel_shuffle fill zero quantize_per_tensor fake_quantize_per_tensor_affine "
    "fake_quantize_per_channel_affine dequantize ReLU LeakyReLU PReLU RReLU ReLU6 Threshold Identity Dropout "
    "Dropout1d Dropout2d Dropout3d AlphaDropout Sigmoid Tanh GELU SiLU ELU SELU Softplus Hardswish Hardsigmoid "
    "Mish Softmax LogSoftmax lift_fresh lift_fresh_copy to_copy"
)
_RESIZING = (
    "interpolate upsample upsample_nearest upsample_bilinear upsample_nearest1d upsample_nearest2d "
    "upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d pad "
    "constant_pad_nd grid_sample repeat_interleave Upsample ZeroPad2d ReflectionPad2d ReplicationPad2d"
)
_POOLINGS = (
    *("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "lp_pool", "max_unpool", "fractional_max_pool"),
    *("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool"),
)
_VIEWS = "reshape reshape_as flatten unflatten view view_as unsafe_view squeeze unsqueeze ravel Flatten Unflatten"
_PARTS = (
    "narrow slice chunk split split_with_sizes tensor_split unsafe_chunk unsafe_split index_select gather "
    "take_along_dim glu sort topk"
)
_STATISTICS = "mean sum nansum nanmean amax amin max min median var std norm logsumexp prod all any argmax argmin"
_ATTENTION = ("attention", "flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention")
_LAST = "linear bilinear embedding embedding_bag multi_head_attention_forward lstm gru rnn_tanh rnn_relu"


def _unshuffle_pixels(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    source, factor = inputs[0], _argument(call, 1, "downscale_factor")
    batch, (channels, height, width) = source.shape[:-3], source.shape[-3:]
    layout = layouts.reshaped(source.layout, (*batch, channels, height // factor, factor, width // factor, factor))
    count = len(batch)
    order = [*range(count), *(count + axis for axis in (0, 2, 4, 1, 3))]
    return layouts.reshaped(layouts.permuted(layout, order), call.shape), False


def _table() -> dict[str, Rule]:
    poolings = [f"{kind}{d}d{end}" for kind in _POOLINGS for d in (1, 2, 3) for end in ("", "_with_indices")]
    groups: tuple[tuple[str, Rule], ...] = (
        (_ELEMENTWISE, _elementwise),
        (" ".join([_RESIZING, *poolings]), _of_first(layouts.resized)),
        (_VIEWS, _reshape),
        ("permute", _permute),
        ("transpose swapaxes swapdims", _swap()),
        ("mT mH adjoint t", _swap(-2, -1)),
        ("T H numpy_T", _reverse),
        ("movedim moveaxis", _move),
        ("expand expand_as broadcast_to repeat tile", _of_first(layouts.expanded)),
        ("cat concat concatenate", _concatenate),
        ("stack", _stack),
        (_PARTS, _of_first(layouts.cut)),
        ("select unbind", _take),
        ("getitem", _index),
        ("setitem", _set_item),
        ("scatter scatter_add scatter_reduce index_add index_copy index_put", _scatter),
        (_STATISTICS, _reduce),
        ("matmul rmatmul mm bmm", _product(0)),
        ("addmm baddbmm addbmm", _product(1)),
        ("einsum", _einsum),
        (f"{_LAST} mkldnn_rnn_layer", _makes(-1)),
        ("batch_norm instance_norm group_norm native_batch_norm native_group_norm", _normalize(1)),
        ("cudnn_batch_norm miopen_batch_norm native_batch_norm_legit_no_training", _normalize(1)),
        ("layer_norm rms_norm native_layer_norm", _normalize(-1)),
        (" ".join(f"scaled_dot_product_{kind}" for kind in _ATTENTION), _attention),
        ("convolution", _makes(1)),
        ("unfold", _unfold),
        ("pixel_shuffle PixelShuffle", _shuffle_pixels),
        ("pixel_unshuffle PixelUnshuffle", _unshuffle_pixels),
        *((f"conv{d}d conv_transpose{d}d", _makes(-d - 1)) for d in (1, 2, 3)),
    )
    return {name: rule for names, rule in groups for name in names.split()}


RULES: dict[str, Rule] = _table()
"""Rules by name. A function that is not here may move numbers: where units lie in its result is not known."""
