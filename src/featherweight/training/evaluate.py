"""Loss and score of a network on pictures held in memory (or in a memory map)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from featherweight.data.augmentation import normalise_batch
from featherweight.errors import DataError
from featherweight.networks.kinds import outputs_of
from featherweight.networks.modules import AnyNetwork
from featherweight.networks.preprocessing import Preprocessing
from featherweight.tasks.task import CLASSIFICATION, TASKS
from featherweight.training.compute import Compute, choose_device
from featherweight.training.fake_quantisation import FakeQuantised
from featherweight.training.forward import answer
from featherweight.training.memory import memory_kept

__all__ = [
    "EvaluationResult",
    "Sample",
    "TrainingImages",
    "evaluate_network",
    "evaluate_placed",
]

_BATCH_PIXELS = 2**22  # keeps the activations of a batch at 224 pixels below about 1 GB
_CPU_BATCH_PIXELS = 2**16  # stays in the caches: 64 pictures of 32 pixels took 0.73 of 256's time


class Sample(NamedTuple):
    """Some of the pictures of a split, on the CPU.

    Attributes:
        pixels: uint8 (n, S, S, C).
        targets: (n, ...).
        aspects: width by height of pictures that were squeezed, float32 (n,); `None` = none was.
        weights: of each in losses, float32 (n,); `None` = all count the same.
    """

    pixels: Tensor
    targets: Tensor
    aspects: Tensor | None
    weights: Tensor | None


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """Pictures of one split and what is right for them.

    Attributes:
        pixels: uint8 (N, S, S, C), an array or a memory map.
        targets: (N, ...), as the task has it; of a classification int64 (N,).
        weights: float64 (N,) with mean 1, of every picture in losses and scores; `None` = all
            count the same.
        aspects: float32 (N,), width by height of whole pictures that were squeezed into the
            squares; `None` = nothing was squeezed.
        task: kind of the task.

    Raises:
        DataError: types, shapes or lengths do not fit.
    """

    pixels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None
    aspects: np.ndarray | None = None
    task: str = CLASSIFICATION

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4:
            raise DataError(
                f"pictures of type {self.pixels.dtype} and shape {self.pixels.shape}",
                allowed="uint8 (N, height, width, channels)",
            )
        for name in ("targets", "weights", "aspects"):
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) != len(self.pixels) or (name != "targets" and values.ndim != 1):
                raise DataError(
                    f"{name} of shape {values.shape} for {len(self.pixels)} pictures",
                    allowed="one row for each" if name == "targets" else "one number for each",
                )

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: np.ndarray | slice) -> Sample:
        """Return the chosen pictures."""
        targets = np.array(self.targets[indices])
        whole = np.issubdtype(targets.dtype, np.integer)
        aspects, weights = self.aspects, self.weights
        return Sample(
            pixels=torch.from_numpy(np.array(self.pixels[indices])),
            targets=torch.from_numpy(targets.astype(np.int64) if whole else targets),
            aspects=None if aspects is None else torch.from_numpy(aspects[indices]),
            weights=None
            if weights is None
            else torch.from_numpy(weights[indices].astype(np.float32)),
        )

    def check(self, network: AnyNetwork | FakeQuantised) -> None:
        """Raise DataError unless the network can read the pictures and answer the targets."""
        architecture = network.architecture
        if self.pixels.shape[3] != architecture.input_shape[0]:
            raise DataError(
                f"pictures with {self.pixels.shape[3]} channels",
                allowed=f"{architecture.input_shape[0]} channels ({architecture.name})",
            )
        if not len(self):
            raise DataError("no pictures", allowed="at least one")
        TASKS[self.task].check(self.targets, outputs=architecture.num_classes)


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """How a network answered.

    Attributes:
        loss: mean loss of the task, weighted as the pictures are.
        accuracy: score of the task in [0, 1], weighted likewise: of a classification the share of
            right answers, with the weights of `balanced_weights` the balanced accuracy; of a
            detection average precision.
        n: number of pictures.
        losses: float64 (n,), loss of each picture times its weight (for paired comparisons); their
            mean is `loss`.
        scores: float64 (n,), score of each picture, without its weight.
        details: further figures of the task, not weighted, such as `top5`.
        interval: 95 % interval of the score, not weighted; `None` = nobody asked.
    """

    loss: float
    accuracy: float
    n: int
    losses: np.ndarray
    scores: np.ndarray
    details: dict[str, Any]
    interval: tuple[float, float] | None = None


def evaluate_network(
    network: AnyNetwork,
    *,
    images: TrainingImages,
    preprocessing: Preprocessing,
    batch_size: int = 256,
    device: str = "auto",
) -> EvaluationResult:
    """Answer every picture once, in float32; the network is left as it was.

    Args:
        network: what is asked.
        images: pictures of the network's resolution.
        preprocessing: mean and standard deviation of the network's input.
        batch_size: most pictures at once (fewer when they are large).
        device: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        DataError: the pictures or targets do not fit the network.
    """
    compute = Compute(device=choose_device(device))
    before = next(network.parameters()).device
    try:
        network.to(compute.device)
        with memory_kept():
            return evaluate_placed(
                network,
                images,
                preprocessing=preprocessing,
                compute=compute,
                batch_size=batch_size,
                with_interval=True,
            )
    finally:
        network.to(before)


def evaluate_placed(
    network: AnyNetwork | FakeQuantised,
    images: TrainingImages,
    *,
    preprocessing: Preprocessing,
    compute: Compute,
    batch_size: int = 256,
    with_interval: bool = False,
) -> EvaluationResult:
    """`evaluate_network` for a network that already is where `compute` says."""
    images.check(network)
    resolution = network.architecture.resolution
    if images.pixels.shape[1:3] != (resolution, resolution):
        raise DataError(
            f"pictures of {images.pixels.shape[1]} x {images.pixels.shape[2]} pixels",
            allowed=f"{resolution} x {resolution} ({network.architecture.name})",
        )
    most_pixels = _CPU_BATCH_PIXELS if compute.device.type == "cpu" else _BATCH_PIXELS
    batch_size = min(batch_size, max(16, most_pixels // resolution**2))
    task, (output,) = TASKS[images.task], outputs_of(network.architecture)
    parts: list[np.ndarray] = []
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(images), batch_size):
                part = images.batch(slice(start, start + batch_size))
                inputs = normalise_batch(
                    part.pixels.to(compute.device), mean=preprocessing.mean, std=preprocessing.std
                )
                parts.append(answer(network, compute.arrange(inputs)).float().cpu().numpy())
    finally:
        network.train(was_training)
    answers = {output.name: np.concatenate(parts)}
    losses, scores = task.losses(answers, images.targets), task.scores(answers, images.targets)
    weights = np.ones(len(images)) if images.weights is None else images.weights
    losses = losses * weights
    return EvaluationResult(
        loss=float(losses.mean()),
        accuracy=task.score(answers, images.targets, weights=images.weights),
        n=len(images),
        losses=losses,
        scores=scores,
        details=task.details(answers, images.targets, classes=network.architecture.num_classes),
        interval=task.interval(answers, images.targets) if with_interval else None,
    )
