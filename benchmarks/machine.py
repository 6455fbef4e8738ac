"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import sys
from typing import Any

import leakyrelu

PACKAGES = ("numpy", "torch", "jax", "numba", "numexpr", "onnxruntime", "ml_dtypes")


def _lscpu() -> dict[str, str]:
    try:
        text = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    code = ("src", "core", "benchmarks", ":!benchmarks/results")
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *code], capture_output=True, check=False)
    return (done.stdout.strip() or "unknown") + (" with changes" if changed.returncode == 1 else "")


def describe() -> dict[str, Any]:
    """Processor, memory, system and versions, as stored beside every result."""
    cpu = _lscpu()
    huge_pages = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    config = leakyrelu._core.config()
    return {
        "processor": cpu.get("Model name", platform.processor()),
        "family_model": f"{cpu.get('CPU family', '?')}/{cpu.get('Model', '?')}",
        "cpus": os.cpu_count(),
        "caches": {name: cpu.get(f"{name} cache", "?") for name in ("L1d", "L2", "L3")},
        "virtual_machine": cpu.get("Hypervisor vendor", "none"),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "transparent_huge_pages": huge_pages.read_text().strip() if huge_pages.exists() else "?",
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in PACKAGES},
        "leakyrelu": leakyrelu.__version__,
        "commit": _commit(),
        "instruction_set": config["isa"],
        "threads": config["num_threads"],
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }


def machine_table(machine: dict[str, Any]) -> list[str]:
    """Lay the description out as a Markdown list."""
    lines = ["### Machine", ""]
    for key, value in machine.items():
        lines += [f"- {key}:", *(f"  - `{each}`" for each in value)] if key == "commands" else [f"- {key}: {value}"]
    return lines


def name() -> str:
    """Return the machine as a file name."""
    cpu = _lscpu()
    model = f"{cpu.get('Model name', platform.machine())} {cpu.get('CPU family', '')}-{cpu.get('Model', '')}"
    text = f"{model} x{os.cpu_count()}"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
