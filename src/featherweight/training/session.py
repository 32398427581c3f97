"""A training between two epochs: started or resumed, written down after every epoch."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from featherweight.errors import RunDirectoryError
from featherweight.journal import Journal
from featherweight.networks.modules import AnyNetwork
from featherweight.records import to_plain
from featherweight.training.checkpoint import (
    CHECKPOINT,
    CheckpointState,
    read_checkpoint,
    training_identity,
    write_checkpoint,
)
from featherweight.training.compute import Compute, dropout_seed
from featherweight.training.evaluate import TrainingImages
from featherweight.training.length import make_plan
from featherweight.training.optimizer import optimizer_tensors, restore_optimizer
from featherweight.training.results import EpochRecord, Floor, Stop, TrainingResult, best_epoch
from featherweight.training.speed import StepTimer, choose_compute
from featherweight.training.step import Learner

__all__ = ["JOURNAL", "ROLLED_BACK_SCALE", "Session", "open_session", "roll_back"]

JOURNAL = "train.jsonl"
"""Name of the journal in the directory of a training."""

ROLLED_BACK_SCALE = 1 / 3
"""Factor on the learning rate of a training that diverged once."""


@dataclass
class Session:
    """What changes while a training runs.

    Attributes:
        learner: network, average and optimizer.
        generator: of order, augmentation and dropout seeds.
        state: the scalars as of the last whole epoch.
        best: tensors of the best averaged network so far.
        directory: where checkpoint and journal are.
        val_pictures: how many judge an epoch.
        time_s: the recipe's wall clock; `None` = it goes by epochs.
        started_s: `time.perf_counter()` at the start of this attempt.
        before_s: wall clock that was gone when this attempt started.
    """

    learner: Learner
    generator: torch.Generator
    state: CheckpointState
    directory: Path
    val_pictures: int
    time_s: float | None
    started_s: float
    before_s: float
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def journal(self) -> Journal:
        """The training's train.jsonl."""
        return Journal(self.directory / JOURNAL)

    @property
    def elapsed_s(self) -> float:
        """Wall clock so far, summed over attempts."""
        return self.before_s + time.perf_counter() - self.started_s

    @property
    def out_of_time(self) -> bool:
        """Whether only the time for a last validation is left."""
        return self.time_s is not None and self.elapsed_s >= self.time_s - self.epoch_end_s

    @property
    def epoch_end_s(self) -> float:
        """Seconds of a validation with its checkpoint: as the last one took, first as planned."""
        history = self.state.history
        if not history:
            return self.state.plan.epoch_end_s
        before = history[-2].images_seen if len(history) > 1 else 0
        last = history[-1]
        return last.seconds - (last.images_seen - before) / last.images_per_s

    @property
    def share(self) -> float:
        """Share of the time for steps that is gone, in 0..1; 0 where it goes by epochs."""
        if self.time_s is None:
            return 0.0
        begun_s = self.state.plan.begun_s
        whole_s = max(self.time_s - self.epoch_end_s - begun_s, 1e-9)
        return min(max((self.elapsed_s - begun_s) / whole_s, 0.0), 1.0)

    def position(self, step: int) -> int:
        """Return the step of the plan that a step counts as: by the clock, where time counts.

        Machines change their speed by three times within minutes. A schedule by steps would end
        early on one that becomes faster, and be cut at a high learning rate on one that becomes
        slower.
        """
        return step if self.time_s is None else self.state.plan.due(self.share)

    def share_done(self, step: int) -> float:
        """Return the share of the training that is done after a step, in 0..1."""
        return step / self.state.plan.total_steps if self.time_s is None else self.share

    def end_epoch(self, record: EpochRecord, *, step: int, floor: Floor = ()) -> None:
        """Keep the best weights, write the checkpoint, then the journal's line.

        Args:
            record: of the epoch.
            step: that it ended with.
            floor: below which the training ends here.
        """
        history = (*self.state.history, record)
        best = best_epoch(history, pictures=self.val_pictures).epoch
        if best == record.epoch:
            self.best = _clone(self.learner.average.network)
        stopped: Stop | None = "hopeless" if record.is_hopeless(floor) else None
        if self.time_s is None:
            stopped = "finished" if step >= self.state.plan.total_steps else stopped
        else:
            stopped = "deadline" if self.out_of_time else stopped
        self.state = self.state.model_copy(
            update={
                "step": step,
                "num_updates": self.learner.average.num_updates,
                "elapsed_s": self.elapsed_s,
                "history": history,
                "best_epoch": best,
                "stopped": stopped,
            }
        )
        self.save()
        self.journal.append({"event": "epoch", **to_plain(record)})
        if stopped:
            self.journal.append(
                {"event": "end", "stopped": stopped, "best_epoch": best, "seconds": self.elapsed_s}
            )

    def save(self) -> None:
        """Write the checkpoint; the best weights only when they are not the newest."""
        learner = self.learner
        parts = {
            "network": learner.network.state_dict(),
            "average": learner.average.network.state_dict(),
            "optimizer": optimizer_tensors(learner.optimizer, learner.network),
            "random": {"generator": self.generator.get_state()},
        }
        if self.state.history and self.state.best_epoch != self.state.history[-1].epoch:
            parts["best"] = self.best
        tensors = {
            f"{part}:{name}": t for part, named in parts.items() for name, t in named.items()
        }
        write_checkpoint(self.directory / CHECKPOINT, self.state, tensors=tensors)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put the tensors of a checkpoint back."""
        learner = self.learner
        learner.network.load_state_dict(_part(tensors, "network"))
        learner.average.network.load_state_dict(_part(tensors, "average"))
        learner.average.num_updates = self.state.num_updates
        restore_optimizer(learner.optimizer, learner.network, _part(tensors, "optimizer"))
        self.generator.set_state(_part(tensors, "random")["generator"])
        self.best = _part(tensors, "best") or _clone(learner.average.network)

    def result(self, network: AnyNetwork) -> TrainingResult:
        """Return the best averaged weights in a copy of `network`, on the CPU."""
        assert self.state.stopped is not None
        trained = copy.deepcopy(network).cpu()
        trained.load_state_dict(self.best)
        history = self.state.history
        return TrainingResult(
            network=trained.eval(),
            history=history,
            best=next(one for one in history if one.epoch == self.state.best_epoch),
            stopped=self.state.stopped,
            seconds=self.state.elapsed_s,
        )


def open_session(
    timer: StepTimer,
    *,
    val: TrainingImages,
    directory: Path,
    device: torch.device,
    compute: Compute | None = None,
    spent_s: float = 0.0,
    images_per_s: float | None = None,
) -> Session:
    """Resume the training in a directory, or time, plan and start a new one there.

    Args:
        timer: the network and what it learns from.
        val: validation pictures.
        directory: of this training alone.
        device: where it runs.
        compute: the form of computing of a new one; `None` = the fastest is found.
        spent_s: part of the recipe's time that is gone, lost attempts included.
        images_per_s: how many pictures a second the network trains on, where that is known; `None`
            = it is timed.

    Raises:
        RunDirectoryError: the checkpoint there belongs to another training.
        RecordError: the checkpoint there cannot be read.
    """
    started_s = time.perf_counter()
    identity = training_identity(
        timer.network, timer.recipe, timer.train.targets, timer.train.weights
    )
    found = read_checkpoint(directory / CHECKPOINT, CheckpointState)
    if found is None:
        with dropout_seed(device):
            session = _start(
                timer,
                val,
                directory,
                device,
                identity,
                started_s=started_s - spent_s,
                compute=compute,
                images_per_s=images_per_s,
            )
        session.save()
        return session
    state, tensors = found
    if state.identity != identity:
        raise RunDirectoryError(
            f"{directory / CHECKPOINT} belongs to another training",
            allowed="the same network, first weights, recipe and labels",
            hint="choose another directory",
        )
    resumed = Compute(device=device, memory_format=state.memory_format, dtype=state.dtype)
    state = state.model_copy(update={"elapsed_s": max(state.elapsed_s, spent_s)})
    session = _session(timer, resumed, state, directory, started_s, val_pictures=len(val))
    session.restore(tensors)
    _complete_journal(session)
    return session


def roll_back(session: Session, timer: StepTimer, *, reason: str) -> Session:
    """Return the session as of its last checkpoint, marked; written, so that a cut keeps the mark.

    Args:
        session: its weights are no longer numbers.
        timer: makes a fresh learner.
        reason: for the journal.
    """
    found = read_checkpoint(session.directory / CHECKPOINT, CheckpointState)
    assert found is not None, "every session starts with a checkpoint"
    state, tensors = found
    state = state.model_copy(update={"rolled_back": True, "elapsed_s": session.elapsed_s})
    restored = _session(
        timer,
        session.learner.compute,
        state,
        session.directory,
        time.perf_counter(),
        val_pictures=session.val_pictures,
    )
    restored.restore(tensors)
    restored.save()
    restored.journal.append({"event": "rollback", "step": state.step, "reason": reason})
    return restored


def _session(
    timer: StepTimer,
    compute: Compute,
    state: CheckpointState,
    directory: Path,
    started_s: float,
    *,
    val_pictures: int,
) -> Session:
    return Session(
        learner=timer.learner(compute),
        generator=torch.Generator().manual_seed(timer.recipe.seed),
        state=state,
        directory=directory,
        val_pictures=val_pictures,
        time_s=timer.recipe.time_s,
        started_s=started_s,
        before_s=state.elapsed_s,
    )


def _start(
    timer: StepTimer,
    val: TrainingImages,
    directory: Path,
    device: torch.device,
    identity: str,
    *,
    started_s: float,
    compute: Compute | None,
    images_per_s: float | None,
) -> Session:
    journal = Journal(directory / JOURNAL)
    architecture = timer.network.architecture
    journal.append(
        {
            "event": "start",
            "identity": identity,
            "network": architecture.name,
            "architecture_digest": architecture.digest,
            "recipe": to_plain(timer.recipe),
            "train_images": len(timer.train),
            "val_images": len(val),
            "device": str(device),
            "torch": torch.__version__,
            "num_threads": torch.get_num_threads(),
        }
    )
    speeds: dict[str, float | None] = {}
    if compute is None:
        choice = choose_compute(timer, device=device)
        compute, speeds = choice.compute, choice.images_per_s
    form = {"memory_format": compute.memory_format, "dtype": compute.dtype}
    journal.append({"event": "speed", **form, "images_per_s": speeds})
    plan = make_plan(timer, val, compute, started_s, images_per_s)
    journal.append({"event": "plan", "epochs": plan.epochs, **to_plain(plan)})
    state = CheckpointState.model_validate(
        {
            **form,
            "identity": identity,
            "plan": plan,
            "step": 0,
            "num_updates": 0,
            "elapsed_s": 0.0,
            "history": (),
            "best_epoch": 0,
            "stopped": None,
        }
    )
    return _session(timer, compute, state, directory, started_s, val_pictures=len(val))


def _complete_journal(session: Session) -> None:
    """Add what an interruption between checkpoint and journal left out, and say that it resumes."""
    written = {line["epoch"] for line in session.journal.read() if line.get("event") == "epoch"}
    for record in session.state.history:
        if record.epoch not in written:
            session.journal.append({"event": "epoch", **to_plain(record)})
    if session.state.stopped is None:
        session.journal.append({"event": "resume", "step": session.state.step})


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}:"
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _clone(network: AnyNetwork) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
