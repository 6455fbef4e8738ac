"""The machine, versions and command of a study, so that it can be run again."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from leakyrelu import __version__, _core

_PACKAGES = ("numpy", "torch", "scikit-learn", "mnist1d")


def describe_machine() -> dict[str, Any]:
    """Return processor, CPUs this process may use, system, versions, command and time."""
    return {
        "processor": _processor(),
        "cpus": _core.config()["usable_cpus"],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {"leakyrelu": __version__, **{name: _version(name) for name in _PACKAGES}},
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
