"""Everything a training needs to go on after the process has ended: one safetensors file.

Tensors are tensors, scalars are JSON in the header's metadata: one file that is replaced by one
rename is never half new. No pickle: loading cannot execute anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from featherweight.errors import RecordError
from featherweight.networks.modules import AnyNetwork
from featherweight.records import Record, parse_json, parse_record, to_plain, write_bytes
from featherweight.training.recipe import Recipe
from featherweight.training.results import EpochRecord, Stop
from featherweight.training.schedule import Plan

__all__ = [
    "CHECKPOINT",
    "CheckpointState",
    "read_checkpoint",
    "training_identity",
    "write_checkpoint",
]

State = TypeVar("State", bound=Record)

CHECKPOINT = "checkpoint.safetensors"
"""Name of the file in the directory of a training."""


class CheckpointState(Record):
    """The scalars of a training after a whole epoch.

    Attributes:
        identity: digest of recipe, network, first weights and data; another one is another run.
        plan: the steps, fixed before the first.
        memory_format, dtype: what was found fastest before the first step.
        step: steps done.
        num_updates: of the averaged weights.
        elapsed_s: wall clock, summed over attempts.
        history: the epochs so far.
        best_epoch: the one whose weights are kept (`results.best_epoch`).
        stopped: set when the training is over.
        rolled_back: whether it diverged once and went on from a checkpoint, more slowly.
    """

    identity: str
    plan: Plan
    memory_format: Literal["contiguous", "channels_last"]
    dtype: Literal["fp32", "bf16"]
    step: int
    num_updates: int
    elapsed_s: float
    history: tuple[EpochRecord, ...]
    best_epoch: int
    stopped: Stop | None
    rolled_back: bool = False


def training_identity(
    network: AnyNetwork, recipe: Recipe, labels: np.ndarray, weights: np.ndarray | None
) -> str:
    """Return the digest of what a training starts from."""
    digest = hashlib.sha256(network.architecture.digest.encode())
    digest.update(json.dumps(to_plain(recipe), sort_keys=True).encode())
    digest.update(np.ascontiguousarray(labels).tobytes())
    if weights is not None:
        digest.update(np.ascontiguousarray(weights).tobytes())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_checkpoint(path: Path, state: Record, *, tensors: Mapping[str, Tensor]) -> None:
    """Replace the checkpoint, whole or not at all.

    Args:
        path: of the file.
        state: the scalars.
        tensors: by name.

    Raises:
        FailedError: the file cannot be written (disk full).
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"state": json.dumps(to_plain(state))}
    write_bytes(path, save(plain, metadata))


def read_checkpoint(path: Path, kind: type[State]) -> tuple[State, dict[str, Tensor]] | None:
    """Return the scalars and tensors of a checkpoint; `None` when there is no such file.

    Args:
        path: of the file.
        kind: of its scalars.

    Raises:
        RecordError: the file is not a checkpoint.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, torch.Tensor] = {
                name: file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118 - not a dict
            }
        plain = parse_json(metadata.get("state", "null"))
    except (SafetensorError, ValueError) as error:
        raise RecordError(
            f"cannot read the checkpoint {path}: {error}",
            hint="delete it to train from the start",
        ) from error
    return parse_record(kind, plain, source=str(path)), tensors
