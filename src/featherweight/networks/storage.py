"""A trained network on disk: architecture.json, weights.safetensors, network.json; no pickle."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from featherweight.arguments import to_path
from featherweight.errors import RecordError, UsageError
from featherweight.networks.kinds import read_any_architecture, write_any_architecture
from featherweight.networks.modules import AnyNetwork, as_classifier, module_of
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import Network
from featherweight.records import (
    Record,
    parse_record,
    read_bounded,
    read_json,
    write_bytes,
    write_json,
)
from featherweight.run_record import read_run_record

__all__ = [
    "NetworkRecord",
    "StoredNetwork",
    "load_network",
    "read_network_record",
    "read_weights",
    "recorded_seed",
    "save_network",
]

_WEIGHTS_BYTES = 1 << 30


class NetworkRecord(Record):
    """What network.json holds; written last, so that it vouches for the other two files.

    Attributes:
        architecture_digest: of architecture.json.
        weights_sha256: of weights.safetensors.
        preprocessing: how a picture becomes the input.
        classes: names of the outputs in order.
        task: kind of the task that it was trained for.
    """

    architecture_digest: str
    weights_sha256: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    task: str = "classification"


def recorded_seed(directory: Path) -> int:
    """Return the seed that cut the splits when the network of a run directory was trained.

    A directory without run.yaml (a network saved by hand) has the default, 0.

    Raises:
        RecordError: run.yaml is damaged.
    """
    file = directory / "run.yaml"
    if not file.exists():
        return 0
    seed = read_run_record(file).identity.get("seed", 0)
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise RecordError(f"{file}: key 'identity.seed': {seed!r:.80} is no seed")
    return seed


class StoredNetwork(NamedTuple):
    """A network in eval mode, with what is needed to use it."""

    network: AnyNetwork
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    task: str = "classification"

    @property
    def classifier(self) -> Network:
        """The network, of a classifier.

        Raises:
            UsageError: it is a detector.
        """
        return as_classifier(self.network)


def save_network(
    network: AnyNetwork,
    directory: str | Path,
    *,
    preprocessing: Preprocessing,
    classes: tuple[str, ...],
    task: str = "classification",
) -> None:
    """Write a network so that `load_network` gives bit-equal outputs.

    Raises:
        UsageError: not one class name per output.
        FailedError: the disk is full.
    """
    directory = to_path(directory, name="directory")
    expected = network.architecture.num_classes
    if len(classes) != expected:
        raise UsageError(f"{len(classes)} class names for a network with {expected} outputs")
    tensors = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in network.state_dict().items()
    }
    weights = save(tensors)
    write_any_architecture(network.architecture, directory / "architecture.json")
    write_bytes(directory / "weights.safetensors", weights)
    record = NetworkRecord(
        architecture_digest=network.architecture.digest,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        preprocessing=preprocessing,
        classes=classes,
        task=task,
    )
    write_json(directory / "network.json", record)


def read_network_record(directory: Path) -> NetworkRecord:
    """Read what `save_network` wrote beside the weights.

    Raises:
        RecordError: it is absent or damaged.
    """
    source = directory / "network.json"
    return parse_record(NetworkRecord, read_json(source), source=str(source))


def read_weights(path: Path) -> bytes:
    """Return the content of a safetensors file.

    Raises:
        RecordError: it is absent, no regular file (a device may never end), or above 1 GB.
    """
    try:
        return read_bounded(path, limit_bytes=_WEIGHTS_BYTES)
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error


def load_network(directory: str | Path) -> StoredNetwork:
    """Read a network that `save_network` wrote; torch's generator is left as it was.

    Raises:
        RecordError: a file is absent, damaged, or the three do not belong together.
    """
    directory = to_path(directory, name="network")
    record = read_network_record(directory)
    architecture = read_any_architecture(directory / "architecture.json")
    file = directory / "weights.safetensors"
    content = read_weights(file)
    digests = (architecture.digest, hashlib.sha256(content).hexdigest())
    if digests != (record.architecture_digest, record.weights_sha256):
        changed = file if digests[0] == record.architecture_digest else "architecture.json"
        raise RecordError(
            f"{directory}: {changed} is not the one network.json was written for",
            hint="saving was interrupted or the file was changed: train or export again",
        )
    with torch.device("meta"):
        network = module_of(architecture)
    try:
        network.load_state_dict(load(content), assign=True)
    except (SafetensorError, RuntimeError) as error:
        raise RecordError(f"{file} does not fit its architecture: {error}") from error
    return StoredNetwork(network.eval(), record.preprocessing, record.classes, record.task)
