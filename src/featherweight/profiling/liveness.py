"""How much memory the activations of one picture need at the same time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from featherweight.layers import INPUT, Layer

__all__ = ["BYTES_PER_VALUE", "peak_activation_bytes"]

BYTES_PER_VALUE = 4
"""fp32."""


def peak_activation_bytes(network_layers: Sequence[Layer]) -> int:
    """Return the largest sum of activations alive at one time: fp32, one picture, layer order.

    A value lives from the layer that writes it to the last layer that reads it; the picture
    lives from the start, the logits to the end. While a layer runs, what it reads and what it
    writes are both alive. Norms are part of their convolution, and an activation works in place
    when nobody else reads its input, as runtimes do.
    """
    last_step = len(network_layers) - 1
    readers: dict[str, list[int]] = {}
    for step, layer in enumerate(network_layers):
        for name in layer.inputs:
            readers.setdefault(name, []).append(step)

    buffer_of = {INPUT: INPUT}
    sizes = {INPUT: math.prod(network_layers[0].input_shape)}
    first_step = {INPUT: 0}
    last_read = {INPUT: readers[INPUT][-1]}
    for step, layer in enumerate(network_layers):
        end = readers.get(layer.name, [last_step])[-1]
        source = layer.inputs[0]
        in_place = layer.op == "activation" and len(readers[source]) == 1 and source != INPUT
        buffer = buffer_of[source] if in_place else layer.name
        buffer_of[layer.name] = buffer
        if not in_place:
            sizes[buffer] = math.prod(layer.output_shape)
            first_step[buffer] = step
        last_read[buffer] = end

    change = [0] * (last_step + 2)
    for buffer, size in sizes.items():
        change[first_step[buffer]] += size
        change[last_read[buffer] + 1] -= size
    alive = peak = 0
    for difference in change:
        alive += difference
        peak = max(peak, alive)
    return peak * BYTES_PER_VALUE
