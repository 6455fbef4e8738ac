"""The rules of the layout: sizes of files, names of modules, and what the `__init__` of a package holds."""

from __future__ import annotations

import ast
import subprocess

import pytest
from support import ROOT


def tracked(*folders):
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).exists()]


def lines(path):
    return path.read_bytes().count(b"\n")


def defined(tree):
    """The names of the functions, classes and variables at the top of a module, imported ones left out."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def imported(tree, package):
    """The names of objects that the imports at the top of a package bind; `from package import` gives its modules."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module not in (None, package):
            yield from (alias.asname or alias.name for alias in node.names)


def is_docstring_import_or_all(node):
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return list(defined(ast.Module([node], []))) == ["__all__"]
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def named_like_its_content(path):
    """The public object that has the name of its module, where there is one."""
    names = set(defined(ast.parse(path.read_text())))
    parent = path.parent / "__init__.py"
    if parent.exists() and path != parent:
        package = ".".join(parent.parent.relative_to(ROOT / "src").parts) if parent.is_relative_to(ROOT) else ""
        names |= set(imported(ast.parse(parent.read_text()), package))
    stem = path.parent.name if path.name == "__init__.py" else path.stem
    return {stem} & names - {"__init__"}


MODULES = [path for path in tracked("src") if path.suffix == ".py"]


def shown(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


def test_files_of_the_product_have_at_most_400_lines():
    assert shown(path for path in tracked("src", "core") if lines(path) > 400) == []


def test_files_of_tests_have_less_than_600_lines():
    assert shown(path for path in tracked("tests") if lines(path) >= 600) == []


def test_no_module_is_named_like_an_object_that_it_holds():
    assert shown(path for path in MODULES if named_like_its_content(path)) == []


def test_packages_hold_imports_and_their_public_names_alone():
    packages = [path for path in MODULES if path.name == "__init__.py"]
    assert packages
    found = {
        str(path.relative_to(ROOT)): [
            node.lineno for node in ast.parse(path.read_text()).body if not is_docstring_import_or_all(node)
        ]
        for path in packages
    }
    assert {name: numbers for name, numbers in found.items() if numbers} == {}
    assert shown(path for path in packages if "__all__" not in set(defined(ast.parse(path.read_text())))) == []


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("", "def watch(): ..."),
        ("", "class watch: ..."),
        ("", "watch: int = 3"),
        ("from .other import watch", ""),
        ("from a.b import other as watch", ""),
    ],
)
def test_that_a_module_named_like_its_content_is_seen(tmp_path, package, module):
    (tmp_path / "__init__.py").write_text(package)
    (tmp_path / "watch.py").write_text(module)
    assert named_like_its_content(tmp_path / "watch.py") == {"watch"}


@pytest.mark.parametrize(
    "statement", ["x = 3", "def f(): ...", "if True:\n    import os", "__all__ += ['x']", "del os"]
)
def test_that_other_statements_of_a_package_are_seen(statement):
    (node,) = ast.parse(statement).body
    assert not is_docstring_import_or_all(node)
