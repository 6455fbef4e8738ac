"""Images of all depths are read as what they are, or refused."""

from __future__ import annotations

import json
import os
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.command import refused

from leakyrelu.cli import main

VALUES = np.array([[0, 255, 256], [40_000, 65_534, 65_535]], np.uint16)


@pytest.fixture(autouse=True)
def _network(models):
    (models / "same.py").write_text(
        "from torch import nn\ndef make():\n    m = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())\n"
        "    nn.init.dirac_(m[0].weight)\n    nn.init.zeros_(m[0].bias)\n    return m\n"
    )
    os.mkdir("images")
    yield
    sys.modules.pop("same", None)


def means(capsys, *arguments: str) -> tuple[list[float], str]:
    """Means of the three channels, and what was printed beside the report."""
    assert main(["diagnose", "same:make", "--data", "images", "--json", "r.json", *arguments]) == 0
    return json.loads(Path("r.json").read_text("utf-8"))["layers"][0]["output_mean"], capsys.readouterr().err


def png(path: str, pixels: np.ndarray, color: int) -> None:
    """A PNG of 16 bits a channel, which Pillow cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        end = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + end

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    start = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, color, 0, 0, 0])
    content = chunk(b"IHDR", start) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def gray_png(path: str) -> None:
    png(path, VALUES, 0)


def big_endian_tiff(path: str) -> None:
    image = Image.frombytes("I;16B", (3, 2), VALUES.astype(">u2").tobytes())
    image.save(path)


def pgm(path: str) -> None:
    Path(path).write_bytes(b"P5 3 2 65535\n" + VALUES.astype(">u2").tobytes())


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.png", gray_png),
        ("a.png", lambda path: Image.fromarray(VALUES).save(path)),
        ("a.tif", lambda path: Image.fromarray(VALUES).save(path)),
        ("a.tif", big_endian_tiff),
        ("a.pgm", pgm),
    ],
)
def test_gray_of_16_bits_keeps_its_values(capsys, name, write):
    write(f"images/{name}")
    line = (
        "leakyrelu: the images of images hold values of 16 bits, 0 to 65535, and are read as such: --image-mean and "
        "--image-std are in these units\n"
    )
    assert means(capsys) == ([pytest.approx(VALUES.mean())] * 3, line)
    scaled, _ = means(capsys, "--image-mean", "0,-100,0", "--image-std", "1,1,65535")
    assert scaled == pytest.approx([VALUES.mean(), VALUES.mean() + 100, VALUES.mean() / 65535])
    assert means(capsys, "--image-size", "4x6")[0] == pytest.approx([VALUES.mean()] * 3, rel=0.1)


def test_integers_and_floats_keep_their_values(capsys):
    Image.fromarray(VALUES.astype(np.int32) * 1000).save("images/a.tif")
    found, line = means(capsys)
    assert found == pytest.approx([1000 * VALUES.mean()] * 3)
    assert "hold integers, and are read as such" in line
    Image.fromarray((VALUES / 65535).astype(np.float32)).save("images/a.tif")
    found, line = means(capsys)
    assert found == pytest.approx([VALUES.mean() / 65535] * 3)
    assert "hold floating-point numbers, and are read as such" in line


def ppm(path: str, *, plain: bool) -> None:
    pixels = np.stack([VALUES] * 3, 2)
    text = " ".join(map(str, pixels.ravel())).encode() if plain else pixels.astype(">u2").tobytes()
    Path(path).write_bytes((b"P3" if plain else b"P6") + b" 3 2 65535\n" + text)


def tiff_16_bits_of_color(path: str) -> None:
    """Little-endian, one strip, three channels of 16 bits, which Pillow cannot write."""
    pixels = np.stack([VALUES] * 3, 2).astype("<u2").tobytes()
    entries = [(256, 3, 1, 3), (257, 3, 1, 2), (258, 3, 3, 8 + len(pixels)), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, len(pixels))]
    bits = np.array([16, 16, 16], "<u2").tobytes()
    directory = len(entries).to_bytes(2, "little")
    for tag, kind, count, value in entries:
        directory += np.array([tag, kind], "<u2").tobytes() + np.array([count, value], "<u4").tobytes()
    start = b"II*\0" + (8 + len(pixels) + len(bits)).to_bytes(4, "little")
    Path(path).write_bytes(start + pixels + bits + directory + bytes(4))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.png", lambda path: png(path, np.stack([VALUES] * 3, 2), 2)),
        ("a.png", lambda path: png(path, np.stack([VALUES] * 4, 2), 6)),
        ("a.png", lambda path: png(path, np.stack([VALUES] * 2, 2), 4)),
        ("a.ppm", lambda path: ppm(path, plain=False)),
        ("a.ppm", lambda path: ppm(path, plain=True)),
        ("a.tif", tiff_16_bits_of_color),
    ],
)
def test_color_of_16_bits_is_refused(capsys, name, write):
    write(f"images/{name}")
    with Image.open(f"images/{name}") as opened:
        assert np.asarray(opened).dtype == np.uint8  # Pillow would cut them
    assert refused(capsys, "diagnose", "same:make", "--data", "images") == (
        f"images/{name} has several channels of 16 bits, which Pillow would cut to 8: convert it to 8 bits a channel, "
        "or save the pixels of all images as an array with np.save"
    )


def test_depths_are_not_mixed(capsys):
    Image.fromarray(VALUES.astype(np.uint8)).save("images/a.png")
    gray_png("images/b.png")
    assert refused(capsys, "diagnose", "same:make", "--data", "images") == (
        "images/b.png holds values of 16 bits, 0 to 65535, and those before it values of 8 bits, 0 to 255: one "
        "--image-mean and --image-std cannot fit both; convert them all to one kind"
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_images_of_8_bits_are_read_as_before(capsys, mode):
    pixels = np.array([[0, 50, 100], [150, 200, 250]], np.uint8)
    Image.fromarray(pixels).convert(mode).save("images/a.png")
    with Image.open("images/a.png") as opened:
        expected = np.asarray(opened.convert("RGB"), float).mean((0, 1))
    found, err = means(capsys)
    assert found == pytest.approx(list(expected))
    assert err == ""


def test_a_picture_of_5_and_6_bits_a_channel_is_one_of_8(capsys):
    Image.fromarray(np.full((2, 3, 3), 255, np.uint8)).save("images/a.bmp")
    content = bytearray(Path("images/a.bmp").read_bytes())
    content[54:] = b"\xff" * len(content[54:])
    content[28] = 16  # bits a pixel: 5 each, and one spare
    Path("images/a.bmp").write_bytes(content)
    assert means(capsys) == ([pytest.approx(255)] * 3, "")
