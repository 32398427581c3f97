"""What executes networks: one file per runtime."""

from featherweight.runtimes import onnxruntime, torch

__all__ = ["onnxruntime", "torch"]
