"""The same answers with less work: norms that stand still are part of their convolutions.

A network of depthwise convolutions is bound by memory on a CPU. A norm that keeps its statistics is
a factor and an offset per channel: folded into the convolution's weight, it costs nothing, forwards
or backwards, and its scale and bias learn all the same (docs/adr/0018-folded-norms.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from featherweight.networks.modules import AnyNetwork
from featherweight.nn.network import Conv
from featherweight.training.fake_quantisation import FakeQuantised

__all__ = ["answer", "compute_layer"]


def answer(network: AnyNetwork | FakeQuantised, images: Tensor) -> Tensor:
    """Return what `network(images)` returns: answers (N, ...) of images (N, C, H, W).

    Norms in eval mode are folded (a `FakeQuantised` folds them itself). In bfloat16 on a CPU,
    depthwise convolutions that learn are computed in float32: their way backwards is up to a
    hundred times slower in bfloat16.
    """
    if isinstance(network, FakeQuantised):
        logits: Tensor = network(images)
        return logits
    return network.forward_by(images, compute_layer)


def compute_layer(_name: str, module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Return the output of a layer as training computes it, see `answer`."""
    if not isinstance(module, Conv):
        output: Tensor = module(*inputs)
        return output
    if _is_slow_in_bfloat16(module.conv, inputs[0]):
        with torch.autocast("cpu", enabled=False):
            return _convolve(module, inputs[0].float())
    return _convolve(module, inputs[0])


def _convolve(module: Conv, x: Tensor) -> Tensor:
    if isinstance(module.norm, nn.BatchNorm2d) and not module.norm.training:
        return module.forward_with(x, *module.folded())
    output: Tensor = module(x)
    return output


def _is_slow_in_bfloat16(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether a depthwise convolution would have to go backwards in bfloat16, on a CPU."""
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    is_depthwise = conv.groups == conv.in_channels and conv.groups > 1
    return is_depthwise and (x.requires_grad or conv.weight.requires_grad)
