"""`featherweight search`: the best network of a space that a device runs in time."""

from __future__ import annotations

import shlex
import sys
import time as clock
from typing import TYPE_CHECKING, Annotated

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
    Seed,
    Time,
    Workers,
)
from featherweight.readable import without_password

if TYPE_CHECKING:
    from featherweight.fitting.search_result import Searched

__all__ = ["search"]


def search(  # noqa: PLR0913 - one parameter per flag
    context: typer.Context,
    data: Data,
    space: Annotated[
        str,
        typer.Option(
            "--space", help="small, mnasnet, mnasnet_flat, nas_bench_macro, or FILE.yaml."
        ),
    ],
    latency: Annotated[str, typer.Option("--latency", help="Budget: 5ms or 200fps.")],
    trials: Annotated[int, typer.Option("--trials", help="Networks that are judged.")] = 30,
    on: On = DEFAULT_PLATFORM,
    sampler: Annotated[
        str,
        typer.Option("--sampler", help="predictor, evolution, random, tpe, nsga2 or ppo."),
    ] = "predictor",
    objective: Annotated[
        str,
        typer.Option(
            "--objective", help="hard: nothing too slow is trained; soft: MnasNet's reward."
        ),
    ] = "hard",
    weight: Annotated[
        str | None,
        typer.Option(
            "--weight", help="Exponent of soft: -0.07 (the default), or auto.", show_default=False
        ),
    ] = None,
    evaluator: Annotated[
        str,
        typer.Option(
            "--evaluator",
            help="How networks are judged: independent, inherited or super-network.",
        ),
    ] = "independent",
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt", help="Search for 15 % more milliseconds and take them off step by step."
        ),
    ] = False,
    time: Time = None,
    epochs: Epochs = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", help="Database of the study: sqlite:///FILE, postgresql://..."),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = "here",
    output_directory: Output = None,
    json: As_json = False,
) -> int:
    """Search a space for the best network that a device runs in time, train it and prove it.

    Exit code 0: the exported file keeps the budget. 3: it does not, or nothing is fast enough.
    The same command continues an interrupted run.
    """
    output.show_log(quiet=False)
    share_the_machine()
    from featherweight.fitting.search import search as search_space

    result = search_space(
        data,
        space=space,
        latency=latency,
        trials=trials,
        on=on,
        sampler=sampler,
        objective=objective,
        weight=weight,
        evaluator=evaluator,
        adapt=adapt,
        time=time,
        epochs=epochs,
        seed=seed,
        device=device,
        workers=workers,
        storage=storage,
        output=output_directory,
        command=without_password(shlex.join(["featherweight", *sys.argv[1:]])),
        spent_s=clock.monotonic() - context.obj,
    )
    if json:
        output.print_json(result.plain())
    else:
        lines = verdict_lines(result.fit.summary)
        found = result.searched
        if found is not None and found.trials:
            ends = f"{found.complete} judged, {found.slow} too slow, {found.failed} failed"
            lines = [f"trials: {ends}", *_how_lines(found), *lines]
        output.print_lines(lines)
    return 0 if result.met else 3


def _how_lines(found: Searched) -> list[str]:
    """Return what judged the networks, and whether steps followed."""
    lines = []
    if found.agreement is not None:
        one = found.agreement
        used = f"judged {found.foretold} networks" if found.is_cheap else "was not used"
        lines.append(
            f"evaluator: {used}; rank correlation with {one.networks} networks trained alone "
            f"{one.tau:.2f}, of multiply-adds {one.tau_of_macs:.2f}"
        )
    if found.refined:
        lines.append("steps: NetAdapt made the network of the best trial faster")
    return lines
