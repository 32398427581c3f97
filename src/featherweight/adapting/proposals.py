"""Fine-tune proposals for a short time and judge them by pictures that the tuning never sees."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from featherweight.adapting.changes import changed, narrow
from featherweight.adapting.groups import Narrow
from featherweight.adapting.netadapt import Tuned, Worth
from featherweight.adapting.pictures import PictureSet, load_pictures, save_pictures
from featherweight.architecture import Architecture
from featherweight.layers import LOGITS
from featherweight.networks.norms import Seen, move_norms, norms_seen
from featherweight.nn.network import Network
from featherweight.training.recipe import GRADIENT_NORM

__all__ = [
    "PictureProposer",
    "ProposalJob",
    "WorkerProposer",
    "judged",
    "run_proposal",
    "tune_briefly",
]

_LEARNING_RATE = 2e-3
"""A tenth of a training's (NetAdapt's short-term rate over its long-term one)."""
_MOMENTUM = 0.9
_CARRYING, _REPAIRING = 64, 128
"""Pictures of the tuning that norms are set by after a cut, and weights that lose inputs."""


@dataclass(frozen=True)
class PictureProposer:
    """Makes proposals in this process, one after the other.

    Attributes:
        tuning: pictures that proposals are fine-tuned on, one step a batch.
        judging: others, that compare them.
        repairs: whether weights that lose inputs are fitted again, by the first of the former.
    """

    tuning: PictureSet
    judging: PictureSet
    repairs: bool = False

    def judge(self, network: Network) -> Tuned:
        """Judge a network as it is."""
        return judged(network, self.judging)

    def tune(
        self, present: Network, changes: Sequence[Narrow], *, worth: Worth | None = None
    ) -> list[Tuned]:
        """Make each change of the present network alone, and fine-tune each for a short time."""
        images, _ = next(self.tuning.part(0, _CARRYING).batches())
        seen = norms_seen(present, images)
        return [self._tuned(present, change, seen, images, worth) for change in changes]

    def _tuned(
        self, present: Network, change: Narrow, seen: Seen, images: Tensor, worth: Worth | None
    ) -> Tuned:
        """Cut, carry the statistics of the norms over the cut, fine-tune, judge."""
        repaired_by = None
        if self.repairs:
            pictures = self.tuning.part(0, _REPAIRING).batches()
            repaired_by = torch.cat([batch for batch, _ in pictures])
        network, kept = narrow(present, [change], importance=worth, repaired_by=repaired_by)
        left = {
            name: (mean[rows], variance[rows])
            for name, (mean, variance) in seen.items()
            for rows in [torch.from_numpy(kept[name.removesuffix(".norm")])]
        }
        move_norms(network, left, images)
        tune_briefly(network, self.tuning)
        return self.judge(network)


def tune_briefly(network: Network, pictures: PictureSet) -> None:
    """Take one step of SGD on each batch, in place; norms keep their statistics.

    Gradients are bounded as in trainings: after a cut they may be a hundred times as long.
    A step cuts too little to move them much, and pictures of one kind are no measure of them
    (docs/adr/0012-norm-statistics.md); scales and biases follow.
    """
    network.eval()
    loss = pictures.objective.loss
    optimiser = torch.optim.SGD(network.parameters(), lr=_LEARNING_RATE, momentum=_MOMENTUM)
    for images, targets in pictures.batches():
        optimiser.zero_grad(set_to_none=True)
        loss(network(images), targets).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
        optimiser.step()


@torch.no_grad()
def judged(network: Network, pictures: PictureSet) -> Tuned:
    """Return a network with how it answers pictures, in eval mode."""
    network.eval()
    parts = [network(images).numpy() for images, _ in pictures.batches()]
    answers = {LOGITS: np.concatenate(parts)}
    return Tuned(
        network,
        pictures.task.losses(answers, pictures.targets),
        float(pictures.task.scores(answers, pictures.targets).mean()),
    )


@dataclass(frozen=True)
class WorkerProposer:
    """Makes proposals on the workers of an executor, all of a step at the same time.

    Attributes:
        here: what the workers do, on this machine.
        executor: where they are; they see `folder`.
        folder: where networks and pictures are handed over.
    """

    here: PictureProposer
    executor: Executor
    folder: Path

    def judge(self, network: Network) -> Tuned:
        """Judge a network as it is."""
        return self.here.judge(network)

    def tune(
        self, present: Network, changes: Sequence[Narrow], *, worth: Worth | None = None
    ) -> list[Tuned]:
        """Make each change of the present network alone, and fine-tune each for a short time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        pictures = self.folder / "pictures.npz"
        if not pictures.exists():
            save_pictures(pictures, tuning=self.here.tuning, judging=self.here.judging)
        weights = self.folder / "present.safetensors"
        save_file(present.state_dict(), weights)
        told = None if worth is None else (self.folder / "worth.npz").absolute()
        if told is not None:
            np.savez(told, **worth)  # type: ignore[arg-type]
        jobs = [
            ProposalJob(
                architecture=present.architecture,
                weights=weights.absolute(),
                change=change,
                worth=told,
                pictures=pictures.absolute(),
                repairs=self.here.repairs,
                out=(self.folder / f"proposal-{number}.safetensors").absolute(),
            )
            for number, change in enumerate(changes)
        ]
        ends = [self.executor.submit(run_proposal, job) for job in jobs]
        answers = [end.result() for end in ends]
        return [Tuned(_read(job), *answer) for job, answer in zip(jobs, answers, strict=True)]


@dataclass(frozen=True)
class ProposalJob:
    """A proposal as a plain value that any process can make.

    Attributes:
        architecture, weights: of the present network.
        change: of it.
        worth: importance of its channels; `None` = the norms of their filters.
        pictures: see `save_pictures`.
        repairs: whether weights that lose inputs are fitted again.
        out: where the weights of the proposal go.
    """

    architecture: Architecture
    weights: Path
    change: Narrow
    worth: Path | None
    pictures: Path
    repairs: bool
    out: Path


def run_proposal(job: ProposalJob) -> tuple[NDArray[np.float64], float]:
    """Make a proposal, fine-tune it, save its weights; return its losses and score."""
    present = Network(job.architecture)
    present.load_state_dict(load_file(job.weights))
    worth = None
    if job.worth is not None:
        with np.load(job.worth, allow_pickle=False) as arrays:
            worth = {name: arrays[name] for name in arrays.files}
    proposer = replace(_opened(job.pictures), repairs=job.repairs)
    (tuned,) = proposer.tune(present.eval(), [job.change], worth=worth)
    save_file(tuned.network.state_dict(), job.out)
    return tuned.losses, tuned.score


@functools.lru_cache(maxsize=1)
def _opened(path: Path) -> PictureProposer:
    """Read pictures once in a process."""
    sets = load_pictures(path)
    return PictureProposer(sets["tuning"], sets["judging"])


def _read(job: ProposalJob) -> Network:
    network = Network(changed(job.architecture, [job.change]))
    network.load_state_dict(load_file(job.out))
    return network.eval()
