"""Every example in every public docstring, run as written."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import leakyrelu

MODULES = sorted(
    name for _, name, _ in pkgutil.walk_packages(leakyrelu.__path__, "leakyrelu.") if not name.endswith("__main__")
)


def functions_and_classes(module):
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if inspect.isroutine(value) or inspect.isclass(value):
            yield name, value


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert failed == 0


@pytest.mark.parametrize("package", ["leakyrelu", "leakyrelu.slope", "leakyrelu.torch"])
def test_every_public_name_has_an_example(package):
    module = importlib.import_module(package)
    names = dict(functions_and_classes(module))
    assert names
    assert [name for name, value in names.items() if ">>>" not in (inspect.getdoc(value) or "")] == []
