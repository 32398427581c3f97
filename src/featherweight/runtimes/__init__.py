"""What executes networks: one file per runtime."""

from featherweight.runtimes import executorch, litert, ncnn, onnxruntime, openvino, torch

__all__ = ["executorch", "litert", "ncnn", "onnxruntime", "openvino", "torch"]
