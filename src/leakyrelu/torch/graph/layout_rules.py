"""Where units lie in the result of each function of PyTorch, given where they lie in its arguments.

A rule is looked up by the name of the function, the method or the type of a layer, without underscores at its ends.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from leakyrelu.diagnosis import layout as layouts
from leakyrelu.torch.graph import moving_rules, weight_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leakyrelu.diagnosis.layout import Layout
    from leakyrelu.torch.graph.calls import Call, Value


def layout_of(call: Call, inputs: Sequence[Call | Value], axis: int | None) -> tuple[Layout | None, bool]:
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

RULES = {name: rule for names, rule in (*moving_rules.GROUPS, *weight_rules.GROUPS) for name in names.split()}
"""Rules by name. A function that is not here may move numbers: where units lie in its result is not known."""
