"""Train one network on pictures: the verb `train`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherweight.architecture import Architecture
from featherweight.arguments import check_seed, optional_path, to_data, to_path
from featherweight.budget import parse_duration_s
from featherweight.detection.table import DETECTION
from featherweight.errors import UsageError
from featherweight.exporting.verify import network_answers
from featherweight.networks.modules import AnyNetwork
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.storage import (
    StoredNetwork,
    load_network,
    read_network_record,
    save_network,
)
from featherweight.nn.network import build_network
from featherweight.readable import figure_name
from featherweight.records import read_json
from featherweight.run_directory import RunDirectory, open_run
from featherweight.run_record import named_content
from featherweight.tasks.detection_findings import write_findings
from featherweight.tasks.task import TASKS, load_data
from featherweight.training.beginning import Beginning, Length, begin
from featherweight.training.compute import choose_device
from featherweight.training.loop import train_network
from featherweight.training.pixels import PixelStore, open_store
from featherweight.training.predict import evaluate
from featherweight.training.progress import ProgressLog
from featherweight.training.start import kept_first_weights, suit_to_pictures

__all__ = ["TrainSummary", "train"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainSummary:
    """What `train` hands back; `run_directory` can be given wherever a network is asked for.

    Attributes:
        run_directory: of the network.
        split: which pictures were asked.
        metric: what `accuracy` is called: the mean score of the task.
        accuracy: that figure, in 0..1.
        interval: its 95 % interval.
        n: number of pictures.
        details: further figures of the task, such as `top5`.
        epochs: passes over the training pictures.
        images_per_s: median over the epochs.
        pretrained: where the first weights came from.
    """

    run_directory: Path
    split: str
    metric: str
    accuracy: float
    interval: tuple[float, float]
    n: int
    details: dict[str, float]
    epochs: int
    images_per_s: float
    pretrained: str

    def plain(self) -> dict[str, Any]:
        """Return the JSON of `train --json`."""
        return {
            "run_directory": str(self.run_directory),
            "split": self.split,
            self.metric: self.accuracy,
            "interval": self.interval,
            "n": self.n,
            **self.details,
            "epochs": self.epochs,
            "images_per_s": self.images_per_s,
            "pretrained": self.pretrained,
        }

    def lines(self) -> list[str]:
        """Return what a person reads."""
        low, high = self.interval
        return [
            (
                f"{figure_name(self.metric)} "
                f"{self.accuracy:.3f} "
                f"on {self.n} {self.split} pictures "
                f"(95 % interval {low:.3f}-{high:.3f}) after {self.epochs} epochs, "
                f"{self.images_per_s:.0f} pictures/s"
            ),
            f"start: {'scratch' if self.pretrained == 'none' else self.pretrained}",
            f"network: {self.run_directory}",
        ]


def train(  # noqa: PLR0913 - the parameters of the command
    data: str | Path,
    *,
    model: str,
    time: str | float | None = None,
    epochs: int | None = None,
    pretrained: str = "none",
    teacher: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    output: str | Path | None = None,
    runs: str | Path = "runs",
) -> TrainSummary:
    """Train a network on pictures and state its accuracy on val.

    The test split stays unread; `evaluate` reads it when you ask. The same call continues an
    interrupted training.

    Args:
        data: folder of class folders, Parquet file, or `demo`.
        model: zoo name with settings; classes come from the data, and small pictures set the
            resolution unless it is given.
        time: wall clock as text or seconds; or `epochs`. Neither = what suits the data.
        epochs: passes over the training pictures.
        pretrained: `none`, `auto` (installed weights) or a weights file.
        teacher: run directory of a network to learn from.
        seed: of everything that draws.
        device: auto, cpu, cuda or mps.
        output: run directory.
        runs: where run directories are made.

    Raises:
        UsageError: bad data, names or units.
        FailedError: the loss stopped being finite, or the disk is full.
    """
    if time is not None and epochs is not None:
        raise UsageError("both --time and --epochs were given", allowed="one of them")
    choose_device(device)  # a device that is not there is refused before anything is read
    check_seed(seed)
    seconds = None if time is None else parse_duration_s(time)
    teacher, output = optional_path(teacher, name="teacher"), optional_path(output, name="output")
    stored = None if teacher is None else load_network(teacher)
    images = load_data(to_data(data), seed=seed)
    if stored is not None and stored.task != images.task:
        raise UsageError(f"the teacher was trained for {stored.task}", allowed=images.task)
    store = open_store(images)
    beginning = begin(
        model,
        images,
        small=store.small,
        pretrained=pretrained,
        taught=teacher is not None,
        length=Length(epochs, seconds),
        seed=seed,
    )
    given = {"data": str(data), "model": model, "pretrained": pretrained}
    if teacher is not None:
        given["teacher"] = str(teacher)
    identity = {
        "model": named_content(model),
        "seed": seed,
        "recipe": beginning.recipe.model_dump(mode="json"),
        "pretrained": named_content(pretrained),
        "teacher": None
        if teacher is None
        else named_content(str(teacher), files=("network.json",)),
        "fingerprint": images.fingerprint,
    }
    with open_run(
        output,
        parent=to_path(runs, name="runs"),
        identity=identity,
        command=f"train {model}",
        name=f"train-{images.name}",
        given=given,
    ) as run:
        if not run.finished:
            _learn(
                run,
                beginning,
                store,
                stored,
                data=data,
                device=device,
                log=ProgressLog(model, logger=logger, metric=TASKS[images.task].metric),
                pretrained=pretrained,
            )
        return _read_summary(run.path)


def _learn(
    run: RunDirectory,
    beginning: Beginning,
    store: PixelStore,
    teacher: StoredNetwork | None,
    *,
    data: str | Path,
    device: str,
    log: ProgressLog,
    pretrained: str,
) -> None:
    """Train, save and judge a network, and finish the run."""
    architecture, preprocessing, recipe, network = beginning
    imitated = None if teacher is None else teacher.network
    pictures = store.train(architecture.resolution, preprocessing, teacher=imitated)
    if network is None:
        assert isinstance(architecture, Architecture)
        network = kept_first_weights(
            run.path,
            lambda: suit_to_pictures(
                build_network(architecture, seed=recipe.seed),
                pictures,
                preprocessing=preprocessing,
            ),
        )
    result = train_network(
        network,
        train=pictures,
        val=store.held_out("val", architecture.resolution, preprocessing),
        recipe=recipe,
        preprocessing=preprocessing,
        directory=run.path,
        teacher=imitated,
        teacher_preprocessing=None if teacher is None else teacher.preprocessing,
        device=device,
        progress=log.epoch,
        tick=log.tick,
    )
    save_network(
        result.network,
        run.path,
        preprocessing=preprocessing,
        classes=store.data.classes,
        task=store.data.task,
    )
    if store.data.task == DETECTION:
        _show_found(run, store, result.network, preprocessing)
    evaluated = evaluate(run.path, data=data, split="val", seed=recipe.seed, device=device)
    speed = sorted(epoch.images_per_s for epoch in result.history)
    run.finish(
        {
            **evaluated,
            "epochs": len(result.history),
            "images_per_s": speed[len(speed) // 2],
            "pretrained": pretrained,
        }
    )


def _show_found(
    run: RunDirectory, store: PixelStore, network: AnyNetwork, preprocessing: Preprocessing
) -> None:
    """Write down for the report what a detector finds on val."""
    val = store.held_out("val", network.architecture.resolution, preprocessing)
    write_findings(
        network_answers(network, val.pixels, preprocessing=preprocessing),
        store.data,
        split="val",
        pixels=val.pixels,
        folder=run.path,
    )


def _read_summary(path: Path) -> TrainSummary:
    plain = read_json(path / "summary.json")
    metric = TASKS[read_network_record(path).task].metric
    own = {"schema_version", "split", metric, "interval", "n"}
    own |= {"epochs", "images_per_s", "pretrained"}
    return TrainSummary(
        run_directory=path,
        split=plain["split"],
        metric=metric,
        accuracy=plain[metric],
        interval=(plain["interval"][0], plain["interval"][1]),
        n=plain["n"],
        details={name: value for name, value in plain.items() if name not in own},
        epochs=plain["epochs"],
        images_per_s=plain["images_per_s"],
        pretrained=plain.get("pretrained", "none"),  # absent from runs of earlier versions
    )
