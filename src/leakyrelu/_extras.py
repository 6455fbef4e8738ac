"""Packages that this one can do without: imported where they are needed, named with their extra where they are not."""

from __future__ import annotations

import importlib
from typing import Any

_EXTRAS = {
    "torch": ("torch",),
    "onnx": ("onnx", "onnxruntime"),
    "cli": ("typer", "rich", "PIL", "safetensors"),
    "report": ("altair", "vl_convert", "jinja2"),
    "study": ("sklearn", "mnist1d", "joblib"),
}


def require(*modules: str, by: str, hint: str = "") -> Any:
    """Import the first of these modules that can be imported.

    Raises
    ------
    ImportError
        None can be: one line says what needs the package (`by`), the command that installs it, and `hint`.
    """
    errors = []
    for module in modules:
        try:
            return importlib.import_module(module)
        except ImportError as error:
            errors.append(error)
    raise missing(errors[0], by, modules[0], hint) from errors[0]


def missing(error: ImportError, by: str, module: str = "", hint: str = "") -> ImportError:
    """Return an ImportError that says how to install the package of a module, which this error kept from importing."""
    absent = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    package = module.partition(".")[0] or absent
    extra = extra_of(package)
    if extra and extra_of(absent) == extra:  # packages of an extra import each other
        package = absent
    how = "is not installed" if package == absent else f"cannot be imported ({error})"
    wanted = f'"leakyrelu[{extra}]"' if extra else package
    return ImportError(f"{by} needs the package {package!r}, which {how}: pip install {wanted}{hint}", name=package)


def extra_of(package: str) -> str | None:
    """Return the extra that installs a package, None where none does."""
    return next((extra for extra, packages in _EXTRAS.items() if package in packages), None)
