"""Rules of functions that move, combine or sum up numbers: their results have no other units than their arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leakyrelu.diagnosis import layout as layouts
from leakyrelu.torch.graph.call_arguments import argument, integers, reduced_axes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leakyrelu.diagnosis.layout import Layout
    from leakyrelu.torch.graph.calls import Call, Value

    Inputs = Sequence[Call | Value]
    Rule = Callable[[Call, Inputs], "tuple[Layout | None, bool]"]


def _elementwise(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    return layouts.combined([each.layout for each in inputs], call.shape), False


def _reshape(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    return layouts.reshaped(inputs[0].layout, call.shape) if inputs else None, False


def _of_first(rule: Callable[..., Layout | None]) -> Rule:
    """Make a rule of a function that takes the layout of the first tensor that is data, and the shape of the result."""

    def apply(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
        first = next((each for each in inputs if not each.is_weight), inputs[0] if inputs else None)
        return (rule(first.layout, call.shape) if first is not None else None), False

    return apply


def _permute(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    return layouts.permuted(inputs[0].layout, integers(call, 1, "dims")), False


def _swap(*default: int) -> Rule:
    """Make a rule of a function that exchanges two axes."""

    def apply(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
        order = list(range(len(call.shape)))
        first = argument(call, 1, "dim0", "axis0", default=default[0] if default else None)
        second = argument(call, 2, "dim1", "axis1", default=default[1] if default else None)
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
        for value in (argument(call, 1, "source"), argument(call, 2, "destination"))
    )
    order = [axis for axis in range(count) if axis not in taken]
    for place, axis in sorted(zip(put, taken, strict=True)):
        order.insert(place, axis)
    return layouts.permuted(inputs[0].layout, order), False


def _concatenate(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    axis = argument(call, 1, "dim", "axis", default=0)
    return layouts.concatenated([each.layout for each in inputs], axis, call.shape), False


def _stack(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    axis = argument(call, 1, "dim", default=0) % max(len(call.shape), 1)
    part = layouts.combined([each.layout for each in inputs], (*call.shape[:axis], *call.shape[axis + 1 :]))
    if part is None:
        return None, False
    return layouts.expanded((*part[:axis], (), *part[axis:]), call.shape), False


def _take(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    """Follow a function that takes one index of an axis: select, unbind."""
    axis = argument(call, 1, "dim", default=0)
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
    source, factor = inputs[0], argument(call, 1, "upscale_factor")
    batch, (channels, height, width) = source.shape[:-3], source.shape[-3:]
    layout = layouts.reshaped(source.layout, (*batch, channels // factor**2, factor, factor, height, width))
    count = len(batch)
    order = [*range(count), *(count + axis for axis in (0, 3, 1, 4, 2))]
    return layouts.reshaped(layouts.permuted(layout, order), call.shape), False


def _unshuffle_pixels(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    source, factor = inputs[0], argument(call, 1, "downscale_factor")
    batch, (channels, height, width) = source.shape[:-3], source.shape[-3:]
    layout = layouts.reshaped(source.layout, (*batch, channels, height // factor, factor, width // factor, factor))
    count = len(batch)
    order = [*range(count), *(count + axis for axis in (0, 2, 4, 1, 3))]
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
_POOLING_KINDS = (
    *("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "lp_pool", "max_unpool", "fractional_max_pool"),
    *("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool"),
)
_POOLINGS = [f"{kind}{d}d{end}" for kind in _POOLING_KINDS for d in (1, 2, 3) for end in ("", "_with_indices")]
_VIEWS = "reshape reshape_as flatten unflatten view view_as unsafe_view squeeze unsqueeze ravel Flatten Unflatten"
_PARTS = (
    "narrow slice chunk split split_with_sizes tensor_split unsafe_chunk unsafe_split index_select gather "
    "take_along_dim glu sort topk"
)
_STATISTICS = "mean sum nansum nanmean amax amin max min median var std norm logsumexp prod all any argmax argmin"

GROUPS: tuple[tuple[str, Rule], ...] = (
    (_ELEMENTWISE, _elementwise),
    (" ".join([_RESIZING, *_POOLINGS]), _of_first(layouts.resized)),
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
    ("unfold", _unfold),
    ("pixel_shuffle PixelShuffle", _shuffle_pixels),
    ("pixel_unshuffle PixelUnshuffle", _unshuffle_pixels),
)
"""Names, and the rule of the functions that have them."""
