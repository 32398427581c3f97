"""What executes networks: one file per runtime."""

from featherweight.runtimes import onnxruntime, openvino, torch

__all__ = ["onnxruntime", "openvino", "torch"]
