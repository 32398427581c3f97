"""Build the torch module of an Architecture from its layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.layers import INPUT, Layer, graph, layers

__all__ = ["Apply", "Conv", "Linear", "Network", "build_network", "resized"]

Apply = Callable[[str, nn.Module, Sequence[Tensor]], Tensor]
"""(name of a layer, its module, its inputs) -> its output."""

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hard_swish": nn.Hardswish,
    "hard_sigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
}


class Network(nn.Module):
    """A network that computes exactly its Architecture's layers.

    Weights are named after the layers: `blocks.3.expand.conv.weight`,
    `blocks.3.expand.norm.running_mean`, `classifier.weight`. Inputs of another size than
    `architecture.input_shape` are allowed (padding is computed from the actual size), but for an
    imported network that has one size.

    Args:
        architecture: what to build.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        same = architecture.padding == "same"
        self._plan: list[tuple[str, nn.Module, tuple[str, ...]]] = []
        for layer in layers(architecture):
            module = _MODULES[layer.op](layer, same or layer.same)
            _attach(self, layer.name, module)
            self._plan.append((layer.name, module, layer.inputs))
        self._last_use = {
            name: step for step, (_, _, names) in enumerate(self._plan) for name in names
        }

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of normalised images (N, C, H, W), or features (N, F)."""
        return torch.flatten(self._run(images, len(self._plan)), 1)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the classifier's input (N, F) of normalised images (N, C, H, W)."""
        steps = len(self._plan) - (1 if self.architecture.num_classes else 0)
        return torch.flatten(self._run(images, steps), 1)

    def forward_layers(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Return the outputs of some layers, in the order of `names`; runs no layer after them."""
        places = [name for name, _, _ in self._plan]
        kept: dict[str, Tensor] = dict.fromkeys(names, images)
        self._run(images, 1 + max(places.index(name) for name in names), kept)
        return [kept[name] for name in names]

    def forward_outputs(self, inputs: Tensor, apply: Apply | None = None) -> dict[str, Tensor]:
        """Return what the network answers by name, each with its own shape behind the batch axis.

        Args:
            inputs: (N, C, H, W).
            apply: computes every layer; `None` = its module does.
        """
        outputs = graph(self.architecture).outputs
        kept: dict[str, Tensor] = {one.layer: inputs for one in outputs}
        if apply is None:
            self._run(inputs, len(self._plan), kept)
        else:
            self._run(inputs, len(self._plan), kept, apply=apply)
        return {one.name: kept[one.layer] for one in outputs}

    def forward_by(self, images: Tensor, apply: Apply) -> Tensor:
        """Return logits (N, classes) with every layer computed by `apply`."""
        return torch.flatten(self._run(images, len(self._plan), apply=apply), 1)

    def _run(
        self,
        images: Tensor,
        steps: int,
        kept: dict[str, Tensor] | None = None,
        *,
        apply: Apply = lambda _, module, inputs: module(*inputs),
    ) -> Tensor:
        """Run the first layers; put the outputs of the layers named in `kept` there."""
        self._check_size(images)
        values = {INPUT: images}
        output = images
        for step, (name, module, inputs) in enumerate(self._plan[:steps]):
            output = apply(name, module, [values[source] for source in inputs])
            values[name] = output
            if kept is not None and name in kept:
                kept[name] = output
            for source in set(inputs):  # x + x reads one map twice
                if self._last_use[source] == step:
                    del values[source]
        return output

    def _check_size(self, images: Tensor) -> None:
        own = self.architecture.input_shape
        if self.architecture.fixed_size and tuple(images.shape[1:]) != own:
            raise UsageError(
                f"{self.architecture.name} cannot answer pictures {tuple(images.shape[1:])}: it "
                "was imported and is known to be right at one size alone",
                allowed=str(own),
            )


def build_network(architecture: Architecture, *, seed: int) -> Network:
    """Build a network with freshly drawn weights.

    He-normal over fan-out (divided by the groups, so that depthwise layers keep their scale),
    norms at one and zero, the classifier at N(0, 0.01). torch's generator is left as it was.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        network = Network(architecture)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size) // module.groups
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01, generator=generator)
            nn.init.zeros_(module.bias)
    return network


class Conv(nn.Module):
    """Convolution with its norm; SAME padding follows the actual input size."""

    def __init__(self, layer: Layer, same: bool) -> None:  # noqa: FBT001 - row of a table
        super().__init__()
        # With stride 1 the SAME padding of odd kernels is even, whatever the size of the input.
        always_even = layer.stride == 1 and layer.kernel_size % 2 == 1
        self.same = same and not always_even
        top, left, bottom, right = layer.padding
        even = (top, left) == (bottom, right)
        padding: Any = (top, left) if even and not self.same else 0
        self.uneven = None if even or self.same else (left, right, top, bottom)
        self.conv = nn.Conv2d(
            layer.input_shape[0],
            layer.output_shape[0],
            layer.kernel_size,
            stride=layer.stride,
            padding=padding,
            groups=layer.groups,
            bias=layer.bias,
        )
        self.norm = (
            nn.Identity()
            if layer.norm_eps is None
            else nn.BatchNorm2d(layer.output_shape[0], eps=layer.norm_eps)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, O, H', W')."""
        y: Tensor = self.norm(self.conv(self.padded(x)))
        return y

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight (O, I / groups, K, K) and bias (O,) with the norm's running statistics."""
        weight = self.conv.weight
        bias = torch.zeros_like(weight[:, 0, 0, 0]) if self.conv.bias is None else self.conv.bias
        if not isinstance(self.norm, nn.BatchNorm2d):
            return weight, bias
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
        return weight * scale[:, None, None, None], (bias - mean) * scale + self.norm.bias

    def forward_with(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolve with another weight and bias, without the norm."""
        conv = self.conv
        return functional.conv2d(
            self.padded(x), weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )

    def padded(self, x: Tensor) -> Tensor:
        """Return the input with the padding that the convolution does not add itself."""
        if self.same:
            return _pad_same(x, self.conv.kernel_size[0], self.conv.stride[0], 0.0)
        return x if self.uneven is None else functional.pad(x, self.uneven)


class _Pool(nn.Module):
    def __init__(self, layer: Layer, same: bool) -> None:  # noqa: FBT001 - row of a table
        super().__init__()
        self.same = same and layer.kernel_size > 1
        self.function, self.kernel_size, self.stride = (
            layer.function,
            layer.kernel_size,
            layer.stride,
        )
        self.padding = 0 if self.same else layer.padding[0]

    def forward(self, x: Tensor) -> Tensor:
        if self.function == "max":
            if self.same:
                x = _pad_same(x, self.kernel_size, self.stride, -math.inf)
            return functional.max_pool2d(x, self.kernel_size, self.stride, self.padding)
        if self.same:
            ones = _pad_same(torch.ones_like(x[:1, :1]), self.kernel_size, self.stride, 0.0)
            share = functional.avg_pool2d(ones, self.kernel_size, self.stride)
            x = _pad_same(x, self.kernel_size, self.stride, 0.0)
            return functional.avg_pool2d(x, self.kernel_size, self.stride) / share
        return functional.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, count_include_pad=False
        )


class _GlobalPool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)  # (N, C, 1, 1)


class Linear(nn.Linear):
    """Matrix product on the flattened input, with dropout before it."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(math.prod(layer.input_shape), layer.output_shape[0])
        self.dropout = layer.dropout

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, F)."""
        flat = functional.dropout(torch.flatten(x, 1), self.dropout, self.training)
        return super().forward(flat)


class _Add(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class _Multiply(nn.Module):
    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return x * scale


class _Resize(nn.Module):
    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.factor = layer.factor

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=float(self.factor), mode="nearest")


class _PadChannels(nn.Module):
    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.added = layer.output_shape[0] - layer.input_shape[0]

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, (0, 0, 0, 0, 0, self.added))


class _Concat(nn.Module):
    def forward(self, *maps: Tensor) -> Tensor:
        return torch.cat(maps, 1)


class _SelectChannels(nn.Module):
    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.first, self.count = layer.first_channel, layer.output_shape[0]

    def forward(self, x: Tensor) -> Tensor:
        return x.narrow(1, self.first, self.count)


class _Shuffle(nn.Module):
    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.groups = layer.groups

    def forward(self, x: Tensor) -> Tensor:
        return functional.channel_shuffle(x, self.groups)


_MODULES: dict[str, Any] = {
    "conv": Conv,
    "activation": lambda layer, _: _ACTIVATIONS[layer.function](),
    "pool": _Pool,
    "global_pool": lambda _layer, _same: _GlobalPool(),
    "linear": lambda layer, _: Linear(layer),
    "add": lambda _layer, _same: _Add(),
    "multiply": lambda _layer, _same: _Multiply(),
    "resize": lambda layer, _: _Resize(layer),
    "pad": lambda layer, _: _PadChannels(layer),
    "concat": lambda _layer, _same: _Concat(),
    "select": lambda layer, _: _SelectChannels(layer),
    "shuffle": lambda layer, _: _Shuffle(layer),
}


def _pad_same(x: Tensor, kernel_size: int, stride: int, value: float) -> Tensor:
    """Pad like TensorFlow SAME: the odd pixel goes to the bottom and right."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads, value=value) if any(pads) else x


def _attach(root: nn.Module, name: str, module: nn.Module) -> None:
    """Register `module` under a dotted name, making the containers on the way."""
    *path, last = name.split(".")
    parent = root
    for part in path:
        child = parent._modules.get(part)
        if child is None:
            child = nn.Module()
            parent.add_module(part, child)
        parent = child
    parent.add_module(last, module)


def resized(network: Network, resolution: int) -> Network:
    """Return the same weights in a network drawn for another input size, in eval mode."""
    other = Network(network.architecture.at_resolution(resolution))
    other.load_state_dict(network.state_dict())
    return other.eval()
