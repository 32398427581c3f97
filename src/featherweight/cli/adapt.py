"""`featherweight adapt`: a trained network, made fast enough."""

from __future__ import annotations

import shlex
import sys
import time as clock
from typing import Annotated

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
    Workers,
)

__all__ = ["adapt"]


def adapt(  # noqa: PLR0913 - one parameter per flag
    context: typer.Context,
    network: Parent,
    data: Data,
    latency: Annotated[
        str, typer.Option("--latency", help="Budget: 5ms, 200fps, or 70% of what it takes now.")
    ],
    on: On = DEFAULT_PLATFORM,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="auto, resolution, width, knapsack, depth or netadapt.",
        ),
    ] = "auto",
    importance: Annotated[
        str,
        typer.Option(
            "--importance",
            help="Which channels go: taylor, gradient, lasso, l2, redundancy or random.",
        ),
    ] = "taylor",
    pretrained: Parent_weights = None,
    time: Time = None,
    epochs: Epochs = None,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = "here",
    output_directory: Output = None,
    json: As_json = False,
) -> int:
    """Make a trained network fast enough for a latency, and prove it.

    Exit code 0: the exported file keeps the budget. 3: it does not, or no way reaches it.
    The same command continues an interrupted run.
    """
    output.show_log(quiet=False)
    share_the_machine()
    from featherweight.fitting.adapt import adapt as adapt_network

    result = adapt_network(
        network,
        data,
        latency=latency,
        on=on,
        method=method,
        importance=importance,
        pretrained=pretrained,
        time=time,
        epochs=epochs,
        seed=seed,
        device=device,
        workers=workers,
        output=output_directory,
        command=shlex.join(["featherweight", *sys.argv[1:]]),
        spent_s=clock.monotonic() - context.obj,
    )
    if json:
        output.print_json(result.plain())
    else:
        start = result.start
        output.print_lines(
            [
                f"start: {start.latency_ms:.3f} ms, val accuracy {start.accuracy:.3f}",
                f"way: {result.way or 'none'}",
                *verdict_lines(result.fit.summary),
            ]
        )
    return 0 if result.met else 3
