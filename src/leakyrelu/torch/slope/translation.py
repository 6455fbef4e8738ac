"""A recorded pass as a list of nodes: the rule of each function of PyTorch, by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakyrelu.torch.slope import layer_rules, operation_rules
from leakyrelu.torch.slope.translator import Translator

if TYPE_CHECKING:
    from leakyrelu.torch.slope.recorder import Pass
    from leakyrelu.torch.slope.translator import Rule, Translation


def translate(recorded: Pass, exact_gain: bool) -> Translation:
    """Translate a pass into nodes.

    With `exact_gain`, layers whose weights are parameters have the exact gain and no bias; else what they have.
    """
    return Translator(recorded, exact_gain, _RULES).translate()


_RULES: dict[str, Rule] = {
    name: rule for names, rule in (*layer_rules.GROUPS, *operation_rules.GROUPS) for name in names.split()
}
