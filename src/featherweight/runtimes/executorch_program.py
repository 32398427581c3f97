"""From a network to the program that ExecuTorch executes: traced, quantised, given to XNNPACK."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.exir import to_edge_transform_and_lower
from torch import Tensor, nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from featherweight.architecture import Architecture
from featherweight.errors import UnsupportedError
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import Network
from featherweight.runtimes.executorch import levels_of
from featherweight.runtimes.weights import calibration_pictures, input_levels

__all__ = ["count_int8_operators", "write_program"]

_AUDITED = {
    "aten.convolution": "Conv",
    "aten.linear": "Gemm",
    "aten.addmm": "Gemm",
    "aten.add": "Add",
    "aten.mul": "Mul",
    "aten.avg_pool2d": "AveragePool",
    "aten.mean": "GlobalAveragePool",
    "aten.sigmoid": "Sigmoid",
    "aten.hardswish": "HardSwish",
}
_PADS = ("aten.pad", "aten.constant_pad_nd")
_ACTIVATIONS = ("aten.relu", "aten.clamp", "aten.hardtanh")


class _Normalised(nn.Module):
    """The network behind the levels that its pictures were normalised with."""

    mean: Tensor
    scale: Tensor

    def __init__(self, network: Network, mean: np.ndarray, deviation: np.ndarray) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", mean), ("scale", 1.0 / np.asarray(deviation))):
            levels = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, levels.reshape(1, -1, 1, 1))

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Return the answers to levels 0 to 255, (1, C, H, W): logits (1, K), or named maps."""
        normalised = (picture - self.mean) * self.scale
        if self.network.architecture.outputs:
            return tuple(self.network.forward_outputs(normalised).values())
        return (self.network(normalised),)


def write_program(
    architecture: Architecture,
    weights: Mapping[str, np.ndarray],
    *,
    preprocessing: Preprocessing,
    calibration: np.ndarray | None,
    int8: bool,
) -> Any:
    """Return ExecuTorch's program of a network; `buffer` is the file.

    Args:
        architecture: the network.
        weights: by the names of torch's state dict.
        preprocessing: its normalisation becomes part of the program.
        calibration: uint8 (N, H, W, 3) for int8; `None` draws noise, for timing.
        int8: weights per channel and activations per tensor, both symmetric int8 or float32.

    Raises:
        UsageError: the pictures do not fit the network.
        UnsupportedError: int8 padding that XNNPACK does not load.
    """
    network = Network(architecture)
    state = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    network.load_state_dict(state, strict=False)
    levels = (
        np.asarray(values, np.float32) for values in input_levels(architecture, preprocessing)
    )
    module = _Normalised(network, *levels).eval()
    pictures = calibration_pictures(architecture, calibration) if int8 else None
    example = torch.zeros(1, *architecture.input_shape)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch, about its own deprecated parts
        traced = torch.export.export(module, (example,))
        if pictures is not None:
            quantiser = XNNPACKQuantizer().set_global(
                get_symmetric_quantization_config(is_per_channel=True)
            )
            observed = prepare_pt2e(traced.module(), quantiser)
            for picture in pictures:
                observed(levels_of(picture[None], channels=example.shape[1]))
            quantised = convert_pt2e(observed)
            _share_levels_of_pads(quantised)
            traced = torch.export.export(quantised, (example,))
        lowered = to_edge_transform_and_lower(traced, partitioner=[XnnpackPartitioner()])
        return lowered.to_executorch()


def _share_levels_of_pads(module: Any) -> None:
    """Give what was padded the levels of what it was, in place: others XNNPACK does not load.

    Raises:
        UnsupportedError: padding that is int8 on one side only, which it does not load either.
    """
    for node in module.graph.nodes:
        if node.op != "call_function" or _target(node) not in _PADS:
            continue
        source, users = node.args[0], list(node.users)
        sides = ["quantize" in _target(one) for one in (source, *users)]
        if any(sides) and not all(sides):
            raise UnsupportedError(
                "ExecuTorch cannot load int8 pooling that is padded on some sides only",
                allowed="fp32, or another size: even, or without padding=same",
            )
        for quantise in users if all(sides) else []:
            for one in (quantise, *quantise.users):
                one.args = (one.args[0], *source.args[1:])
    module.recompile()


def count_int8_operators(program: Any) -> dict[str, str]:
    """Return operator -> "int8 in/of" of what `write_program` returned.

    XNNPACK computes in int8 what stands between int8 values; the rest in float32.
    """
    counts: dict[str, list[bool]] = {}
    for node in _nodes(program.exported_program().graph_module):
        operator = _AUDITED.get(_target(node))
        if operator is not None:
            counts.setdefault(operator, []).append(_is_int8(node))
    return {name: f"int8 {sum(found)}/{len(found)}" for name, found in counts.items()}


def _nodes(module: Any) -> Iterator[Any]:
    """Return the calls of a graph and of the parts that were given to a backend."""
    for graph in (module, *(m.original_module.graph_module for m in _delegates(module))):
        yield from (node for node in graph.graph.nodes if node.op == "call_function")


def _delegates(module: Any) -> list[Any]:
    return [one for _, one in module.named_children() if hasattr(one, "original_module")]


def _target(node: Any) -> str:
    """Return such as `aten.convolution`, of `aten.convolution.default`."""
    name = getattr(node.target, "__name__", "")
    namespace = getattr(node.target, "namespace", None)
    full = name if namespace is None or name.startswith(namespace) else f"{namespace}.{name}"
    return full.rpartition(".")[0]


def _is_int8(node: Any) -> bool:
    source = node.args[0]
    following = next(iter(node.users), None)
    while following is not None and _target(following) in _ACTIVATIONS:
        following = next(iter(following.users), None)
    return (
        "dequantize" in _target(source)
        and following is not None
        and ("quantize" in _target(following))
    )
