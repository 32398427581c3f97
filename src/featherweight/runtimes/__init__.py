"""What executes networks: one file per runtime."""

from featherweight.runtimes import litert, ncnn, onnxruntime, openvino, torch

__all__ = ["litert", "ncnn", "onnxruntime", "openvino", "torch"]
