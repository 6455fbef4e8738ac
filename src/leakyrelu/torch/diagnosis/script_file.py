"""Reader of files of `torch.jit.save`: what could crash PyTorch or reach other files is refused before it is loaded."""

from __future__ import annotations

import ast
import re
import warnings
from typing import TYPE_CHECKING, Any

import torch

from leakyrelu._text import shown, type_and_first_line
from leakyrelu.torch.diagnosis.archive import Archive

if TYPE_CHECKING:
    import os

__all__ = ["load"]


# The parser and the compiler of TorchScript call themselves: at 10,000 of either they overflow the stack of the process
# (PyTorch 2.13, a stack of 8 MiB).
_DEEPEST = 2000
_LONGEST = 30_000
_TOKEN = re.compile(
    r"""(?P<skip>\#[^\n]*|\\\r?\n|[^\S\n]+) | (?P<string>'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"
    |'(?:\\.|[^\\'\n])*'|"(?:\\.|[^\\"\n])*") | (?P<number>\.?\d[\w.]*) | (?P<name>[^\W\d]\w*) | (?P<rest>\n|.)""",
    re.VERBOSE | re.DOTALL,
)
_NESTING = frozenset({"and", "or", "not", "if", "else", "in", "is", "lambda"})
# Operators that write files, read others, or call other processes.
_FORBIDDEN = frozenset({"save", "from_file", "rpc_async", "rpc_sync", "rpc_remote"})


def load(path: str | os.PathLike[str]) -> Any:
    """Load a program of TorchScript, on the CPU.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file; it is no file of `torch.jit.save`, is damaged, or its code writes or reads other files.
    """
    archive = Archive(path, "torch.jit.save")
    if not any(name.startswith("code/") for name in archive.names):
        raise archive.error("it holds no code")
    for name in archive.names:
        if name in ("data.pkl", "constants.pkl"):
            archive.check_storages(name, name.removesuffix(".pkl"))
        elif name.lower().endswith(".py"):
            try:
                _check_code(archive.read(name).decode())
            except ValueError as error:
                raise archive.error(f"{shown(name)}: {error}") from None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.jit")  # deprecated; a file that is there must be read
            return torch.jit.load(archive.path, map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:
        raise archive.error(type_and_first_line(error)) from None


def _check_code(code: str) -> None:
    """Refuse code that reaches other files, or that is nested so deeply that the compiler would crash."""
    levels = [0]  # operators since the last comma, in each bracket that is open
    before, depth, lines = "", 0, 0
    for match in _TOKEN.finditer(code):
        token, kind = match[0], match.lastgroup
        if kind == "skip":
            continue
        if (token in _FORBIDDEN and before == ".") or (kind == "string" and before == "," and _names_forbidden(token)):
            raise ValueError(f"its code calls {shown(token)}, which reaches beyond the program")
        if token in ("(", "[", "{"):
            levels.append(1)
            depth += 1
        elif token in (")", "]", "}") and len(levels) > 1:
            depth -= levels.pop()
        elif token == "," or (token == "\n" and len(levels) == 1):
            depth -= levels[-1] - (len(levels) > 1)
            levels[-1] = int(len(levels) > 1)
        elif (kind == "rest" and token not in (":", "\n")) or token in _NESTING:
            levels[-1] += 1
            depth += 1
        if token == "def":
            lines = 0
        lines += token == "\n"
        if depth > _DEEPEST or lines > _LONGEST:
            raise ValueError("its code is nested too deeply, or one of its functions too long, to be compiled")
        before = before if token == "\n" else token


def _names_forbidden(text: str) -> bool:
    """Whether a string, which may be an argument of getattr, names a forbidden operator."""
    try:
        return ast.literal_eval(text) in _FORBIDDEN
    except (SyntaxError, ValueError):
        return True
