"""Weights as named arrays: which ones a network has, seeded ones, norms folded, input levels."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import NamedTuple

import numpy as np

from featherweight.architecture import Architecture
from featherweight.detection.detector import Detector
from featherweight.detection.parts import box_head, dense_part
from featherweight.errors import UnsupportedError, UsageError
from featherweight.layers import INPUT, Layer, layers
from featherweight.networks.kinds import AnyArchitecture
from featherweight.networks.preprocessing import Preprocessing

__all__ = [
    "FoldedLayer",
    "calibration_pictures",
    "check_labels",
    "check_weights",
    "fold_division",
    "folded_weights",
    "fused_activations",
    "input_levels",
    "random_weights",
    "spread_channels",
    "weight_shapes",
]

_TIMING_PICTURES = 2
_NORM_VALUES = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}


class FoldedLayer(NamedTuple):
    """A convolution or linear layer without norm.

    Attributes:
        weight: float32 (O, I / groups, K, K) or (O, I).
        bias: float32 (O,).
    """

    weight: np.ndarray
    bias: np.ndarray


def weight_shapes(architecture: AnyArchitecture) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every array a network needs, named as in torch's state dict."""
    if isinstance(architecture, Detector):
        parts = {"dense": dense_part(architecture), "boxes": box_head(architecture)}
        return {
            f"{prefix}.{name}": shape
            for prefix, part in parts.items()
            if part is not None
            for name, shape in weight_shapes(part).items()
        }
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers(architecture):
        if layer.op == "linear":
            out_features = layer.output_shape[0]
            shapes[f"{layer.name}.weight"] = (out_features, math.prod(layer.input_shape))
            shapes[f"{layer.name}.bias"] = (out_features,)
        elif layer.op == "conv":
            out_channels, side = layer.output_shape[0], layer.kernel_size
            in_channels = layer.input_shape[0] // layer.groups
            shapes[f"{layer.name}.conv.weight"] = (out_channels, in_channels, side, side)
            if layer.bias:
                shapes[f"{layer.name}.conv.bias"] = (out_channels,)
            if layer.norm_eps is not None:
                shapes |= {f"{layer.name}.norm.{part}": (out_channels,) for part in _NORM_VALUES}
    return shapes


def random_weights(architecture: AnyArchitecture, *, seed: int) -> dict[str, np.ndarray]:
    """Draw He-normal weights with neutral norms: for timing, where values do not matter."""
    generator = np.random.default_rng(seed)
    weights = {}
    for name, shape in weight_shapes(architecture).items():
        if len(shape) > 1:
            deviation = math.sqrt(2.0 / math.prod(shape[1:]))
            weights[name] = generator.standard_normal(shape, dtype=np.float32) * np.float32(
                deviation
            )
        else:
            value = _NORM_VALUES[name.rsplit(".", 1)[1]] if ".norm." in name else 0.0
            weights[name] = np.full(shape, value, dtype=np.float32)
    return weights


def check_labels(architecture: Architecture, labels: tuple[str, ...]) -> None:
    """Check that a file can be written of a network and named by these labels.

    Raises:
        UnsupportedError: a network without a classifier.
        UsageError: the number of labels is not the number of classes.
    """
    if architecture.outputs:
        return  # a part of a detector: its labels are the detector's
    if architecture.num_classes == 0:
        raise UnsupportedError(
            f"{architecture.name} has no classifier, which a file needs",
            allowed="classes=1 or more",
        )
    if len(labels) != architecture.num_classes:
        raise UsageError(
            f"{len(labels)} labels for {architecture.num_classes} classes of {architecture.name}"
        )


def calibration_pictures(architecture: Architecture, calibration: np.ndarray | None) -> np.ndarray:
    """Return the pictures int8 is calibrated with, uint8 (N, H, W, 3); `None` draws noise.

    Raises:
        UsageError: they do not fit the network.
    """
    expected = (*architecture.input_shape[1:], 3)
    if calibration is None:
        generator = np.random.default_rng(0)
        return generator.integers(0, 256, (_TIMING_PICTURES, *expected), dtype=np.uint8)
    if calibration.dtype != np.uint8 or calibration.shape[1:] != expected or not len(calibration):
        raise UsageError(
            f"the calibration pictures are {calibration.dtype} {calibration.shape}",
            allowed=f"uint8 (N, {', '.join(map(str, expected))}) with N of 1 or more",
        )
    return calibration


def check_weights(architecture: AnyArchitecture, weights: Mapping[str, np.ndarray]) -> None:
    """Check names and shapes; torch's `num_batches_tracked` is allowed.

    Raises:
        UsageError: names the first array that is missing, of another shape or unknown.
    """
    shapes = weight_shapes(architecture)
    for name, shape in shapes.items():
        if name not in weights:
            raise UsageError(f"{architecture.name}: the weights have no {name!r}")
        if tuple(weights[name].shape) != shape:
            raise UsageError(
                f"{architecture.name}: {name!r} has shape {tuple(weights[name].shape)}",
                allowed=str(shape),
            )
    for name in weights:
        if name not in shapes and not name.endswith("num_batches_tracked"):
            raise UsageError(
                f"{architecture.name}: the network has no weights named {name!r}",
                hint="the weights belong to another architecture",
            )


def folded_weights(layer: Layer, weights: Mapping[str, np.ndarray]) -> FoldedLayer:
    """Return a layer's weight and bias with its norm multiplied in (in float64)."""
    if layer.op == "linear":
        return FoldedLayer(
            np.asarray(weights[f"{layer.name}.weight"], dtype=np.float32),
            np.asarray(weights[f"{layer.name}.bias"], dtype=np.float32),
        )
    weight = np.asarray(weights[f"{layer.name}.conv.weight"], dtype=np.float64)
    bias = np.zeros(weight.shape[0])
    if layer.bias:
        bias = np.asarray(weights[f"{layer.name}.conv.bias"], dtype=np.float64)
    if layer.norm_eps is not None:
        norm = {
            part: np.asarray(weights[f"{layer.name}.norm.{part}"], dtype=np.float64)
            for part in _NORM_VALUES
        }
        scale = norm["weight"] / np.sqrt(norm["running_var"] + layer.norm_eps)
        weight = weight * scale[:, None, None, None]
        bias = (bias - norm["running_mean"]) * scale + norm["bias"]
    return FoldedLayer(weight.astype(np.float32), bias.astype(np.float32))


def spread_channels(values: np.ndarray, *, rows: int, per_group: int) -> np.ndarray:
    """Return values of input channels (I,) as the rows of a weight meet them, (O, I / groups)."""
    groups = len(values) // per_group
    return np.repeat(values.reshape(groups, per_group), rows // groups, axis=0)


def fold_division(
    plan: tuple[Layer, ...], folded: dict[str, FoldedLayer], deviation: np.ndarray
) -> bool:
    """Divide the weights of the convolution that alone reads the input by the input's deviation.

    That is exact because its zero padding comes after the mean is subtracted.

    Returns:
        whether there is such a convolution; otherwise nothing is changed.
    """
    readers = [layer for layer in plan if INPUT in layer.inputs]
    first = readers[0]
    if len(readers) != 1 or first.op != "conv":
        return False
    weight, bias = folded[first.name]
    inverse = spread_channels(
        (1.0 / deviation).astype(np.float32), rows=len(weight), per_group=weight.shape[1]
    )
    folded[first.name] = FoldedLayer((weight * inverse[:, :, None, None]).astype(np.float32), bias)
    return True


def fused_activations(
    plan: tuple[Layer, ...], *, functions: Container[str], after: Container[str]
) -> dict[str, str]:
    """Return layer -> the activation that alone reads it, which a runtime computes with it.

    Args:
        plan: all layers.
        functions: activations that the runtime can join to a layer.
        after: primitives that it can join them to.
    """
    readers: dict[str, list[Layer]] = {}
    for layer in plan:
        for name in layer.inputs:
            readers.setdefault(name, []).append(layer)
    fused = {}
    for layer in plan:
        reading = readers.get(layer.name, [])
        if layer.op not in after or len(reading) != 1:
            continue
        if reading[0].op == "activation" and reading[0].function in functions:
            fused[layer.name] = reading[0].name
    return fused


def input_levels(
    architecture: AnyArchitecture, preprocessing: Preprocessing
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean * 255 and 255 * std per channel, float64 (C,) each.

    Raises:
        UnsupportedError: a network with neither 1 nor 3 input channels.
        UsageError: mean or std do not fit the channels.
    """
    channels = architecture.input_shape[0]
    if channels not in (1, 3):
        raise UnsupportedError(
            f"a file of {architecture.name} cannot take pictures: it has {channels} input channels",
            allowed="1 or 3",
        )
    values = []
    for name, given in (("mean", preprocessing.mean), ("std", preprocessing.std)):
        if len(given) != channels and len(set(given)) != 1:
            raise UsageError(
                f"preprocessing has {len(given)} values of {name} for {channels} channels"
            )
        values.append(255.0 * np.resize(np.asarray(given, dtype=np.float64), channels))
    return values[0], values[1]
