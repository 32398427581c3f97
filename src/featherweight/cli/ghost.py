"""`featherweight ghost`: ghost modules where the device is faster with them."""

from __future__ import annotations

import shlex
import sys
import time as clock
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from featherweight.cli import output
from featherweight.cli.busy import share_the_machine
from featherweight.cli.fit import verdict_lines
from featherweight.cli.options import (
    DEFAULT_PLATFORM,
    As_json,
    Data,
    Device,
    Epochs,
    On,
    Output,
    Parent,
    Parent_weights,
    Seed,
    Time,
)

if TYPE_CHECKING:
    from featherweight.fitting.ghost import GhostResult

__all__ = ["ghost"]


def ghost(  # noqa: PLR0913 - one parameter per flag
    context: typer.Context,
    network: Parent,
    data: Data,
    on: On = DEFAULT_PLATFORM,
    form: Annotated[
        str, typer.Option("--form", help="ghost (concatenated) or rep (one depthwise layer).")
    ] = "ghost",
    ratio: Annotated[
        int, typer.Option("--ratio", help="Channels of a map per channel that is convolved.")
    ] = 2,
    kernel_size: Annotated[
        int, typer.Option("--kernel-size", help="Side of the cheap filters, odd.")
    ] = 3,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="All layers that can be modules, faster or not.")
    ] = False,
    pretrained: Parent_weights = None,
    time: Time = None,
    epochs: Epochs = None,
    seed: Seed = 0,
    device: Device = "auto",
    output_directory: Output = None,
    json: As_json = False,
) -> int:
    """Put ghost modules in the place of dense convolutions where that is faster; train and prove.

    Exit code 0: the exported file is at least as fast as before. 3: it is not, or no layer becomes
    faster. The same command continues an interrupted run.
    """
    output.show_log(quiet=False)
    share_the_machine()
    from featherweight.fitting.ghost import ghost as ghost_network

    result = ghost_network(
        network,
        data,
        on=on,
        form=cast("Literal['ghost', 'rep']", form),
        ratio=ratio,
        kernel_size=kernel_size,
        everywhere=everywhere,
        pretrained=pretrained,
        time=time,
        epochs=epochs,
        seed=seed,
        device=device,
        output=output_directory,
        command=shlex.join(["featherweight", *sys.argv[1:]]),
        spent_s=clock.monotonic() - context.obj,
    )
    if json:
        output.print_json(result.plain())
    else:
        _show(result)
    return 0 if result.met else 3


def _show(result: GhostResult) -> None:
    output.print_table(
        ["layers of one shape", "how many", "MACs", "ms", "95 % interval", "module"],
        [
            [
                one.layers[0],
                str(len(one.layers)),
                f"{one.macs_ratio:.3f}",
                "-" if one.ratio is None else f"{one.ratio:.3f}",
                "-" if one.interval is None else f"{one.interval[0]:.3f}-{one.interval[1]:.3f}",
                "yes" if one.kept else "no",
            ]
            for one in result.ghosts.trials
        ],
    )
    lines = ["MACs and ms: of the whole network with those modules, over those without"]
    if result.measured_speed_up is None:
        lines.append("modules are not surely faster here, all together: nothing was changed")
    else:
        lines += [
            f"before: {result.start_ms:.3f} ms, val accuracy {result.start_accuracy:.3f}",
            f"speed-up in theory: {result.theoretical_speed_up:.2f}",
            f"speed-up measured, before the training: {result.measured_speed_up:.2f}",
            *verdict_lines(result.fit.summary),
        ]
    output.print_lines(lines)
