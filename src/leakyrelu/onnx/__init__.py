"""The adapter for ONNX files: a census by ONNX Runtime."""

from leakyrelu.onnx.census import diagnose

__all__ = ["diagnose"]
