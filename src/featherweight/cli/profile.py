"""`featherweight profile`: count a network."""

from __future__ import annotations

from typing import Annotated

import typer

from featherweight.cli import output
from featherweight.cli.options import As_json

__all__ = ["profile"]


def profile(
    network: Annotated[str, typer.Argument(help="Network, e.g. mobilenet_v2:width=0.5")],
    json: As_json = False,
) -> None:
    """Count parameters, multiply-adds, exact FLOPs and peak activation memory."""
    from featherweight.networks.resolve import resolve_architecture
    from featherweight.profiling.profile import profile as profile_architecture

    counted = profile_architecture(resolve_architecture(network))
    if json:
        output.print_json(counted.model_dump(mode="json"))
        return
    rows = [
        [
            layer.name, layer.op, "x".join(str(side) for side in layer.output_shape),
            f"{layer.params:,}", f"{layer.macs:,}", f"{layer.flops:,}",
        ]
        for layer in counted.layers
    ]  # fmt: skip
    output.print_table(["layer", "op", "output", "params", "MACs", "FLOPs"], rows)
    output.print_lines(
        [
            (
                f"{counted.name} at {'x'.join(str(side) for side in counted.input_shape)}: "
                f"{counted.params:,} params, {counted.macs:,} MACs (multiply-adds), "
                f"{counted.flops:,} FLOPs (multiplications + additions), "
                f"peak activations {counted.peak_activation_bytes:,} bytes (fp32)"
            )
        ]
    )
