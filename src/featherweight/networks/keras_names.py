"""What keras.applications calls the weights of our layers, and its tensors in torch's order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.networks.timm_names import Names

__all__ = ["KERAS_FAMILIES", "keras_state_dict"]

_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def keras_state_dict(model: Any) -> dict[str, np.ndarray]:
    """Return the weights of a keras.applications model with the names and axes of torch.

    Args:
        model: a keras Model (any backend); only its layers and their weights are read.

    Returns:
        `{layer}.weight` (O, I, H, W), (C, 1, H, W) of depthwise or (O, I) of dense layers,
        `{layer}.bias`, `{layer}.running_mean`, `{layer}.running_var`: float32. Written to a
        .safetensors file, `--pretrained FILE` reads it.

    Raises:
        UsageError: a weight of an unknown kind.
    """
    found = {}
    for layer in model.layers:
        for variable in layer.weights:
            kind = variable.name.rpartition("/")[2].partition(":")[0]
            name, value = _torch_order(kind, np.asarray(variable.numpy()), layer=layer)
            found[f"{layer.name}.{name}"] = np.ascontiguousarray(value, dtype=np.float32)
    return found


def _torch_order(kind: str, array: np.ndarray, *, layer: Any) -> tuple[str, np.ndarray]:
    if kind in _NORM:
        return _NORM[kind], array
    if kind == "bias":
        return "bias", array
    if kind not in {"kernel", "depthwise_kernel"} or array.ndim not in {2, 4}:
        raise UsageError(
            f"the layer {layer.name!r} has a weight {kind!r} of shape {array.shape}",
            allowed=", ".join(["kernel", "bias", *_NORM]),
        )
    if array.ndim == 2:
        return "weight", array.T
    if "Depthwise" in type(layer).__name__:
        return "weight", array.transpose(2, 3, 0, 1)
    return "weight", array.transpose(3, 2, 0, 1)


def _mobilenet_v1(architecture: Architecture) -> Names:
    names = {"blocks.0.main": ("conv1", "conv1_bn"), "classifier": ("conv_preds", "")}
    for index in range(1, len(architecture.blocks)):
        names[f"blocks.{index}.depthwise"] = (f"conv_dw_{index}", f"conv_dw_{index}_bn")
        names[f"blocks.{index}.pointwise"] = (f"conv_pw_{index}", f"conv_pw_{index}_bn")
    return names


def _mobilenet_v2(architecture: Architecture) -> Names:
    last = len(architecture.blocks) - 1
    names = {
        "blocks.0.main": ("Conv1", "bn_Conv1"),
        f"blocks.{last}.main": ("Conv_1", "Conv_1_bn"),
        "classifier": ("predictions", ""),
    }
    for index in range(1, last):
        theirs = "expanded_conv" if index == 1 else f"block_{index - 1}"
        for part in ("expand", "depthwise", "project"):
            names[f"blocks.{index}.{part}"] = (f"{theirs}_{part}", f"{theirs}_{part}_BN")
    return names


def _mobilenet_v3(architecture: Architecture) -> Names:
    last = len(architecture.blocks) - 1
    names = {
        "blocks.0.main": ("conv", "conv_bn"),
        f"blocks.{last}.main": ("conv_1", "conv_1_bn"),
        "head.0.linear": ("conv_2", ""),
        "classifier": ("logits", ""),
    }
    for index in range(1, last):
        theirs = "expanded_conv" if index == 1 else f"expanded_conv_{index - 1}"
        for part in ("expand", "depthwise", "project"):
            names[f"blocks.{index}.{part}"] = (f"{theirs}_{part}", f"{theirs}_{part}_bn")
        names[f"blocks.{index}.se.reduce"] = (f"{theirs}_squeeze_excite_conv", "")
        names[f"blocks.{index}.se.expand"] = (f"{theirs}_squeeze_excite_conv_1", "")
    return names


KERAS_FAMILIES: Mapping[str, Callable[[Architecture], Names]] = {
    "mobilenet_v1": _mobilenet_v1,
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v3": _mobilenet_v3,
}
"""Family -> names of its layers."""
