"""The place of a layer in words."""

from __future__ import annotations

from leakyrelu.diagnosis.place import NOWHERE, Place


def test_a_path_is_shortened_within_its_module_alone():
    assert str(Place("layer2.0", "layer2.0.bn2 + layer2.0.act", "resnet.py:92")) == (
        "in layer2.0, after bn2 + act, resnet.py:92"
    )
    assert str(Place("layer2.0", "layer2.01.bn2 + stem", "")) == "in layer2.0, after layer2.01.bn2 + stem"
    assert str(Place("", "bn2", "")) == "after bn2"
    assert str(NOWHERE) == ""
