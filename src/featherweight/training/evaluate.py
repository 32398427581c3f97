"""Loss and accuracy of a network on pictures held in memory (or in a memory map)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from featherweight.data.augmentation import normalise_batch
from featherweight.errors import DataError
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import Network
from featherweight.training.compute import Compute, choose_device
from featherweight.training.fake_quantisation import FakeQuantised
from featherweight.training.forward import answer
from featherweight.training.memory import memory_kept

__all__ = [
    "EvaluationResult",
    "TrainingImages",
    "evaluate_network",
    "evaluate_placed",
]

_BATCH_PIXELS = 2**22  # keeps the activations of a batch at 224 pixels below about 1 GB
_CPU_BATCH_PIXELS = 2**16  # stays in the caches: 64 pictures of 32 pixels took 0.73 of 256's time


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """Pictures and labels of one split.

    Attributes:
        pixels: uint8 (N, S, S, C), an array or a memory map.
        labels: int64 (N,).
        weights: float64 (N,) with mean 1, of every picture in losses and accuracies; `None` = all
            count the same. Pictures of one class have one weight.
        aspects: float32 (N,), width by height of whole pictures that were squeezed into the
            squares; `None` = nothing was squeezed.

    Raises:
        DataError: types, shapes or lengths do not fit.
    """

    pixels: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None
    aspects: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4:
            raise DataError(
                f"pictures of type {self.pixels.dtype} and shape {self.pixels.shape}",
                allowed="uint8 (N, height, width, channels)",
            )
        if self.labels.shape != (len(self.pixels),) or not np.issubdtype(
            self.labels.dtype, np.integer
        ):
            raise DataError(
                f"labels of type {self.labels.dtype} and shape {self.labels.shape} for "
                f"{len(self.pixels)} pictures",
                allowed="one integer per picture",
            )
        if self.weights is not None and self.weights.shape != self.labels.shape:
            raise DataError(
                f"{self.weights.shape} weights for {len(self.labels)} pictures",
                allowed="one number per picture",
            )
        if self.aspects is not None and self.aspects.shape != self.labels.shape:
            raise DataError(
                f"{self.aspects.shape} aspects for {len(self.labels)} pictures",
                allowed="one number per picture",
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: np.ndarray | slice) -> tuple[Tensor, Tensor]:
        """Return the chosen pictures, uint8 (n, S, S, C), and labels, int64 (n,)."""
        pixels = torch.from_numpy(np.array(self.pixels[indices]))
        return pixels, torch.from_numpy(np.array(self.labels[indices], dtype=np.int64))

    def aspects_of(self, indices: np.ndarray | slice) -> Tensor | None:
        """Return width by height of the chosen pictures, float32 (n,), if they were squeezed."""
        return None if self.aspects is None else torch.from_numpy(self.aspects[indices])

    def class_weights(self, num_classes: int) -> Tensor | None:
        """Return the weight of each class, float32 (num_classes,), 1 where a class is absent."""
        if self.weights is None:
            return None
        weights = torch.ones(num_classes)
        weights[torch.from_numpy(self.labels.astype(np.int64))] = torch.from_numpy(
            self.weights.astype(np.float32)
        )
        return weights

    def check(self, network: Network | FakeQuantised) -> None:
        """Raise DataError unless the network can read the pictures and answer the labels."""
        architecture = network.architecture
        if self.pixels.shape[3] != architecture.input_shape[0]:
            raise DataError(
                f"pictures with {self.pixels.shape[3]} channels",
                allowed=f"{architecture.input_shape[0]} channels ({architecture.name})",
            )
        if not len(self):
            raise DataError("no pictures", allowed="at least one")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= architecture.num_classes:
            raise DataError(
                f"labels from {low} to {high}",
                allowed=f"0 to {architecture.num_classes - 1} ({architecture.name})",
            )


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """How a network answered.

    Attributes:
        loss: mean cross-entropy, weighted as the pictures are.
        accuracy: share of correct answers in [0, 1], weighted likewise: with the weights of
            `balanced_weights` the balanced accuracy.
        top5: share of pictures whose class is among the five most probable ones.
        n: number of pictures.
        predictions: int64 (n,), the most probable class.
        losses: float32 (n,), cross-entropy of each picture times its weight (for paired
            comparisons); their mean is `loss`.
    """

    loss: float
    accuracy: float
    top5: float
    n: int
    predictions: np.ndarray
    losses: np.ndarray


def evaluate_network(
    network: Network,
    *,
    images: TrainingImages,
    preprocessing: Preprocessing,
    batch_size: int = 256,
    device: str = "auto",
) -> EvaluationResult:
    """Answer every picture once, in float32; the network is left as it was.

    Args:
        network: the classifier.
        images: pictures of the network's resolution.
        preprocessing: mean and standard deviation of the network's input.
        batch_size: most pictures at once (fewer when they are large).
        device: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        DataError: the pictures or labels do not fit the network.
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
            )
    finally:
        network.to(before)


def evaluate_placed(
    network: Network | FakeQuantised,
    images: TrainingImages,
    *,
    preprocessing: Preprocessing,
    compute: Compute,
    batch_size: int = 256,
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
    predictions, losses, in_top5 = [], [], 0
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(images), batch_size):
                pixels, labels = images.batch(slice(start, start + batch_size))
                inputs = normalise_batch(
                    pixels.to(compute.device), mean=preprocessing.mean, std=preprocessing.std
                )
                logits = answer(network, compute.arrange(inputs)).float()
                target = labels.to(compute.device)
                losses.append(functional.cross_entropy(logits, target, reduction="none").cpu())
                best = logits.topk(min(5, logits.shape[1]), 1).indices
                in_top5 += int((best == target[:, None]).sum())
                predictions.append(best[:, 0].cpu())
    finally:
        network.train(was_training)
    answered, loss = torch.cat(predictions).numpy(), torch.cat(losses).numpy()
    correct = answered == images.labels
    if images.weights is not None:
        loss, correct = loss * images.weights.astype(np.float32), correct * images.weights
    return EvaluationResult(
        loss=float(loss.mean(dtype=np.float64)),
        accuracy=float(correct.mean()),
        top5=in_top5 / len(images),
        n=len(images),
        predictions=answered,
        losses=loss,
    )
