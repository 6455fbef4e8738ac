"""The wheel, the sdist, the version, the checks before a build, and the message of CMake when called by hand."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile

import pytest
from support import ROOT

import leakyrelu

pytestmark = pytest.mark.long


def run(*command, **keywords):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **keywords)


def tracked_files():
    return run("git", "ls-files", cwd=ROOT).stdout.split()


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The sdist, and the wheel built from it, as ``make dist`` makes them."""
    out = tmp_path_factory.mktemp("dist")
    status = run("git", "status", "--porcelain", cwd=ROOT).stdout
    done = run(sys.executable, "-m", "build", "--outdir", out, ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert run("git", "status", "--porcelain", cwd=ROOT).stdout == status, "the build left something in the tree"
    return out


def test_wheel_works_in_an_empty_environment(distributions, tmp_path):
    (wheel,) = distributions.glob("*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    done = run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    assert done.returncode == 0, done.stderr
    code = "from leakyrelu import *; import leakyrelu as m; print(m.__version__, leaky_relu([-2.0, 3.0], 0.5).tolist())"
    done = run(python, "-I", "-c", code, cwd=tmp_path)
    assert done.stdout.split(maxsplit=1) == [leakyrelu.__version__, "[-1.0, 3.0]\n"], done.stderr
    done = run(python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check")
    assert {line.split("==")[0].lower() for line in done.stdout.split()} <= {"leakyrelu", "numpy", "pip", "setuptools"}
    done = run(tmp_path / "empty" / "bin" / "leakyrelu", "slope", "--depth", "50", cwd=tmp_path)
    assert done.returncode == 2
    assert 'pip install "leakyrelu[cli]"' in done.stderr


def test_wheel_holds_what_users_need(distributions):
    (wheel,) = distributions.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "leakyrelu/py.typed" in names
    assert "leakyrelu/_core.pyi" in names
    assert any(re.fullmatch(r"leakyrelu/_core\..*\.so", name) for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    sources = {name.removeprefix("src/") for name in tracked_files() if name.startswith("src/")}
    assert sources <= set(names)


def test_sdist_holds_all_sources_and_tests(distributions):
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    expected = [name for name in tracked_files() if not name.startswith((".ci/", ".github/", "docs/", "benchmarks/"))]
    assert set(expected) <= names


def test_cmake_by_hand_explains_what_to_do_instead(tmp_path):
    done = run(pathlib.Path(sys.executable).with_name("cmake"), "-S", ROOT, "-B", tmp_path)
    assert done.returncode != 0
    assert "built through its Python build backend" in done.stderr
    assert "python -m pip install ." in done.stderr
    assert "make test" in done.stderr


def test_one_version():
    assert importlib.metadata.version("leakyrelu") == leakyrelu.__version__
    assert f"## {leakyrelu.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    mentions = [
        name
        for name in tracked_files()
        if name.endswith((".py", ".toml", ".txt", ".cpp", ".h"))
        and f'"{leakyrelu.__version__}"' in (ROOT / name).read_text()
    ]
    assert mentions == ["src/leakyrelu/_version.py"]


def test_extras():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) == {"torch", "onnx", "cli", "report", "study", "all", "test", "bench", "dev"}


@pytest.mark.parametrize(
    ("environment", "cause", "remedy"),
    [
        ({"PYTHON": "/nonexistent/python"}, "Python 3.11 or newer was not found", "apt-get install python3"),
        ({"CXX": "/nonexistent/c++"}, "no working C++17 compiler", "apt-get install g++"),
        ({"CXX": "false"}, "no working C++17 compiler", "make test CXX=clang++"),
    ],
)
def test_setup_says_what_to_install(environment, cause, remedy):
    done = run(ROOT / "tools" / "setup", "study", env={**os.environ, **environment})
    assert done.returncode == 1
    assert cause in done.stderr
    assert remedy in done.stderr


def test_setup_refuses_a_python_that_is_too_old_or_has_no_venv(tmp_path):
    for name, body, cause, remedy in (
        ("old", "exit 1", "Python 3.11 or newer was not found", "python3-venv"),
        ("bare", 'case "$2" in *venv*) exit 1;; esac', "has no working venv module", "apt-get install python3-venv"),
        ("headless", 'case "$2" in *Python.h*) exit 1;; esac', "without its C headers", "apt-get install python3-dev"),
    ):
        fake = tmp_path / name
        fake.write_text(f"#!/bin/sh\n{body}\n")
        fake.chmod(0o755)
        done = run(ROOT / "tools" / "setup", "study", env={**os.environ, "PYTHON": str(fake)})
        assert done.returncode == 1
        assert cause in done.stderr
        assert remedy in done.stderr


def test_nothing_refers_to_what_is_outside_the_repository():
    hidden = "shared" + "/"
    assert [name for name in tracked_files() if f"../{hidden}" in (ROOT / name).read_text(errors="replace")] == []
