"""What comparisons of ways to make one network faster share: the ways of `adapt`, pairs of rows.

A run directory a budget, so that a cut loses nothing; every training is one row.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.adapting.pictures import PictureSet
from featherweight.data.images import ImageData
from featherweight.exporting.platforms import parse_platform
from featherweight.fitting.candidate import Candidate, Trained
from featherweight.fitting.context import FitContext, open_context
from featherweight.fitting.families import stored_family
from featherweight.fitting.parent import Parent, as_candidate
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages.start import start
from featherweight.fitting.stages.ways import make_smaller
from featherweight.fitting.steps_file import StepsFile
from featherweight.fitting.time_plan import TimePlan
from featherweight.measuring.bench import Untrained
from featherweight.measuring.latency import measure_artifacts
from featherweight.measuring.measurement import latencies_in_turns
from featherweight.networks.storage import load_network
from featherweight.nn.network import Network
from featherweight.parallel import HERE, open_executor
from featherweight.run_directory import open_run
from featherweight.runtimes.answers import load_answers
from featherweight.runtimes.artifact import Artifact, read_artifact
from featherweight.tasks.classification import cross_entropy
from featherweight.training.loop import train_network
from featherweight.training.recipe import Recipe

__all__ = [
    "Ground",
    "Made",
    "as_row",
    "auto_of",
    "beside_parent",
    "clock_files",
    "cost_of",
    "never_slower",
    "opened",
    "paired",
    "peak_mib",
    "pictures_of",
    "read_rows",
    "smaller",
    "trained_row",
]


@dataclass(frozen=True)
class Ground:
    """Where the ways start from, at one budget.

    Attributes:
        context: of the run.
        first: the parent as it was measured.
        target_ms: what every way must meet.
    """

    context: FitContext
    first: Trained
    target_ms: float

    @property
    def parent(self) -> Network:
        """The trained network."""
        return self.context.trainer.load(self.first.candidate, self.first.phase).network


@dataclass(frozen=True)
class Made:
    """A network that meets a budget, before its training.

    Attributes:
        way: its name.
        folder: of the network.
        latency_ms: as it was measured on the way.
        screened: loss on the hold-out after a few steps; `None` = it was not screened.
    """

    way: str
    folder: str
    latency_ms: float
    screened: float | None = None


@contextmanager
def opened(
    work: Path, images: ImageData, parent: Parent, *, on: str, share: float, epochs: int
) -> Iterator[Ground]:
    """Open the run of one budget; what it has done already is read back."""
    platform = parse_platform(on)
    settings = FitSettings(
        data=images.name,
        latency_ms=1.0,
        platform=str(platform.with_precision("fp32")),
        epochs=epochs,
        precisions=(platform.precision,),
    )
    with (
        open_run(work / f"share-{share:g}", identity={"share": share}, command="-") as run,
        open_executor(HERE) as executor,
    ):
        plan = TimePlan.of(settings, spent_s=0.0, small=False)
        context = open_context(run, images, settings, plan=plan, workers=executor)
        candidate, phase = as_candidate(parent, run=run.path, precision=platform.precision)
        first = start(context, candidate, phase)
        target_ms = share * first.measured.latency.median_ms
        budget = settings.model_copy(update={"latency_ms": target_ms / context.samples.margin})
        context = open_context(run, images, budget, plan=plan, workers=executor)
        yield Ground(context, first, target_ms)


def smaller(
    ground: Ground, ways: Sequence[str], *, path_s: float, importance: str = "taylor"
) -> list[Made]:
    """Go the ways of `adapt`; note what they took the first time."""
    work = ground.context.run.path
    started = time.monotonic()
    found, _ = make_smaller(
        ground.context, ground.first, ways, importance=importance, path_s=path_s
    )
    cost = work / "cost.json"
    if not cost.exists():
        seconds = time.monotonic() - started
        cost.write_text(json.dumps({"path_s": seconds, "peak_mib": peak_mib()}))
    return [
        Made(one.way, str(work / str(one.folder)), measured.latency.median_ms, one.loss)
        for one, measured in found
    ]


def pictures_of(ground: Ground, count: int) -> PictureSet:
    """Return training pictures as the parent takes them."""
    trainer, first = ground.context.trainer, ground.first.candidate
    order = np.random.default_rng([ground.context.seed, 10]).permutation(trainer.count("train"))
    held = trainer.store.held_out(
        "train", first.resolution, first.family.preprocessing, rows=np.sort(order[:count])
    )
    return PictureSet.of(held, first.family.preprocessing, seed=0)


def beside_parent(ground: Ground, network: Network) -> float:
    """Return a network's ms, as on the machine of the start."""
    wanted = [
        Untrained(one.architecture.name, one.architecture, ground.first.candidate.precision)
        for one in (ground.parent, network)
    ]
    place = ground.context.run.path / "artifacts" / "peer"
    own, other = latencies_in_turns(ground.context.measure(wanted, place, 120))
    return ground.first.measured.latency.median_ms * other.median_ms / own.median_ms


def cost_of(ground: Ground) -> dict[str, Any]:
    """Return what the ways took: seconds, and the peak of memory so far in MiB."""
    found: dict[str, Any] = json.loads((ground.context.run.path / "cost.json").read_text())
    return found


def peak_mib() -> float:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def trained_row(
    ground: Ground,
    made: Made,
    *,
    seed: int,
    epochs: int,
    files: Path,
    start_from: Callable[[Network], Network] = lambda network: network,
    recipe: Callable[[Recipe], Recipe] = lambda recipe: recipe,
    test: slice = slice(None),
) -> dict[str, Any]:
    """Train what a way made, taught by the parent; export it and ask the file about val and test.

    Args:
        ground: of the budget.
        made: what is trained.
        seed: of order and augmentation.
        epochs: of the training.
        files: where the file goes, and the answers on test (right or not, one a picture).
        start_from: the network that is trained, from the one that was made.
        recipe: of the training, from that of `adapt`.
        test: pictures of test that are asked.
    """
    trainer = ground.context.trainer
    precision = ground.first.candidate.precision
    source = ground.first.candidate.family.source
    family, size = stored_family(Path(made.folder), source=source, weights_of="")
    candidate = Candidate(family.up_to(size), size, precision)
    network = start_from(load_network(Path(made.folder)).network)
    resolution, preprocessing = candidate.resolution, family.preprocessing
    own = trainer.recipe(candidate, time_s=None, epochs=epochs, distillation=True)
    teacher = ground.parent
    started = time.monotonic()
    name = f"{made.way}-{seed}"
    result = train_network(
        network,
        train=trainer.store.train(resolution, preprocessing, teacher=teacher),
        val=trainer.store.held_out("val", resolution, preprocessing),
        recipe=recipe(own.model_copy(update={"seed": seed})),
        preprocessing=preprocessing,
        directory=files / f"{name}-training",
        teacher=teacher,
    )
    seconds = time.monotonic() - started
    file = trainer.export(result.network, candidate, out=files / name)
    answers = load_answers(file)
    val = trainer.store.held_out("val", resolution, preprocessing)
    asked = trainer.store.held_out("test", resolution, preprocessing)
    right = answers(asked.pixels[test])["logits"].argmax(1) == asked.targets[test]
    np.save(files / f"{name}.npy", right)
    val_logits = answers(val.pixels)["logits"]
    return {
        "way": made.way,
        "seed": seed,
        "accuracy": float(right.mean()),
        "n": len(right),
        "val_accuracy": float((val_logits.argmax(1) == val.targets).mean()),
        "val_loss": float(cross_entropy(val_logits, val.targets).mean()),
        "screened_loss": made.screened,
        "ms_on_the_way": made.latency_ms,
        "network": network.architecture.name,
        "macs": candidate.macs,
        "images_seen": result.history[-1].images_seen,
        "seconds": seconds,
        "peak_mib": peak_mib(),
        "file": file.directory,
    }


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows that are there already."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def as_row(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Append a row, and return it."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps({key: row[key] for key in list(row)[:9]}), flush=True)
    return row


def auto_of(rows: Sequence[dict[str, Any]], seed: int, *, trained: int = 2) -> str:
    """Return the way that `auto` ships: of the best two after a few steps, the better on val."""
    own = [row for row in rows if row["seed"] == seed and row["screened_loss"] is not None]
    best = sorted(own, key=lambda row: row["screened_loss"])[:trained]
    return str(min(best, key=lambda row: row["val_loss"])["way"])


def paired(
    rows: Sequence[dict[str, Any]], one: str, other: str, *, seed: int = 0, draws: int = 4000
) -> dict[str, Any]:
    """Return one way's accuracy minus another's, with a 95 % interval over pictures.

    Seeds that both ways have are averaged first; pictures are drawn anew.
    """
    answers = {way: _answers(rows, way) for way in (one, other)}
    both = sorted(set(answers[one]) & set(answers[other]))
    right = [np.mean([answers[way][number] for number in both], axis=0) for way in (one, other)]
    difference: NDArray[np.float64] = right[0] - right[1]
    generator = np.random.default_rng(seed)
    means = [
        difference[generator.integers(len(difference), size=len(difference))].mean()
        for _ in range(draws)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return {"mean": float(difference.mean()), "interval": [float(low), float(high)]}


def _answers(rows: Sequence[dict[str, Any]], way: str) -> dict[int, NDArray[np.bool_]]:
    """Return of every seed of a way which pictures were answered rightly."""
    return {
        row["seed"]: np.load(Path(row["file"]).parent / f"{way}-{row['seed']}.npy")
        for row in rows
        if row["way"] == way
    }


def clock_files(
    rows: Sequence[dict[str, Any]], parent: Artifact, *, on: str, samples: int
) -> dict[str, dict[str, float]]:
    """Return the ms of the parent's file and of each way's, which take turns in one process."""
    first: dict[str, Artifact] = {"parent": parent}
    for row in rows:
        if row["way"] not in first:
            first[row["way"]] = read_artifact(Path(row["file"]))
    measured = measure_artifacts(
        list(first.values()),
        platform=parse_platform(on),
        names=list(first),
        samples=samples,
        max_s_each=20.0,
        repeat_disturbed=False,  # a second time in another process is no turn of this one
    )
    return {
        name: {
            "median_ms": one.median_ms,
            "share_of_the_parent": one.median_ms / measured[0].median_ms,
            "low": one.interval_ms[0] / measured[0].median_ms,
            "high": one.interval_ms[1] / measured[0].median_ms,
        }
        for name, one in zip(first, latencies_in_turns(measured), strict=True)
    }


def never_slower(run: Path) -> dict[str, Any]:
    """Return how many steps of NetAdapt were taken and rejected, and whether one was not faster."""
    steps = StepsFile(run).read()
    proposals = [one for step in steps for one in step.proposals]
    taken = [one for one in proposals if one.status == "taken"]
    slower = [
        one
        for one in taken
        if one.latency is None
        or one.beside is None
        or one.latency.interval_ms[1] >= one.beside.interval_ms[0]
    ]
    return {
        "steps": len(steps),
        "taken": len(taken),
        "rejected": sum(one.status == "rejected" for one in proposals),
        "taken_and_not_surely_faster": len(slower),
    }
