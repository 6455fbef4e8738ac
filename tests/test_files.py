"""Files are written whole or not at all: links, permissions, devices, a full disk, and the library's writers."""

from __future__ import annotations

import errno
import fnmatch
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from leakyrelu._files import check_writable, write_file
from leakyrelu.diagnosis import Counts, Layer, Report

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def names() -> list[str]:
    return sorted(os.listdir())


def read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


@contextmanager
def full_disk(room: int = 1000) -> Iterator[None]:
    """Writing past this many bytes of a file fails, as on a full disk, with another error number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def report() -> Report:
    counts = Counts(100, 1, [0, 50], [0, 0], [0, 0], [100, 100], [0.0, 0.5], [0.0, 9.0], [0.0, 50.0])
    return Report([Layer("act", "ReLU", 0.0, counts)])


def test_new_files_have_the_usual_permissions():
    before = os.umask(0o027)
    try:
        write_file("new.txt", "one\n")
    finally:
        os.umask(before)
    assert (read("new.txt"), names()) == ("one\n", ["new.txt"])
    assert stat.S_IMODE(os.stat("new.txt").st_mode) == 0o640
    write_file("new.txt", b"two")
    assert (read("new.txt"), names()) == ("two", ["new.txt"])


def test_the_old_permissions_stay():
    write_file("old.txt", "old")
    os.chmod("old.txt", 0o604)
    write_file("old.txt", "new")
    assert (read("old.txt"), stat.S_IMODE(os.stat("old.txt").st_mode)) == ("new", 0o604)


def test_a_link_stays_a_link():
    os.makedirs("deep/folder")
    os.symlink("deep/folder/there.txt", "dangling")
    for text in ("first", "second"):
        write_file("dangling", text)
        assert os.path.islink("dangling")
        assert read("deep/folder/there.txt") == text
    assert os.listdir("deep/folder") == ["there.txt"]


def test_a_lone_surrogate_is_written_as_its_escape():
    write_file("name.txt", "a\udcffb")
    assert read("name.txt") == r"a\udcffb"


@pytest.mark.parametrize("wrong", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_other(monkeypatch, wrong):
    write_file("kept.txt", "mine")

    def fail(*_: object) -> None:
        raise wrong

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(wrong)) as caught:
        write_file("kept.txt", "other")
    assert (read("kept.txt"), names()) == ("mine", ["kept.txt"])
    if isinstance(wrong, OSError):
        assert caught.value.filename == "kept.txt"
    with pytest.raises(type(wrong)):
        write_file("new.txt", "other")
    assert names() == ["kept.txt"]


def test_a_full_disk_leaves_the_old_file_and_no_other():
    write_file("kept.txt", "mine")
    with full_disk(), pytest.raises(OSError, match="File too large"):
        write_file("kept.txt", "x" * 5000)
    assert (read("kept.txt"), names()) == ("mine", ["kept.txt"])


def test_a_killed_process_leaves_the_old_file_and_a_temporary_one_that_names_its_program():
    write_file("kept.txt", "mine")
    code = (
        "import os, signal; from leakyrelu._files import write_file; "
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL); write_file('kept.txt', 'other')"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    left, kept = names()
    assert fnmatch.fnmatch(left, ".leakyrelu-*.tmp")
    assert (kept, read(kept), read(left)) == ("kept.txt", "mine", "other")


def test_devices_and_pipes_are_written_directly():
    write_file(os.devnull, "nothing")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_file("/dev/full", "x")
    assert caught.value.filename == "/dev/full"
    os.mkfifo("pipe")
    check_writable("pipe")  # without waiting for a reader
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(read("pipe")))
    reader.start()
    write_file("pipe", "through")
    reader.join()
    assert (found, names()) == (["through"], ["pipe"])


@pytest.mark.parametrize("where", ["pipe", "file"])
def test_standard_output_is_written_between_what_is_printed(where):
    code = (
        "from leakyrelu._files import write_file; print('before'); write_file('/dev/stdout', 'middle\\n'); "
        "print('after')"
    )
    if where == "pipe":
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    else:
        with open("out.txt", "w") as file:
            subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
        out = read("out.txt")
    assert out == "before\nmiddle\nafter\n"


def test_what_cannot_be_written_is_found_before(monkeypatch):
    os.mkdir("folder")
    for check in (check_writable, lambda path: write_file(path, "x")):
        with pytest.raises(IsADirectoryError, match="'folder'"):
            check("folder")
        with pytest.raises(FileNotFoundError):
            check("nowhere/file.txt")
        with pytest.raises(OSError, match="File name too long"):
            check("x" * 300)
    write_file("kept.txt", "mine")
    check_writable("kept.txt")
    check_writable("new.txt")
    assert names() == ["folder", "kept.txt"]
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # permissions hold nothing back from root
    with pytest.raises(PermissionError):
        write_file("kept.txt", "other")
    assert read("kept.txt") == "mine"


@pytest.mark.parametrize("fault", [errno.EACCES, errno.EROFS])
def test_a_file_in_a_folder_where_none_can_be_made_is_written_in_place(monkeypatch, fault):
    write_file("kept.txt", "mine")

    def refuse(*_: object) -> None:
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        check_writable("kept.txt")
        write_file("kept.txt", "in place")
        with pytest.raises(OSError, match=os.strerror(fault)):
            write_file("new.txt", "x")
    assert (read("kept.txt"), names()) == ("in place", ["kept.txt"])


def test_a_mounted_file_that_cannot_be_replaced_is_written_in_place(monkeypatch):
    write_file("kept.txt", "mine")

    def refuse(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "replace", refuse)
    write_file("kept.txt", "in place")
    assert (read("kept.txt"), names()) == ("in place", ["kept.txt"])


@pytest.mark.parametrize("kind", ["to_json", "to_html", "to_png"])
def test_a_report_that_cannot_be_written_leaves_the_old_file(kind):
    write = getattr(report(), kind)
    name = f"old.{kind[3:]}"
    write_file(name, "mine")
    with full_disk(100), pytest.raises(OSError, match="File too large"):
        write(name)
    assert (read(name), names()) == ("mine", [name])
    write(name)
    with open(name, "rb") as file:
        assert len(file.read()) > 1000
    assert names() == [name]


@pytest.mark.parametrize("kind", ["to_html", "to_png"])
def test_a_renderer_that_fails_leaves_the_old_file(monkeypatch, kind):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("renderer")

    import vl_convert

    monkeypatch.setattr(vl_convert, "vegalite_to_png", fail)
    monkeypatch.setattr(vl_convert, "javascript_bundle", fail)
    name = f"old.{kind[3:]}"
    write_file(name, "mine")
    with pytest.raises(RuntimeError, match="renderer"):
        getattr(report(), kind)(name)
    assert (read(name), names()) == ("mine", [name])


def test_a_json_report_that_cannot_be_made_leaves_the_old_file(monkeypatch):
    write_file("old.json", "mine")
    monkeypatch.setattr("leakyrelu.diagnosis.render.serialize.to_plain", lambda value: np.ones(3))
    with pytest.raises(TypeError):
        report().to_json("old.json")
    assert (read("old.json"), names()) == ("mine", ["old.json"])
