"""Diagnose a real trained network: the text orientation classifier that the package rapidocr-onnxruntime ships.

    pip install --no-deps --target FOLDER rapidocr-onnxruntime==1.4.4
    python examples/diagnose_ocr.py FOLDER ocr.png

Prints the report, and writes its plot and, into the folder, its page (ocr.html). The model is not part of this
repository (Apache-2.0, from PaddleOCR by way of RapidOCR).

Its data: 600 lines of one to three words of LICENSE in Pillow's own font, in dark colors on light, every second one
upside down, as the classifier sees them in use: 48 x 192 pixels from -1 to 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageFont

from leakyrelu.onnx import diagnose

LINES = 600
HEIGHT, WIDTH = 48, 192


def lines() -> np.ndarray:
    """Lines of text as the classifier takes them."""
    rng = np.random.default_rng(0)
    words = (Path(__file__).parents[1] / "LICENSE").read_text(encoding="utf-8").split()
    font = ImageFont.load_default(32)
    images = []
    for i in range(LINES):
        number = int(rng.integers(1, 4))
        first = int(rng.integers(0, len(words) - number))
        text = " ".join(words[first : first + number])
        ground, ink = tuple(rng.integers(180, 256, 3).tolist()), tuple(rng.integers(0, 90, 3).tolist())
        image = Image.new("RGB", (max(int(font.getlength(text)) + 8, WIDTH), HEIGHT), ground)
        ImageDraw.Draw(image).text((4, 4), text, fill=ink, font=font)
        image = image.resize((WIDTH, HEIGHT)).rotate(180 * (i % 2))
        images.append((np.asarray(image, np.float32).transpose(2, 0, 1) / 255 - 0.5) / 0.5)
    return np.stack(images)


def main(folder: Path, picture: Path) -> None:
    """Diagnose the model below this folder."""
    (model,) = folder.glob("rapidocr_onnxruntime/models/*cls*.onnx")
    x = lines()
    upside_down = onnxruntime.InferenceSession(model).run(None, {"x": x})[0][:, 1] > 0.5
    right = np.mean(upside_down == (np.arange(LINES) % 2 == 1))
    report = diagnose(model, x)
    title = f"{model.name} on {LINES} lines of text"
    report.to_png(picture, title=title)
    report.to_html(folder / "ocr.html", title=title)
    print(f"{right:.1%} of the lines classified right")
    print(report)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
