"""`featherweight guidelines`: why a network is slow on a platform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featherweight.cli import output
from featherweight.cli.options import DEFAULT_PLATFORM, As_json, On, Seed
from featherweight.cli.pages import Plot, check_plot, write_plot

if TYPE_CHECKING:
    from featherweight.advising.advice import Advice, Finding
    from featherweight.advising.experiment import Experiment

__all__ = ["guidelines"]


def guidelines(
    network: Annotated[
        str | None, typer.Argument(help="Network: a name, a run directory or an .onnx file.")
    ] = None,
    on: On = DEFAULT_PLATFORM,
    variants: Annotated[
        Path | None,
        typer.Option("--variants", help="Folder for the network after each finding, to train."),
    ] = None,
    experiment: Annotated[
        bool,
        typer.Option("--experiment", help="ShuffleNetV2's four tables on the platform instead."),
    ] = False,
    plot: Plot = None,
    seed: Seed = 0,
    json: As_json = False,
) -> None:
    """Say what makes a network slow on a platform, and what each change saves, measured."""
    from featherweight.errors import UsageError
    from featherweight.reporting.guidelines import render_experiment, render_guidelines

    output.show_log(quiet=False)
    check_plot(plot, example="guidelines.html")
    if experiment:
        from featherweight.advising.experiment import run_experiment

        if network is not None:
            raise UsageError(
                f"--experiment was given together with the network {network!r}",
                allowed="one of them: the experiment has networks of its own",
            )
        found = run_experiment(on=on, seed=seed)
        if json:
            output.print_json(found.model_dump(mode="json"))
        else:
            _print_experiment(found)
        write_plot(plot, lambda: render_experiment(found), say=not json)
        return
    if network is None:
        raise UsageError(
            "no network was given",
            allowed="a network, or --experiment",
            hint="see featherweight models",
        )
    from featherweight.advising.guidelines import guidelines as advise

    advice = advise(network, on=on, variants=variants, seed=seed)
    if json:
        output.print_json(advice.model_dump(mode="json"))
    else:
        _print_advice(advice)
    write_plot(plot, lambda: render_guidelines(advice), say=not json)


def _print_advice(advice: Advice) -> None:
    lines = [
        f"{advice.network} on {advice.platform}: {advice.median_ms:.3f} ms",
        f"two files of it differ by up to {advice.noise:.1%}",
    ]
    if not advice.findings:
        lines.append("no change at equal multiply-adds makes it surely faster")
    output.print_lines(lines)
    if advice.findings:
        output.print_table(
            ["rule", "saves ms", "of all", "95 % interval", "its ms", "where"],
            [_row(one) for one in advice.findings],
        )
    output.print_lines(
        [
            f"{one.guideline} at {one.layer}: {one.finding}. Instead: {one.advice}."
            for one in advice.findings
        ]
    )
    output.print_lines(_notes(advice))


def _notes(advice: Advice) -> list[str]:
    notes = list(advice.notes)
    if advice.findings:
        notes.append("every change was measured alone, at equal multiply-adds; nothing was trained")
    if advice.untouched:
        rules = ", ".join(sorted({one.guideline for one in advice.untouched}))
        notes.append(f"{len(advice.untouched)} other changes gain nothing that is sure: {rules}")
    if advice.costs_by == "absence" and advice.findings:
        notes.append(
            "the runtime does not say what a layer takes: its ms is what the network takes less "
            "with next to nothing in its place"
        )
    return notes


def _row(one: Finding) -> list[str]:
    low, high = one.ratio_interval
    return [
        one.guideline,
        f"{one.saved_ms:.3f}",
        f"{1 - one.ratio:.1%}",
        f"{1 - high:.1%} to {1 - low:.1%}",
        "-" if one.cost_ms is None else f"{one.cost_ms:.3f}",
        one.layer,
    ]


def _print_experiment(found: Experiment) -> None:
    output.print_table(
        ["table", "row", "widths", "MACs", "ms", "ms per work", "95 % interval", "in the paper"],
        [
            [
                one.guideline,
                one.setting,
                f"x{one.multiple}",
                f"{one.macs:,}",
                f"{one.ms:.3f}",
                f"{one.ratio:.2f}",
                f"{one.interval[0]:.2f}-{one.interval[1]:.2f}",
                f"{one.published_ratio:.2f}",
            ]
            for one in found.trials
        ],
    )
    output.print_lines(
        [
            f"{one.guideline}: {one.slower} of {one.of} that break it are surely slower for their "
            f"work, {one.faster} surely faster; rank correlation with the paper "
            f"{one.rank_correlation:+.2f}"
            for one in found.results
        ]
    )
