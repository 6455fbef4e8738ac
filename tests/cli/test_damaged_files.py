"""Whatever a file of data or weights holds: one line and status 2. Damaged files, at random and on purpose."""

from __future__ import annotations

import io
import os
import random
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support.command import refused
from torch import nn

from leakyrelu.cli import main

ROUNDS = 60  # of each kind


@pytest.fixture
def network(models):
    """A network that takes arrays of four numbers and images of three channels."""
    (models / "both.py").write_text(
        "from torch import nn\n"
        "def linear():\n    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))\n"
        "def conv():\n    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())\n"
    )
    yield
    sys.modules.pop("both", None)


def array(path: str, saver: object) -> list[str]:
    saver(path, np.random.default_rng(0).normal(size=(30, 4)))  # type: ignore[operator]
    return ["both:linear", "--data", path]


def image(path: str, mode: str) -> list[str]:
    os.mkdir("folder")
    Image.fromarray(np.arange(120, dtype=np.uint16 if mode == "I;16" else np.uint8).reshape(10, 12)).save(path)
    return ["both:conv", "--data", "folder"]


def weights(path: str, saver: object) -> list[str]:
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    saver(network.state_dict(), path)  # type: ignore[operator]
    return ["both:linear", "--data", "x.npz", "--checkpoint", path]


KINDS = {
    "a.npy": lambda path: array(path, np.save),
    "a.npz": lambda path: array(path, np.savez),
    "b.npz": lambda path: array(path, np.savez_compressed),
    "folder/a.png": lambda path: image(path, "L"),
    "folder/b.png": lambda path: image(path, "I;16"),
    "folder/c.tif": lambda path: image(path, "I;16"),
    "folder/d.gif": lambda path: image(path, "L"),
    "w.safetensors": lambda path: weights(path, save_file),
    "w.pt": lambda path: weights(path, torch.save),
}


def damaged(whole: bytes, generator: random.Random) -> bytes:
    """A copy with one thing wrong: bytes changed (also next to the beginning), a part lost, doubled or blank."""
    content = bytearray(whole)
    start = generator.randrange(min(len(content), generator.choice((40, 400, 4000))))
    end = min(start + generator.choice((1, 1, 4, 20, 200)), len(content))
    match generator.randrange(6):
        case 0:
            content[start] ^= 1 << generator.randrange(8)
        case 1:
            content[start:end] = generator.randbytes(end - start)
        case 2:
            del content[start:]
        case 3:
            del content[start:end]
        case 4:
            content[start:start] = content[start:end] * generator.choice((1, 50))
        case 5:
            content[start:end] = bytes([generator.choice((0, 0xFF))]) * (end - start)
    return bytes(content)


@pytest.mark.parametrize("path", KINDS)
def test_a_damaged_file_is_read_or_refused_in_one_line(capsys, network, path):
    arguments = ["diagnose", *KINDS[path](path)]
    assert main(arguments) == 0
    whole = Path(path).read_bytes()
    generator = random.Random(path)
    statuses = []
    for _ in range(ROUNDS):
        content = damaged(whole, generator)
        Path(path).write_bytes(content)
        capsys.readouterr()
        statuses.append(main(arguments))
        out, err = capsys.readouterr()
        assert statuses[-1] in (0, 2), (content, err)
        if statuses[-1] == 2:
            assert out == ""
            assert err.startswith("leakyrelu: "), err
            assert err.count("\n") == 1, err
            assert "unexpected error" not in err, err
            assert len(err) < 600, err
    assert 2 in statuses


def header(shape: str, dtype: str = "'<f8'", version: int = 1, length: int | None = None) -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", size) + text


def archive(path: str, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)


def saved(x: object) -> bytes:
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def encrypted(path: str) -> None:
    archive(path, {"X.npy": saved(np.ones((6, 4)))})
    content = bytearray(Path(path).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    Path(path).write_bytes(content)


def unknown_compression(path: str) -> None:
    archive(path, {"X.npy": saved(np.ones((6, 4)))})
    content = bytearray(Path(path).read_bytes())
    content[8] = content[content.index(b"PK\x01\x02") + 10] = 77
    Path(path).write_bytes(content)


def wrong_checksum(path: str) -> None:
    archive(path, {"X.npy": saved(np.ones((6, 4)))}, zipfile.ZIP_STORED)
    content = bytearray(Path(path).read_bytes())
    content[content.index(b"PK\x01\x02") - 3] ^= 1
    Path(path).write_bytes(content)


def huge_header(path: str) -> None:
    archive(path, {"X.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b" " * 100})


FAULTS = [
    ("a.npy", lambda path: Path(path).write_bytes(header("(10**9,)")), "a.npy is damaged, or not a file written by np"),
    (
        "a.npy",
        lambda path: Path(path).write_bytes(header("(1000000000000, 4)")),
        "a.npy is cut short: an array of shape",
    ),
    ("a.npy", lambda path: Path(path).write_bytes(header("(-1, 4)")), "a.npy has a header with the shape (-1, 4): the"),
    (
        "a.npy",
        lambda path: Path(path).write_bytes(header("(3, 4)", version=2, length=2**31)),
        "a.npy has a header of 214",
    ),
    ("a.npy", lambda path: Path(path).write_bytes(header("(" * 5000)), "a.npy is damaged, or not a file written by"),
    ("a.npy", lambda path: Path(path).write_bytes(header("(3,)", version=3)), "a.npy holds records, not plain arrays"),
    ("a.npy", lambda path: Path(path).write_bytes(b""), "a.npy is not a file written by np.save or np.savez"),
    ("a.npy", lambda path: np.save(path, np.ones((0, 4))), "a.npy: X has shape (0, 4); it must hold at least one"),
    ("a.npy", lambda path: np.save(path, np.ones((6, 0))), "a.npy: X has shape (6, 0); it must hold at least one"),
    ("a.npy", lambda path: np.save(path, np.float64(1)), "a.npy: X has shape (); it must hold at least one sample"),
    ("a.npy", lambda path: np.save(path, np.ones(6, "f8,f8")), "a.npy: X has dtype [('f0', '<f8'), ('f1', '<f8')]; it"),
    ("a.npy", lambda path: np.save(path, np.ones((6, 4), np.longdouble)), "a.npy: X has dtype float128, which PyTorch"),
    ("a.npy", lambda path: os.mkfifo(path), "a.npy is a pipe, not a file written by np.save or np.savez"),
    ("a.npz", encrypted, "a.npz is encrypted: save it without a password, with np.savez"),
    ("a.npz", unknown_compression, "a.npz is damaged, or not a file written by np.save or np.savez (NotImplemented"),
    ("a.npz", wrong_checksum, "a.npz is damaged, or not a file written by np.save or np.savez (BadZipFile: Bad CRC-32"),
    (
        "a.npz",
        huge_header,
        "a.npz has a header of 2147483660 bytes, more than any array of numbers: the file is damaged",
    ),
    ("a.npz", lambda path: archive(path, {"notes.txt": b"text"}), "a.npz holds no array"),
    ("a.npz", lambda path: archive(path, {"X.npy": b"text"}), "a.npz is damaged, or not a file written by np.save"),
    ("a.npz", lambda path: archive(path, {"X.npy": header("(9, 4)")}), "a.npz is cut short: an array of shape (9, 4)"),
    ("a.npz", lambda path: archive(path, {}), "a.npz holds no array"),
    ("a.npz", lambda path: np.savez(path, X=np.array(["a", "b"])), "a.npz: X has dtype <U1; it must hold real numbers"),
    ("a.npz", lambda path: np.savez(path, X=np.array([b"a"])), "a.npz: X has dtype |S1; it must hold real numbers"),
    ("a.npz", lambda path: np.savez(path, X=np.array([{}])), "a.npz holds no plain arrays: it would have to be unpick"),
    ("w.pt", lambda path: os.mkfifo(path), "--checkpoint w.pt is not a file"),
    ("w.pt", lambda path: os.mkdir(path), "--checkpoint w.pt is not a file"),
]


@pytest.mark.parametrize(("path", "make", "message"), FAULTS)
def test_a_file_with_a_known_fault(capsys, network, path, make, message):
    make(path)
    options = ["--data", "x.npz", "--checkpoint", path] if path == "w.pt" else ["--data", path]
    assert refused(capsys, "diagnose", "both:linear", *options).startswith(message)
    if path.endswith(".npz"):
        found = refused(capsys, "study", "--data", path)
        assert found.startswith(message.partition(": X has")[0].partition(" holds no array")[0])


def test_an_archive_that_unpacks_to_gigabytes(capsys, network):
    start = header("(130000000, 4)")
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = compressor.compress(start) + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(bytes(10**6)) + compressor.flush(zlib.Z_FULL_FLUSH)  # stands on its own
    content += block * 4160 + compressor.flush()
    numbers = (20, 0, 8, 0, 0, 0, len(content), len(start) + 4_160_000_000, 5, 0)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", *numbers) + b"X.npy" + content
    central = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, *numbers, 0, 0, 0, 0, 0) + b"X.npy"
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local), 0)
    Path("bomb.npz").write_bytes(local + central + end)
    size = Path("bomb.npz").stat().st_size
    assert size < 2**26
    message = refused(capsys, "diagnose", "both:linear", "--data", "bomb.npz")
    assert message == (
        f"bomb.npz holds 3.9 GiB of arrays in a file of {size / 2**20:.1f} MiB, and may take 2.0 GiB of memory: raise "
        "the limit (--max-memory 4GiB), or save the array with np.save"
    )
    assert refused(capsys, "study", "--data", "bomb.npz") == message


def test_the_bound_of_memory_is_the_users(capsys, network):
    np.savez_compressed("zeros.npz", X=np.zeros((3000, 4)))
    np.savez("plain.npz", X=np.zeros((3000, 4)))
    for limit, status in (("90KB", 2), ("90 KiB", 2), ("96000", 0), ("0.1MiB", 0), ("1G", 0)):
        arguments = ["diagnose", "both:linear", "--data", "zeros.npz", "--max-memory", limit]
        assert main(arguments) == status, limit
        assert ("93.8 KiB of arrays in a file of" in capsys.readouterr().err) == bool(status)
    assert main(["diagnose", "both:linear", "--data", "plain.npz", "--max-memory", "1KiB"]) == 0  # as large as its file
    capsys.readouterr()
    for wrong in ("2 sheep", "GiB", "-1GiB", "1e9", ""):
        message = refused(capsys, "diagnose", "both:linear", "--data", "x.npz", "--max-memory", wrong)
        assert message == f"--max-memory {wrong!r} is not a size, such as 8GiB or 500MB"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
def test_an_npy_file_above_the_bound_is_mapped(capsys, network, order, dtype):
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(dtype, order=order)
    np.save("x.npy", x)
    outputs = []
    for limit in ("1KiB", "1GiB"):
        torch.manual_seed(0)
        assert main(["diagnose", "both:linear", "--data", "x.npy", "--max-memory", limit, "--batch-size", "64"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


def test_too_little_memory_is_one_line(capsys, monkeypatch, network):
    def full(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    np.save("x.npy", np.ones((6, 4)))
    with monkeypatch.context() as patched:
        patched.setattr(np.lib.format, "read_array", full)
        message = "x.npy does not fit into memory: save fewer samples"
        assert refused(capsys, "diagnose", "both:linear", "--data", "x.npy") == message
    with monkeypatch.context() as patched:
        patched.setattr(nn.Linear, "forward", full)
        message = refused(capsys, "diagnose", "both:linear", "--data", "x.npy", "--batch-size", "5")
        assert message.endswith("MemoryError: Unable to allocate 9 GiB; give a --batch-size below 5")
    monkeypatch.setattr("leakyrelu.cli.diagnose.check_outputs", full)
    assert refused(capsys, "diagnose", "both:linear", "--data", "x.npy").startswith("there is not enough memory (")


def test_a_folder_that_changes_while_it_is_read(capsys, monkeypatch, network):
    os.mkdir("folder")
    for i in range(4):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(f"folder/{i}.png")
    opened = Image.open

    def vanishing(path: object, *rest: object) -> object:
        Path("folder/2.png").unlink(missing_ok=True)
        return opened(path, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", vanishing)
        message = refused(capsys, "diagnose", "both:conv", "--data", "folder", "--batch-size", "1")
        assert message == "folder/2.png cannot be read: No such file or directory"

    def unreadable(*_: object) -> object:
        raise PermissionError(13, "Permission denied", "folder/0.png")

    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", unreadable)
        message = refused(capsys, "diagnose", "both:conv", "--data", "folder")
        assert message == "folder/0.png cannot be read: Permission denied"
    monkeypatch.setattr(Path, "rglob", unreadable)
    assert (
        refused(capsys, "diagnose", "both:conv", "--data", "folder") == "folder/0.png cannot be read: Permission denied"
    )


def test_a_pipe_among_the_images_is_left_out(capsys, network):
    os.mkdir("folder")
    os.mkfifo("folder/0.png")
    assert refused(capsys, "diagnose", "both:conv", "--data", "folder").startswith("folder holds no image (")
