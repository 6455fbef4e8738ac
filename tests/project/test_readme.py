"""The examples of the README run, in order, each in a fresh namespace; its links and targets exist."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support import ROOT

README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"\*\*(\w+)\.\*\*.*?```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_is_one_example_a_verb():
    assert [verb for verb, _ in EXAMPLES] == ["Compute", "Train", "Diagnose", "Choose"]


@pytest.mark.parametrize(("verb", "code"), EXAMPLES, ids=[verb for verb, _ in EXAMPLES])
def test_example(verb, code):
    namespace = {}
    exec(compile(code, f"README, {verb}", "exec"), namespace)


@pytest.mark.parametrize(("verb", "code"), EXAMPLES, ids=[verb for verb, _ in EXAMPLES])
def test_what_the_comments_say(verb, code):
    """A line whose comment starts with a number or a list is an expression with that value."""
    namespace = {}
    checked = 0
    for line in code.splitlines():
        statement, _, comment = line.partition("  #")
        claimed = re.match(r"\s*(\[[^\]]*\]|\d+\.\d+)", comment)
        if claimed and not re.match(r"\s*[\w.]+\s*=", statement):
            value = eval(statement, namespace)
            np.testing.assert_allclose(np.asarray(value, float), np.asarray(eval(claimed[1]), float), atol=6e-4)
            checked += 1
        else:
            exec(statement, namespace)
    assert checked or verb == "Train"


def test_links_lead_to_files():
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    documents = README + (ROOT / "CONTRIBUTING.md").read_text()
    for target in re.findall(r"\bmake (\w[\w-]*)", re.sub(r"[^`$]*?(`[^`]*`|\$ [^\n]*)", r"\1\n", documents)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
