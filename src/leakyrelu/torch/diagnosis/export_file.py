"""Reader of files of `torch.export.save`. What PyTorch would execute of such a file is refused before it is loaded.

PyTorch unpickles example inputs, weights and constants, evaluates the expressions of sizes and guards as Python, and
writes names into code that it executes. So pickles are read as weights alone, and each text of the file is held to what
an exporter writes.
"""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import os
import re
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import torch

from leakyrelu._text import shown, type_and_first_line
from leakyrelu.torch.diagnosis.archive import Archive

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["load"]


_LOADING = threading.Lock()
_CONTAINERS = ("in_spec", "out_spec", "spec")  # JSON as text: the containers of inputs and outputs
_LONGEST_EXPRESSION = 10_000
_NAME = re.compile(r"[\w.\-+@/ ]*")  # of a node, an input, a weight, a type
_TARGET = re.compile(
    r"torch\.ops\.(?!load_library|import_module|loaded_libraries)[a-z]\w*(\.\w+){1,2}"
    r"|torch\.sym_\w+|torch\._sym_sqrt|_operator\.[a-z_]+|math\.[a-z]\w*"
)
_FORBIDDEN_OPERATORS = re.compile(
    r"torch\.ops\.(aten\.(save|from_file|_print)|rpc|c10d|_c10d_functional|debugprims|symm_mem)\b"
    r"|torch\.ops\.\w+\.\w*__|_operator\.(attrgetter|methodcaller|call|itemgetter|setitem|delitem|i\w+)$"
)
_FILE_PARTS = re.compile(r"(weight|tensor)_\d+")  # records that are plain numbers
# Names in expressions of sizes, as SymPy and PyTorch have them, and in guards.
_CALLED = frozenset(
    {"Symbol", "Integer", "Float", "Rational", "Mul", "Add", "Pow", "Mod", "Max", "Min", "Abs", "floor", "ceiling"}
    | {"Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan", "LessThan"}
    | {"StrictGreaterThan", "GreaterThan", "And", "Or", "Not", "Piecewise", "ExprCondPair", "FloorDiv", "Where"}
    | {"ModularIndexing", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv", "IntTrueDiv", "FloatTrueDiv"}
    | {"RShift", "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt", "RoundToInt", "RoundDecimal"}
    | {"ToFloat", "FloatPow", "PowByNatural", "Identity"}
    | {"int", "float", "bool", "abs", "max", "min", "len", "isnan"}
)
_ATTRIBUTES = frozenset({"size", "stride", "storage_offset", "shape", "ndim", "dim", "isnan", "inf", "floor", "ceil"})
_SYNTAX = (
    *(ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp),
    *(
        ast.Compare,
        ast.Tuple,
        ast.Subscript,
        ast.Attribute,
        ast.operator,
        ast.unaryop,
        ast.boolop,
        ast.cmpop,
        ast.IfExp,
    ),
)


def load(path: str | os.PathLike[str]) -> torch.export.ExportedProgram:
    """Load an exported program.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file; it is no file of `torch.export.save`, is damaged, or holds what PyTorch would execute.
    """
    archive = Archive(path, "torch.export.save")
    for name in archive.names:
        lower = name.lower()  # PyTorch's reader finds records whatever the case of their names is
        if lower.startswith("data/aotinductor/"):
            raise archive.error("it holds compiled code, which is not loaded: save the exported program itself")
        folder, _, last = lower.rpartition("/")
        known = last.endswith((".json", ".pt")) or _FILE_PARTS.fullmatch(last)
        if folder in ("data/weights", "data/constants") and not known:
            raise archive.error(f"its record {shown(name)} is an object of Python, which is not loaded")
        if lower.endswith(".json"):
            _check_json(archive, name, archive.read(name))
    with zipfile.ZipFile(archive.path) as older:  # files of PyTorch 2.7 are read as a plain archive
        for name in older.namelist():
            if name.endswith(".json"):
                try:
                    content = older.read(name)
                except Exception as error:
                    raise archive.error(type_and_first_line(error)) from None
                _check_json(archive, name, content)
    try:
        with _without_pickles():
            return torch.export.load(archive.path)
    except Exception as error:
        raise archive.error(type_and_first_line(error)) from None


@contextlib.contextmanager
def _without_pickles() -> Iterator[None]:
    """Have `torch.load` read weights alone whatever its caller says, and log nothing: the error says what is wrong.

    PyTorch has a variable of the environment for this, and no argument. So it holds for the whole process meanwhile,
    and threads load one after another: the first one to end would take it from the others.
    """
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    with _LOADING:
        before = {name: os.environ.pop(name, None) for name in names}
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        os.environ[names[0]] = "1"
        try:
            yield
        finally:
            del os.environ[names[0]]
            os.environ.update({name: value for name, value in before.items() if value is not None})
            logging.disable(level)


def _check_json(archive: Archive, name: str, content: bytes) -> None:
    try:
        ahead: list[tuple[str, Any]] = [("", json.loads(content.decode()))]
        while ahead:
            key, value = ahead.pop()
            if isinstance(value, dict):
                for inner in value:
                    _check_text("", inner)
                within = {inner: "spec" if key == "spec" else inner for inner in value if inner != "metadata"}
                ahead.extend((within[inner], value[inner]) for inner in within)
            elif isinstance(value, list):
                ahead.extend((key, item) for item in value)
            elif isinstance(value, str):
                ahead.extend(("spec", inner) for inner in _check_text(key, value))
            elif key == "use_pickle" and value:
                raise ValueError("weights or constants that are pickled, which are not loaded")
    except (ValueError, RecursionError) as error:
        raise archive.error(f"{shown(name)} holds {error}") from None


def _check_text(key: str, text: str) -> list[Any]:
    """Refuse a text that is not what an exporter writes under this key; return what a text of JSON holds."""
    if key in ("as_string", "as_strings"):  # arguments of operators, such as the equation of an einsum
        return []
    if key in ("expr_str", "guards_code"):
        _check_expression(text)
    elif key == "target":
        if not _TARGET.fullmatch(text) or _FORBIDDEN_OPERATORS.match(text):
            raise ValueError(f"a call of {shown(text)}, which is no operator of a network")
    elif key == "path_name":
        if not _FILE_PARTS.fullmatch(text):
            raise ValueError(f"the record {shown(text)}, an object of Python, which is not loaded")
    elif key in _CONTAINERS:
        if "defaultdict" in text and _NAME.fullmatch(text):
            raise ValueError(f"a container {shown(text)}, which imports modules")
        if not _NAME.fullmatch(text):
            return [json.loads(text)]
    elif not _NAME.fullmatch(text):
        raise ValueError(f"{shown(text)} where a name is wanted")
    return []


def _check_expression(text: str) -> None:
    """Refuse an expression that is no arithmetic of sizes: PyTorch evaluates it as Python."""
    if len(text) > _LONGEST_EXPRESSION:
        raise ValueError(f"an expression of {len(text):,} characters")
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"{shown(text)} where an expression of sizes is wanted") from None
    powers = 0
    for node in nodes:
        fine = isinstance(node, _SYNTAX)
        if isinstance(node, ast.Call):
            function = node.func
            fine = isinstance(function, ast.Attribute) or (isinstance(function, ast.Name) and function.id in _CALLED)
            powers += isinstance(function, ast.Name) and function.id in ("Pow", "PowByNatural", "FloatPow")
        elif isinstance(node, ast.Attribute):
            fine = node.attr in _ATTRIBUTES
        elif isinstance(node, ast.Name):
            fine = "__" not in node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            fine = re.fullmatch(r"[\w.\-+]{0,100}", node.value) is not None
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            fine = abs(node.value) < 2**64
        elif isinstance(node, ast.keyword):
            fine = isinstance(node.value, ast.Constant) and (node.arg != "precision" or node.value.value in range(1000))
        elif isinstance(node, ast.Pow | ast.LShift):
            powers += 1
        if not fine or powers > 4:
            raise ValueError(f"{shown(text)} where an expression of sizes is wanted")
