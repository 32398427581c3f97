"""Flags that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featherweight.arguments import LARGEST_SEED

__all__ = [
    "As_json",
    "Data",
    "Device",
    "Epochs",
    "On",
    "Output",
    "Parent",
    "Parent_weights",
    "Pretrained",
    "Seed",
    "Split_seed",
    "Time",
    "Workers",
]

DEFAULT_PLATFORM = "local/onnxruntime:threads=1"

Data = Annotated[
    str, typer.Argument(help="Folder of class folders, Parquet file, or 'demo' (bundled digits).")
]
Parent = Annotated[
    str, typer.Argument(help="Run directory of a trained network; a name with --pretrained.")
]
Parent_weights = Annotated[
    str | None,
    typer.Option("--pretrained", help="Weights of a name: auto, torchvision or a file."),
]
On = Annotated[
    str, typer.Option("--on", help="Platform: DEVICE/RUNTIME[:threads=N,precision=fp32|int8].")
]
As_json = Annotated[
    bool, typer.Option("--json", help="Print data as JSON on stdout; talk goes to stderr.")
]
Output = Annotated[Path | None, typer.Option("--output", help="Directory to write to.")]
Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of everything that draws."),
]
Split_seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        max=LARGEST_SEED,
        help="Seed of the splits; by default the training's.",
        show_default=False,
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="Where training runs: auto, cpu, cuda or mps.")
]
Time = Annotated[
    str | None, typer.Option("--time", help="Wall clock of the whole command, such as 30m.")
]
Epochs = Annotated[
    int | None,
    typer.Option("--epochs", min=1, max=1_000_000, help="Epochs of training instead of --time."),
]
Pretrained = Annotated[
    str, typer.Option("--pretrained", help="auto, none, or with --model a file or torchvision.")
]
Workers = Annotated[
    str,
    typer.Option(
        "--workers",
        help="Where networks that are compared train: here, processes=N, ray or ray://HOST:PORT.",
    ),
]
