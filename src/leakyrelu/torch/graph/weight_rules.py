"""Rules of functions that may take weights, and then make units: products of matrices, layers, normalizations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakyrelu.diagnosis import layout as layouts
from leakyrelu.torch.graph.call_arguments import argument

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leakyrelu.diagnosis.layout import Layout
    from leakyrelu.torch.graph.calls import Call, Value

    Inputs = Sequence[Call | Value]
    Rule = Callable[[Call, Inputs], "tuple[Layout | None, bool]"]


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
            shape = argument(call, 1, "normalized_shape") if axis == -1 else ()
            if isinstance(shape, tuple) and len(shape) > 1:  # weights for each position
                made = inputs[0].layout
            return made, True
        return inputs[0].layout or made, False

    return apply


def _attention(call: Call, inputs: Inputs) -> tuple[Layout | None, bool]:
    value = argument(call, 2, "value")
    return layouts.resized(getattr(value, "layout", None), call.shape), False


_ATTENTION = ("attention", "flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention")
_LAST = "linear bilinear embedding embedding_bag multi_head_attention_forward lstm gru rnn_tanh rnn_relu"

GROUPS: tuple[tuple[str, Rule], ...] = (
    ("matmul rmatmul mm bmm", _product(0)),
    ("addmm baddbmm addbmm", _product(1)),
    ("einsum", _einsum),
    (f"{_LAST} mkldnn_rnn_layer", _makes(-1)),
    ("batch_norm instance_norm group_norm native_batch_norm native_group_norm", _normalize(1)),
    ("cudnn_batch_norm miopen_batch_norm native_batch_norm_legit_no_training", _normalize(1)),
    ("layer_norm rms_norm native_layer_norm", _normalize(-1)),
    (" ".join(f"scaled_dot_product_{kind}" for kind in _ATTENTION), _attention),
    ("convolution", _makes(1)),
    *((f"conv{d}d conv_transpose{d}d", _makes(-d - 1)) for d in (1, 2, 3)),
)
"""Names, and the rule of the functions that have them."""
