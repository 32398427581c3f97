"""What executes networks: one file per runtime."""

from featherweight.runtimes import ncnn, onnxruntime, openvino, torch

__all__ = ["ncnn", "onnxruntime", "openvino", "torch"]
