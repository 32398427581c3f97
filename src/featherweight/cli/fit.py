"""`featherweight fit`: the main job."""

from __future__ import annotations

import shlex
import sys
import time as clock
from pathlib import Path
from typing import Annotated

import typer

from featherweight.cli import output
from featherweight.cli.busy import share_the_machine
from featherweight.cli.options import (
    DEFAULT_PLATFORM,
    As_json,
    Device,
    Epochs,
    Output,
    Pretrained,
    Seed,
    Time,
    Workers,
)
from featherweight.readable import figure_name
from featherweight.reporting.run import FitSummary

__all__ = ["fit", "verdict_lines"]

_VERDICTS = {"met": "MET", "too_inaccurate": "TOO INACCURATE", "not_met": "NOT MET"}


def fit(  # noqa: PLR0913 - one parameter per flag
    context: typer.Context,
    latency: Annotated[str, typer.Option("--latency", help="Budget: 5ms, 5000us or 200fps.")],
    data: Annotated[
        str | None,
        typer.Argument(
            help="Folder of class folders, Parquet file, or 'demo' (bundled digits).",
            show_default=False,
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            help="Platform: DEVICE/RUNTIME[:threads=N,precision=fp32|int8].",
            show_default=DEFAULT_PLATFORM,
        ),
    ] = None,
    time: Time = None,
    epochs: Epochs = None,
    model: Annotated[str | None, typer.Option("--model", help="Fit only this network.")] = None,
    pretrained: Pretrained = "auto",
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", help="What may ship: fp32, int8 (repeat; default both)."),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            help="accuracy, or balanced_accuracy: every class counts the same in all choices.",
        ),
    ] = "accuracy",
    min_accuracy: Annotated[
        str | None,
        typer.Option(
            "--min-accuracy",
            help="Least accuracy of the file on test, 0.8 or 80%; below it the verdict is TOO "
            "INACCURATE. Without it the file must answer better than by guessing.",
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = "here",
    from_run: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Run directory of an earlier fit: its networks answer the new budget or platform "
            "in a minute or two, only classifiers are fitted again; DATA is left out.",
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say first where the time of --time goes.")
    ] = False,
    output_directory: Output = None,
    json: As_json = False,
) -> int:
    """Train, export, measure and verify the best network for a latency budget.

    Exit code 0: the exported file keeps the budget and answers better than by guessing. 3: it does
    not, or no network can.
    The same command continues an interrupted run.
    """
    output.show_log(quiet=False)
    share_the_machine()
    from featherweight.fitting.fit import fit as fit_network

    result = fit_network(
        data,
        latency=latency,
        on=on,
        time=time,
        epochs=epochs,
        model=model,
        pretrained=pretrained,
        precisions=tuple(precision) if precision else None,
        metric=metric,
        min_accuracy=min_accuracy,
        seed=seed,
        device=device,
        workers=workers,
        from_run=from_run,
        output=output_directory,
        show_plan=plan,
        command=shlex.join(["featherweight", *sys.argv[1:]]),
        spent_s=clock.monotonic() - context.obj,
    )
    if json:
        output.print_json(result.summary.model_dump(mode="json"))
    else:
        output.print_lines(verdict_lines(result.summary))
    return 0 if result.met else 3


def verdict_lines(summary: FitSummary) -> list[str]:
    """Return the answer of a run, for people."""
    budget = f"budget {summary.budget.latency_ms:g} ms on {summary.platform}"
    if summary.verdict == "infeasible":
        return [
            f"INFEASIBLE: {budget}",
            f"nearest feasible: --latency {_nearest(summary)}",
            f"report: {summary.run_directory}/report.html",
        ]
    lines = [f"{_VERDICTS[summary.verdict]}: {budget}"]
    if summary.shortfall is not None:
        lines.append(_why_too_inaccurate(summary))
    if summary.measured is not None:
        low, high = summary.measured.interval_ms
        lines.append(
            f"measured: median {summary.measured.median_ms:.3f} ms "
            f"(95 % interval {low:.3f}-{high:.3f}), {summary.utilisation:.0%} of the budget"
        )
    if summary.accuracy is not None:
        low, high = summary.accuracy.interval
        balanced = summary.balanced_accuracy
        lines.append(
            f"{figure_name(summary.metric)} of the file: {summary.accuracy.artifact:.3f} on "
            f"{summary.accuracy.n} {summary.accuracy.split} pictures (95 % interval "
            f"{low:.3f}-{high:.3f})"
            + ("" if balanced is None else f", balanced {balanced:.3f}")
            + "".join(
                f", {figure_name(name)} {value:.3f}"
                for name, value in summary.details.items()
                if name.startswith("ap")
            )
        )
    if summary.verdict == "not_met" and summary.nearest_feasible_ms is not None:
        lines.append(f"nearest feasible: --latency {_nearest(summary)}")
    load = summary.foreign_cpu_share
    lines += [
        (
            f"network: {summary.network} {summary.precision}, start: "
            f"{summary.pretrained or 'scratch (no ImageNet weights)'}"
        ),
        (
            f"training: {summary.images_seen} pictures seen, {summary.images_per_s or 0:.0f}/s, "
            f"foreign CPU load {'unknown' if load is None else f'{load:.0%}'}, "
            f"{summary.seconds or 0:.0f} s in all"
        ),
        f"file: {summary.run_directory}/{summary.artifact}",
    ]
    if summary.bundle is not None:
        lines.append(f"bundle for the device: {summary.run_directory}/{summary.bundle}")
    return [*lines, f"report: {summary.run_directory}/report.html"]


def _why_too_inaccurate(summary: FitSummary) -> str:
    least = f"the {summary.min_accuracy} that was asked for"
    if summary.shortfall == "guessing" and "ap50" in summary.details:
        least = f"{summary.commonest_class:.2f}, or too near to it: next to nothing is found"
    elif summary.shortfall == "guessing":
        least = (
            f"that of always answering with the commonest class ({summary.commonest_class:.3f}), "
            "or too near to it"
        )
    return (
        f"{summary.metric.replace('_', ' ')} below {least}: give it more --time or more pictures, "
        "or look at them with featherweight data check"
    )


def _nearest(summary: FitSummary) -> str:
    """Return the least budget that should be met, 7 % above what was measured, as a flag."""
    return f"{1.07 * (summary.nearest_feasible_ms or 0.0):.3g}ms"
