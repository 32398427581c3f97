"""Write ncnn's two files straight from the layers: a text that lists them, and their weights.

Source: the layout of `.param` and `.bin` files in ncnn's documentation (operators and parameter
numbers). Activations right behind a convolution or a linear layer become part of it, as ncnn's own
optimiser does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from featherweight.architecture import Architecture
from featherweight.layers import INPUT, Layer, graph
from featherweight.networks.preprocessing import Preprocessing
from featherweight.runtimes.weights import (
    check_labels,
    check_weights,
    folded_weights,
    fused_activations,
    input_levels,
    random_weights,
)

__all__ = ["IMAGE", "write_ncnn"]

IMAGE = "image"
"""Name of the input: float32 (3, H, W) with the values of the uint8 picture."""

_MAGIC = "7767517"
_FLOAT32 = np.zeros(1, dtype="<u4").tobytes()
"""Flag before the weights of a layer: plain 32 bit floats follow."""
_FUSED = {
    "relu": "9=1",
    "relu6": "9=3 -23310=2,0.0,6.0",
    "sigmoid": "9=4",
    "hard_swish": "9=6 -23310=2,0.16666667,0.5",
}
_ACTIVATIONS = {
    "relu": ("ReLU", ""),
    "relu6": ("Clip", "0=0.0 1=6.0"),
    "sigmoid": ("Sigmoid", ""),
    "silu": ("Swish", ""),
    "hard_swish": ("HardSwish", "0=0.16666667 1=0.5"),
    "hard_sigmoid": ("HardSigmoid", "0=0.16666667 1=0.5"),
}


class _Files:
    """Lines of the text and bytes of the weights under construction."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, list[str], list[str], str]] = []
        self.weights = bytearray()

    def layer(self, kind: str, inputs: Sequence[str], output: str, parameters: str = "") -> None:
        """Add a layer with one output, named like its output."""
        self.lines.append((kind, output, list(inputs), [output], parameters))

    def store(self, values: np.ndarray, *, flagged: bool) -> None:
        """Append float32 values, behind the flag where ncnn expects one."""
        self.weights += _FLOAT32 if flagged else b""
        self.weights += np.ascontiguousarray(values, dtype="<f4").tobytes()

    def text(self) -> str:
        """Return the text: blobs that are read several times go through a Split."""
        lines = _with_splits(self.lines)
        blobs = sum(len(outputs) for _, _, _, outputs, _ in lines)
        written = [_MAGIC, f"{len(lines)} {blobs}"]
        for kind, name, inputs, outputs, parameters in lines:
            fields = [kind, name, str(len(inputs)), str(len(outputs)), *inputs, *outputs]
            written.append(" ".join([*fields, parameters]).rstrip())
        return "\n".join(written) + "\n"


def write_ncnn(
    architecture: Architecture,
    weights: Mapping[str, np.ndarray] | None,
    *,
    preprocessing: Preprocessing,
    labels: tuple[str, ...],
) -> tuple[str, bytes]:
    """Write a classifier for ncnn with norms folded and the normalisation inside.

    Args:
        architecture: the network.
        weights: arrays named as in torch's state dict; `None` draws seeded ones (for timing).
        preprocessing: its mean and std become the first layer.
        labels: class names; only their number is checked, the files have no place for them.

    Returns:
        the text of the `.param` file and the content of the `.bin` file.

    Raises:
        UnsupportedError: no classifier, or neither 1 nor 3 input channels.
        UsageError: weights or labels of another network.
    """
    check_labels(architecture, labels)
    if weights is None:
        weights = random_weights(architecture, seed=0)
    check_weights(architecture, weights)
    files = _Files()
    names = {INPUT: _write_input(files, architecture, preprocessing)}
    network = graph(architecture)
    plan = network.layers
    fused = fused_activations(plan, functions=_FUSED, after=("conv", "linear"))
    flat: set[str] = set()  # ncnn's global pooling drops the axes of height and width
    for layer in plan:
        if layer.name in fused.values():
            names[layer.name] = names[layer.inputs[0]]
            continue
        last = fused.get(layer.name, layer.name)
        output = network.name_of(last) if network.name_of(last) != last else layer.name
        inputs = [names[name] for name in layer.inputs]
        function = next((a.function for a in plan if a.name == fused.get(layer.name)), "")
        is_dense = layer.op == "conv" and layer.groups == 1 and inputs[0] in flat
        write = _linear if is_dense else _LAYERS[layer.op]
        write(files, layer, inputs, output, _FUSED.get(function, ""))
        if write in (_linear, _global_pool) or (layer.op == "activation" and inputs[0] in flat):
            flat.add(output)
        if layer.op in ("conv", "linear"):
            folded = folded_weights(layer, weights)
            files.store(folded.weight, flagged=True)
            files.store(folded.bias, flagged=False)
        names[layer.name] = output
    return files.text(), bytes(files.weights)


def _with_splits(
    lines: list[tuple[str, str, list[str], list[str], str]],
) -> list[tuple[str, str, list[str], list[str], str]]:
    """Put a Split behind every blob with several readers; each reads a copy of its own."""
    counts: dict[str, int] = {}
    for _, _, inputs, _, _ in lines:
        for name in inputs:
            counts[name] = counts.get(name, 0) + 1
    taken = dict.fromkeys(counts, 0)
    written = []
    for kind, layer, inputs, outputs, parameters in lines:
        read = []
        for name in inputs:
            read.append(f"{name}/{taken[name]}" if counts[name] > 1 else name)
            taken[name] += 1
        written.append((kind, layer, read, outputs, parameters))
        for name in outputs:
            if counts.get(name, 0) > 1:
                copies = [f"{name}/{k}" for k in range(counts[name])]
                written.append(("Split", f"{name}/split", [name], copies, ""))
    return written


def _write_input(files: _Files, architecture: Architecture, preprocessing: Preprocessing) -> str:
    """Write uint8 levels -> normalised values and return what the first layer reads."""
    mean, deviation = input_levels(architecture, preprocessing)
    channels, height, width = architecture.input_shape
    files.layer("Input", [], IMAGE, f"0={width} 1={height} 2=3")
    source = IMAGE
    if channels == 1:  # the mean over RGB; 5=1: axes are counted as elsewhere
        files.layer("Reduction", [source], "input.grey", "0=3 1=0 -23303=1,0 4=1 5=1")
        source = "input.grey"
    files.layer("BatchNorm", [source], "input.normalised", f"0={channels} 1=0.0")
    for values in (np.ones(channels), mean, deviation**2, np.zeros(channels)):
        files.store(values, flagged=False)
    return "input.normalised"


def _conv(files: _Files, layer: Layer, inputs: list[str], output: str, fused: str) -> None:
    top, left, bottom, right = layer.padding
    count = layer.output_shape[0] * layer.input_shape[0] // layer.groups * layer.kernel_size**2
    parameters = (
        f"0={layer.output_shape[0]} 1={layer.kernel_size} 3={layer.stride} "
        f"4={left} 14={top} 15={right} 16={bottom} 5=1 6={count}"
    )
    grouped = f" 7={layer.groups}" if layer.groups > 1 else ""
    kind = "ConvolutionDepthWise" if grouped else "Convolution"
    files.layer(kind, inputs, output, f"{parameters}{grouped} {fused}".rstrip())


def _linear(files: _Files, layer: Layer, inputs: list[str], output: str, fused: str) -> None:
    outputs = layer.output_shape[0]
    count = outputs * int(np.prod(layer.input_shape))
    files.layer("InnerProduct", inputs, output, f"0={outputs} 1=1 2={count} {fused}".rstrip())


def _activation(files: _Files, layer: Layer, inputs: list[str], output: str, _fused: str) -> None:
    kind, parameters = _ACTIVATIONS[layer.function]
    files.layer(kind, inputs, output, parameters)


def _pool(files: _Files, layer: Layer, inputs: list[str], output: str, _fused: str) -> None:
    top, left, bottom, right = layer.padding
    average = int(layer.function == "average")
    files.layer(
        "Pooling",
        inputs,
        output,
        f"0={average} 1={layer.kernel_size} 2={layer.stride} 3={left} 13={top} 14={right} "
        f"15={bottom} 5=1 6=0",
    )


def _global_pool(files: _Files, _layer: Layer, inputs: list[str], output: str, _fused: str) -> None:
    files.layer("Pooling", inputs, output, "0=1 4=1")


def _pad(files: _Files, layer: Layer, inputs: list[str], output: str, _fused: str) -> None:
    added = layer.output_shape[0] - layer.input_shape[0]
    files.layer("Padding", inputs, output, f"4=0 5=0.0 7=0 8={added}")


def _resize(files: _Files, layer: Layer, inputs: list[str], output: str, _fused: str) -> None:
    files.layer("Interp", inputs, output, f"0=1 1={layer.factor}.0 2={layer.factor}.0")


def _select(files: _Files, layer: Layer, inputs: list[str], output: str, _fused: str) -> None:
    first, end = layer.first_channel, layer.first_channel + layer.output_shape[0]
    files.layer("Crop", inputs, output, f"-23309=1,{first} -23310=1,{end} -23311=1,0")


def _plain(kind: str, parameters: str) -> Callable[..., None]:
    def write(files: _Files, _layer: Layer, inputs: list[str], output: str, _fused: str) -> None:
        files.layer(kind, inputs, output, parameters)

    return write


def _shuffle(files: _Files, layer: Layer, inputs: list[str], output: str, _fused: str) -> None:
    files.layer("ShuffleChannel", inputs, output, f"0={layer.groups}")


_LAYERS: dict[str, Callable[[_Files, Layer, list[str], str, str], None]] = {
    "conv": _conv,
    "activation": _activation,
    "pool": _pool,
    "global_pool": _global_pool,
    "linear": _linear,
    "add": _plain("BinaryOp", "0=0"),
    "multiply": _plain("BinaryOp", "0=2"),
    "resize": _resize,
    "pad": _pad,
    "concat": _plain("Concat", "0=0"),
    "select": _select,
    "shuffle": _shuffle,
}
