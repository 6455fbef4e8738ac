"""What tests share: the root of the checkout, a headless browser."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
