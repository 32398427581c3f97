"""`featherweight train`, `evaluate` and `predict`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from featherweight.cli import output
from featherweight.cli.busy import share_the_machine
from featherweight.cli.options import (
    As_json,
    Data,
    Device,
    Epochs,
    Output,
    Pretrained,
    Seed,
    Split_seed,
    Time,
)
from featherweight.errors import DataError
from featherweight.readable import figure_name

__all__ = ["evaluate", "predict", "train"]

_Trained = Annotated[Path, typer.Argument(help="Run directory of a trained network.")]


def train(  # noqa: PLR0913 - one parameter per flag
    data: Data,
    model: Annotated[str, typer.Option("--model", help="Network, e.g. mobilenet_v2:width=0.5")],
    time: Time = None,
    epochs: Epochs = None,
    pretrained: Pretrained = "none",
    teacher: Annotated[
        Path | None, typer.Option("--teacher", help="Run directory of a network to learn from.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    output_directory: Output = None,
    json: As_json = False,
) -> None:
    """Train one network; the same command continues an interrupted training."""
    output.show_log(quiet=False)
    share_the_machine()
    from featherweight.training.train import train as train_network

    trained = train_network(
        data,
        model=model,
        time=time,
        epochs=epochs,
        pretrained=pretrained,
        teacher=teacher,
        seed=seed,
        device=device,
        output=output_directory,
    )
    if json:
        output.print_json(trained.plain())
    else:
        output.print_lines(trained.lines())


def evaluate(
    network: _Trained,
    data: Data,
    split: Annotated[str, typer.Option("--split", help="train, val or test.")] = "test",
    seed: Split_seed = None,
    device: Device = "auto",
    json: As_json = False,
) -> None:
    """State a trained network's accuracy on one split."""
    output.show_log(quiet=True)
    from featherweight.training.predict import evaluate as evaluate_network

    found = evaluate_network(network, data=data, split=split, seed=seed, device=device)
    if json:
        output.print_json(found)
    else:
        output.print_lines([_in_words(found), *_by_class(found)])


def predict(
    network: _Trained,
    pictures: Annotated[list[Path], typer.Argument(help="Picture files, or folders of them.")],
    draw: Annotated[
        Path | None,
        typer.Option("--draw", help="Folder for the pictures with a detector's boxes."),
    ] = None,
    json: As_json = False,
) -> None:
    """Say what is on pictures."""
    from featherweight.training.predict import predict as predict_pictures

    found = predict_pictures(network, pictures=pictures, draw=draw)
    if json:
        output.print_json(found)
    else:
        films = [one for one in found if "frames" in one]
        output.print_lines(
            [
                f"{one['image']}: {len(one['frames'])} frames, {one['frames_per_s']:.1f} a second"
                + ("" if one["drawn"] is None else f", drawn: {one['drawn']}")
                + ("" if one["error"] is None else f"; {one['error']}")
                for one in films
            ]
        )
        pictures_said = [one for one in found if "frames" not in one]
        _print_pictures(pictures_said)
    if any(p["error"] is not None for p in found):
        raise typer.Exit(DataError.exit_code)


def _print_pictures(found: list[dict[str, Any]]) -> None:
    """Print a row for each picture."""
    if not found:
        return
    told = [name for name in found[0] if name not in ("image", "error")]
    output.print_table(
        ["picture", *told],
        [
            [p["image"], *(_show(p[name]) for name in told)]
            if p["error"] is None
            else [p["image"], *["-"] * (len(told) - 1), p["error"]]
            for p in found
        ],
    )


def _in_words(found: dict[str, Any]) -> str:
    """Return what `evaluate` found in a line: the metric first, the task's further figures last."""
    metric, *details = (name for name in found if name not in ("split", "interval", "n"))
    low, high = found["interval"]
    more = (
        f", {figure_name(detail)} {found[detail]:.3f}"
        for detail in details
        if isinstance(found[detail], float)
    )
    return (
        f"{figure_name(metric)} {found[metric]:.3f} on {found['n']} {found['split']} pictures "
        f"(95 % interval {low:.3f}-{high:.3f}){''.join(more)}"
    )


def _by_class(found: dict[str, Any]) -> list[str]:
    """Return what `evaluate` says of each class, where it does."""
    return [
        f"{name}: {'no objects' if value is None else f'{value:.3f}'}"
        for name, value in found.get("per_class", {}).items()
    ]


def _show(value: object) -> str:
    if isinstance(value, list):  # objects: how many there are of each class
        counts = Counter(one["label"] for one in value)
        return ", ".join(f"{count} {label}" for label, count in counts.most_common()) or "nothing"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
