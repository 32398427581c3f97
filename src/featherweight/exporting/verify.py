"""Run an exported file and its PyTorch network on the same pictures and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featherweight.data.rows import spaced_rows
from featherweight.errors import FailedError, UsageError
from featherweight.exporting.verification import Verification
from featherweight.networks.kinds import outputs_of
from featherweight.networks.preprocessing import Preprocessing
from featherweight.runtimes.answers import load_answers
from featherweight.runtimes.artifact import Artifact, check_files
from featherweight.runtimes.weights import input_levels
from featherweight.tasks.task import TASKS, Answers, evaluated

if TYPE_CHECKING:
    from featherweight.networks.modules import AnyNetwork

__all__ = ["network_answers", "verify_artifact"]

_BATCH = 64


def verify_artifact(
    artifact: Artifact,
    network: AnyNetwork,
    *,
    images: np.ndarray,
    targets: np.ndarray,
    split: str,
    largest_relative_error: float | None = None,
    smallest_agreement: float = 0.9,
    most_compared: int | None = None,
) -> Verification:
    """Compare an artifact with the network it was exported from.

    A float32 file passes when `relative_error <= largest_relative_error`: rounding leaves about
    1e-6, a wrong layer or a wrong normalisation far more. A file of another precision computes
    something else on purpose and passes when `top1_agreement >= smallest_agreement`.

    Args:
        artifact: the file.
        network: the PyTorch network, of the artifact's architecture and resolution.
        images: uint8 (N, H, W, 3), resized and cropped, of one split.
        targets: what is right for them, (N, ...), as the artifact's task has it.
        split: name of that split.
        largest_relative_error: limit for float32; `None` = the tolerance of the task.
        smallest_agreement: limit for other precisions.
        most_compared: pictures that the network answers too, evenly spaced: for what rounding does
            a few hundred are enough. `None` = all of them. The file answers all in any case.

    Raises:
        UsageError: no pictures, pictures of another size, the network or files of another export.
        FailedError: the file answers with numbers that are not finite.
    """
    _check(artifact, network, images, targets)
    most = len(images) if most_compared is None else most_compared
    if most < 1:
        raise UsageError(f"cannot compare {most} pictures", allowed="1 or more, or None for all")
    check_files(artifact)
    task = TASKS[artifact.task]
    found = load_answers(artifact)(images)
    _check_finite(artifact, found)
    rows = spaced_rows(len(images), most=most)
    expected = network_answers(network, images[rows], preprocessing=artifact.preprocessing)
    compared = {name: values[rows] for name, values in found.items()}
    largest, relative_error = task.error(compared, expected)
    agreement = task.agreement(compared, expected)
    evaluation = evaluated(task, found, targets, split=split)
    limit = task.tolerance if largest_relative_error is None else largest_relative_error
    passed = (
        relative_error <= limit if artifact.precision == "fp32" else agreement >= smallest_agreement
    )
    assert evaluation.interval is not None
    told = task.details(found, targets, classes=len(artifact.labels))
    details = {name: value for name, value in told.items() if isinstance(value, float)}
    return Verification(
        platform=f"local/{artifact.runtime}:threads=1,precision={artifact.precision}",
        artifact_sha256=artifact.sha256,
        max_abs_error=largest,
        relative_error=relative_error,
        top1_agreement=agreement,
        accuracy=evaluation.value,
        network_accuracy=(
            evaluated(task, expected, targets, split=split).value
            if len(rows) == len(images)
            else None
        ),
        interval=evaluation.interval,
        balanced_accuracy=details.pop("balanced_accuracy", None),
        details=details,
        split=split,
        n=len(images),
        compared=len(rows),
        passed=passed,
    )


def _check_finite(artifact: Artifact, found: Answers) -> None:
    values = [answer.reshape(len(answer), -1) for answer in found.values()]
    wrong = int((~np.isfinite(np.concatenate(values, axis=1))).any(axis=1).sum())
    if wrong:
        raise FailedError(
            f"the answers of {artifact.paths[0]} are not finite on {wrong} of {len(values[0])} "
            "pictures",
            hint="it is damaged: export the network again",
        )


def network_answers(
    network: AnyNetwork, images: np.ndarray, *, preprocessing: Preprocessing
) -> dict[str, np.ndarray]:
    """Return what a network answers in evaluation mode, float32 (N, ...) by output.

    Args:
        network: on any device; left in the mode it was in.
        images: uint8 (N, H, W, 3).
        preprocessing: its normalisation is applied (resizing is done already).
    """
    import torch

    device = next(network.parameters()).device
    mean, deviation = (
        torch.tensor(values, dtype=torch.float32, device=device).reshape(1, -1, 1, 1)
        for values in input_levels(network.architecture, preprocessing)
    )
    grey = network.architecture.input_shape[0] == 1
    training = network.training
    network.eval()
    try:
        answers = []
        for start in range(0, len(images), _BATCH):
            batch = torch.tensor(np.array(images[start : start + _BATCH]), device=device)
            x = batch.permute(0, 3, 1, 2).float()
            x = x.mean(1, keepdim=True) if grey else x
            with torch.inference_mode():
                answers.append(network((x - mean) / deviation).float().cpu().numpy())
    finally:
        network.train(training)
    (output,) = outputs_of(network.architecture)
    return {output.name: np.concatenate(answers)}


def _check(
    artifact: Artifact, network: AnyNetwork, images: np.ndarray, targets: np.ndarray
) -> None:
    if network.architecture.digest != artifact.architecture_digest:
        raise UsageError(
            f"{artifact.directory} was exported from another architecture than "
            f"{network.architecture.name!r}",
            hint="the resolution belongs to it: compare networks at the artifact's resolution",
        )
    if images.dtype != np.uint8 or images.shape[1:] != artifact.input_shape or not len(images):
        raise UsageError(
            f"the pictures are {images.dtype} {images.shape}",
            allowed=f"uint8 (N, {', '.join(map(str, artifact.input_shape))}) with N of 1 or more",
        )
    if len(targets) != len(images):
        raise UsageError(f"{len(targets)} targets for {len(images)} pictures")
