"""A network that computes as its int8 file does and still learns.

Every tensor that the file holds as uint8 or int8 is rounded to the levels the file has for it;
gradients pass as if nothing was rounded, except where a value is clipped (the straight-through
estimator). Which tensors, which levels and the correction of the biases come from the code that
writes the file (`runtimes.quantisation`). Norms are folded, with the statistics they have.

Source: Jacob et al., Quantization and Training of Neural Networks, arXiv 1712.05877, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.architecture import Architecture
from featherweight.exporting.export import network_weights
from featherweight.layers import INPUT, graph
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import Conv, Linear, Network
from featherweight.runtimes.onnx_writer import CENTRED, NORMALISED, write_onnx
from featherweight.runtimes.onnxruntime import is_saturation_safe, observations
from featherweight.runtimes.quantisation import Levels, levels_of, mean_error, weight_steps
from featherweight.runtimes.weights import input_levels, spread_channels

__all__ = ["FakeQuantised", "Int8Levels", "Picture", "observe_levels"]

_WEIGHTED = ("Conv", "Gemm")
_RGB = 3


class Picture(NamedTuple):
    """How a first convolution reads the picture's bytes.

    Attributes:
        divisor: per input channel, part of the weights in the file, (C,).
        offset: the byte that counts as zero, also under the padding, less the mean, (C,).
    """

    divisor: np.ndarray
    offset: np.ndarray


class Int8Levels(NamedTuple):
    """What the int8 file of a network rounds to.

    Attributes:
        outputs: of every layer whose output is uint8 (and of the input), by the layer's name.
        means: per channel, of what each convolution and linear layer reads, float64.
        pictures: of a convolution that reads the picture's bytes.
        saturation_safe: see `quantise_model`.
    """

    outputs: dict[str, Levels]
    means: dict[str, np.ndarray]
    pictures: dict[str, Picture]
    saturation_safe: bool


def observe_levels(
    network: Network,
    calibration: np.ndarray,
    *,
    preprocessing: Preprocessing,
    saturation_safe: bool | None = None,
) -> Int8Levels:
    """Return the levels that an export of the network would choose.

    Args:
        network: as it is before it learns from being rounded.
        calibration: uint8 (N, R, R, 3) training pictures, as the export gets them.
        preprocessing: mean and standard deviation of the network's input.
        saturation_safe: see `Runtime.export`; `None` = as this machine's CPU needs it.

    Raises:
        UsageError: the pictures do not fit the network, or a weight is not finite.
        UnsupportedError: the network has no int8 form.
    """
    architecture = network.architecture
    model = write_onnx(
        architecture,
        network_weights(network),
        preprocessing=preprocessing,
        labels=tuple(str(k) for k in range(architecture.num_classes)),
    )
    seen = observations(model, architecture, calibration)
    read = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type in _WEIGHTED}
    outputs, means, pictures = {}, {}, {}
    plan = graph(architecture)
    for layer in plan.layers:
        tensor = plan.name_of(layer.name)
        if tensor in seen.ranges:
            outputs[layer.name] = levels_of(seen.ranges[tensor])
        if tensor in read:
            means[layer.name] = seen.means[read[tensor]]
        if read.get(tensor) == CENTRED:
            mean, divisor = input_levels(architecture, preprocessing)
            pictures[layer.name] = Picture(divisor, round(float(mean.mean())) - mean)
    if NORMALISED in seen.ranges:
        outputs[INPUT] = levels_of(seen.ranges[NORMALISED])
    return Int8Levels(outputs, means, pictures, is_saturation_safe(saturation_safe))


class FakeQuantised(nn.Module):
    """Computes like the int8 file of a network; its weights are the network's own.

    Args:
        network: shared, not copied.
        levels: of its file.
    """

    def __init__(self, network: Network, levels: Int8Levels) -> None:
        super().__init__()
        self.network = network
        self._levels = levels

    @property
    def architecture(self) -> Architecture:
        """The network's."""
        return self.network.architecture

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of normalised images (N, C, H, W), in float32."""
        return self.network.forward_by(self._round(INPUT, images), self._compute)

    def _compute(self, name: str, module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
        if isinstance(module, Conv):
            output = self._convolve(name, module, inputs[0])
        elif isinstance(module, Linear):
            weight, shift = self._rounded(module.weight, self._levels.means[name])
            output = functional.linear(torch.flatten(inputs[0], 1), weight, module.bias + shift)
        else:
            output = module(*inputs)
        return self._round(name, output)

    def _round(self, name: str, values: Tensor) -> Tensor:
        levels = self._levels.outputs.get(name)
        if levels is None:
            return values
        return torch.fake_quantize_per_tensor_affine(values, *levels, 0, 255)

    def _convolve(self, name: str, module: Conv, x: Tensor) -> Tensor:
        weight, bias = module.folded()
        means, picture = self._levels.means[name], self._levels.pictures.get(name)
        if picture is None:
            rounded, shift = self._rounded(weight, means)
            return module.forward_with(x, rounded, bias + shift)
        shape = {"rows": weight.shape[0], "per_group": weight.shape[1]}
        divisor, offset = (
            _like(spread_channels(values, **shape)[:, :, None, None], weight) for values in picture
        )
        weight = weight / divisor
        grey = module.conv.in_channels == 1
        rounded, shift = self._rounded(weight, means - picture.offset, grey=grey)
        shift = shift + (weight * offset).sum((1, 2, 3))
        centre = _like((picture.offset / picture.divisor)[:, None, None], x)
        return module.forward_with(x - centre, rounded * divisor, bias + shift)

    def _rounded(
        self, weight: Tensor, means: np.ndarray, *, grey: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the weight in int8 levels, and what takes back the shift that rounding causes.

        Args:
            weight: in float.
            means: of what it reads.
            grey: it reads a grey picture; that of the file reads three channels and takes the mean.
        """
        plain = weight.detach().cpu().numpy()
        copies = _RGB if grey else 1
        steps = copies * weight_steps(
            np.repeat(plain, copies, axis=1) / copies,
            inputs=len(means),
            saturation_safe=self._levels.saturation_safe,
        )
        zero = torch.zeros(len(steps), dtype=torch.int32, device=weight.device)
        rounded = torch.fake_quantize_per_channel_affine(
            weight, _like(steps, weight), zero, 0, -127, 127
        )
        error = plain - rounded.detach().cpu().numpy()
        return rounded, _like(mean_error(error, means), weight)


def _like(values: np.ndarray, tensor: Tensor) -> Tensor:
    return torch.from_numpy(values).to(tensor)
