"""What comparisons on photographs share: a part of the data, a training to its file, pairs."""

from __future__ import annotations

import hashlib
import platform as host
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from featherweight.architecture import Architecture
from featherweight.data.images import ImageData, ImageSplit
from featherweight.exporting.export import export_network
from featherweight.exporting.file_features import emitting
from featherweight.exporting.platforms import parse_platform
from featherweight.exporting.verify import network_answers, verify_artifact
from featherweight.fitting.linear_start import fit_classifier
from featherweight.measuring.bench import export_untrained
from featherweight.measuring.latency import measure_artifacts
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import Network
from featherweight.runtimes.answers import load_answers
from featherweight.runtimes.artifact import Artifact
from featherweight.tasks.classification import cross_entropy
from featherweight.training.evaluate import TrainingImages
from featherweight.training.fake_quantisation import observe_levels
from featherweight.training.loop import train_network
from featherweight.training.objective import OBJECTIVES
from featherweight.training.pixels import PixelStore
from featherweight.training.recipe import Recipe, int8_recipe
from featherweight.training.start import save_classifier, with_classifier

__all__ = [
    "Trained",
    "about",
    "fine_tune",
    "largest",
    "paired_difference",
    "part_of",
    "split_of",
    "start_linear",
]


def part_of(images: ImageData, *, share: float, seed: int) -> ImageData:
    """Return the data with a stratified part of its train split."""
    train = images.splits["train"]
    generator = np.random.default_rng([seed, 4])
    kept: list[int] = []
    for label in range(len(images.classes)):
        rows = generator.permutation(np.flatnonzero(train.targets == label))
        kept += rows[: max(2, round(share * len(rows)))].tolist()
    kept.sort()
    part = split_of((train, kept))
    digest = hashlib.sha256(f"{images.fingerprint} {kept}".encode()).hexdigest()
    return replace(images, splits={**images.splits, "train": part}, fingerprint=digest)


def split_of(*chosen: tuple[ImageSplit, Sequence[int]]) -> ImageSplit:
    """Return these rows of these splits as one split."""
    places = [(split, row) for split, rows in chosen for row in rows]
    return ImageSplit(
        paths_or_bytes=[split.paths_or_bytes[row] for split, row in places],
        targets=np.array([split.targets[row] for split, row in places], dtype=np.int64),
        names=tuple(split.names[row] for split, row in places),
        inspections=tuple(split.inspections[row] for split, row in places),
    )


def start_linear(network: Network, store: PixelStore, preprocessing: Preprocessing) -> Network:
    """Return the network with the classifier that suits its features, as a fit starts with."""
    rows = np.arange(len(store.data.splits["train"]))
    images = store.centres(network.architecture.resolution, preprocessing, rows=rows)
    answers = network_answers(emitting(network), images.pixels, preprocessing=preprocessing)
    found = fit_classifier(
        answers["logits"],
        images.targets,
        outputs=len(store.data.classes),
        objective=OBJECTIVES[images.task],
    )
    with tempfile.TemporaryDirectory() as folder:
        save_classifier(Path(folder) / "start.safetensors", *found)
        return with_classifier(network, Path(folder) / "start.safetensors")


def largest(
    draw: Callable[[float], Architecture], values: Sequence[float], *, budget_ms: float, on: str
) -> tuple[float, dict[float, float]]:
    """Return the largest value whose median is within the budget, and all medians in ms."""
    platform = parse_platform(on)
    with tempfile.TemporaryDirectory() as folder:
        files = [
            export_untrained(draw(value), platform=platform, out=Path(folder) / str(value))
            for value in values
        ]
        measured = measure_artifacts(
            files,
            platform=platform,
            names=[str(value) for value in values],
            samples=100,
            max_s_each=3.0,
            repeat_disturbed=False,
        )
    medians = {value: one.median_ms for value, one in zip(values, measured, strict=True)}
    fitting = [value for value in values if medians[value] <= budget_ms]
    if not fitting:
        raise SystemExit(
            f"no value fits {budget_ms} ms on {on}; the least took {min(medians.values()):.3f} ms"
        )
    return max(fitting), medians


@dataclass(frozen=True)
class Trained:
    """A network with what its training and its file came to."""

    network: Network
    found: dict[str, Any]


def fine_tune(
    start: Network,
    *,
    store: PixelStore,
    recipe: Recipe,
    preprocessing: Preprocessing,
    on: str,
    teacher: Network | None = None,
    finish_epochs: int = 0,
) -> Trained:
    """Train a network, export it for a platform and check the file on the test split.

    With `finish_epochs` it goes on in int8 as a fit does (`fitting.stages.int8_finetune`), and what
    has the lower loss of its file on val is kept.
    """
    platform, classes = parse_platform(on), store.data.classes
    resolution = start.architecture.resolution
    calibration = store.calibration(resolution, preprocessing, seed=recipe.seed)
    pictures = store.train(resolution, preprocessing, teacher=teacher)
    val = store.held_out("val", resolution, preprocessing)
    with tempfile.TemporaryDirectory() as folder:

        def export(network: Network, name: str) -> Artifact:
            return export_network(
                network,
                runtime=platform.runtime,
                precision=platform.precision,
                out=Path(folder) / name,
                preprocessing=preprocessing,
                labels=classes,
                calibration=calibration,
            )

        result = train_network(
            start,
            train=pictures,
            val=val,
            recipe=recipe,
            preprocessing=preprocessing,
            directory=Path(folder) / "training",
            teacher=teacher,
        )
        network, artifact = result.network, export(result.network, "trained")
        found: dict[str, Any] = {
            "seed": recipe.seed,
            "learning_rate": recipe.learning_rate,
            "images_seen": result.history[-1].images_seen,
            "seconds": result.seconds,
            "val_loss": result.best.val_loss,
            "val_accuracy": result.best.val_accuracy,
        }
        if finish_epochs:
            levels = observe_levels(network, calibration, preprocessing=preprocessing)
            more = train_network(
                network,
                train=pictures,
                val=val,
                preprocessing=preprocessing,
                recipe=int8_recipe(recipe, epochs=finish_epochs),
                teacher=network,
                directory=Path(folder) / "finish",
                levels=levels,
            )
            finished = export(more.network, "finished")
            losses = [file_loss(one, val) for one in (artifact, finished)]
            found["images_seen"] += more.history[-1].images_seen
            found["seconds"] += more.seconds
            found["val_loss_of_the_file"] = losses
            if losses[1] < losses[0]:
                network, artifact = more.network, finished
        test = store.held_out("test", resolution, preprocessing)
        checked = verify_artifact(
            artifact, network, images=test.pixels, targets=test.targets, split="test"
        )
    found |= {"test_accuracy_of_the_file": checked.accuracy, "n": checked.n}
    return Trained(network, found)


def file_loss(artifact: Artifact, images: TrainingImages) -> float:
    """Return the mean cross entropy of a file's answers."""
    return float(
        cross_entropy(load_answers(artifact)(images.pixels)["logits"], images.targets).mean()
    )


def paired_difference(
    ours: Sequence[dict[str, Any]],
    others: Sequence[dict[str, Any]],
    *,
    key: str = "test_accuracy_of_the_file",
) -> dict[str, Any]:
    """Return ours minus the others' accuracy, paired by seed, with Student's 95 % interval."""
    values = [one[key] - other[key] for one, other in zip(ours, others, strict=True)]
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return {"mean": mean, "interval": None, "seeds": count}
    half = float(student.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5)
    return {"mean": mean, "interval": (mean - half, mean + half), "seeds": count}


def code() -> str | None:
    """Return git's name of the content of src, with a + where it was changed since.

    The name of the content, and not of a commit: it stays when commits are reworded or joined.
    """
    place = Path(__file__).parent.parent
    names = [
        subprocess.run(["git", *words], cwd=place, capture_output=True, text=True, check=False)
        for words in (["rev-parse", "HEAD:src"], ["status", "--porcelain", "src"])
    ]
    if any(one.returncode != 0 for one in names):
        return None
    return names[0].stdout.strip()[:12] + ("+" if names[1].stdout else "")


def about(on: str) -> dict[str, Any]:
    """Return when, on what and with which code and versions something was found."""
    return {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code(),
        "machine": host.platform(),
        "versions": {
            name: version(name) for name in ("featherweight", "torch", "onnxruntime", "numpy")
        },
        "on": on,
    }
