"""A recorded pass as a list of nodes: the rule of each function of PyTorch, by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakyrelu.slope.network import scale_branches
from leakyrelu.torch.slope import layer_rules, operation_rules
from leakyrelu.torch.slope.translator import Translator

if TYPE_CHECKING:
    from leakyrelu.torch.slope.recorder import Pass
    from leakyrelu.torch.slope.translator import Rule, Translation


def translate(recorded: Pass, exact_gain: bool) -> Translation:
    """Translate a pass into nodes.

    With `exact_gain`, layers whose weights are parameters have the exact gain and no bias, and residual branches are
    scaled; else they have what they have.
    """
    translation = Translator(recorded, exact_gain, _RULES).translate()
    return translation._replace(nodes=scale_branches(translation.nodes)) if exact_gain else translation


_RULES: dict[str, Rule] = {
    name: rule for names, rule in (*layer_rules.GROUPS, *operation_rules.GROUPS) for name in names.split()
}
