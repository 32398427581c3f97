"""The network that `adapt` starts from: trained, and saved in the run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import nn

from featherweight.data.images import ImageData
from featherweight.errors import UnsupportedError, UsageError
from featherweight.fitting.candidate import Candidate, Phase
from featherweight.fitting.families import stored_family
from featherweight.networks.importing import import_module
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import resolve_architecture
from featherweight.networks.storage import StoredNetwork, load_network, save_network
from featherweight.nn.network import Network
from featherweight.tasks.task import check_same_task

__all__ = ["Parent", "as_candidate", "read_parent"]

_SAVED = "network.json"


class Parent(NamedTuple):
    """A trained network and what it is called."""

    stored: StoredNetwork
    name: str


def read_parent(
    network: str | Path | nn.Module, images: ImageData, *, resolution: int | None
) -> Parent:
    """Return the network that is to become faster.

    Args:
        network: run directory of a trained network, or a trained module whose outputs are the
            classes of the data in their order.
        images: the data it was trained for.
        resolution: side of the pictures that a module takes.

    Raises:
        UsageError: it is not trained, or for other classes than those of the data.
        UnsupportedError: an .onnx file, or a module that cannot be imported.
    """
    if isinstance(network, nn.Module):
        return _of_module(network, images, resolution=resolution)
    path = Path(network)
    if path.suffix == ".onnx":
        raise UnsupportedError(
            f"{network}: the weights of an .onnx file cannot be changed",
            allowed="the run directory that it was exported from, or in Python its module",
        )
    if not (path / _SAVED).exists():
        resolve_architecture(str(network))  # a name that nobody knows is said first
        raise UsageError(
            f"{network} is not trained: what its channels are worth cannot be told",
            allowed="the run directory of a trained network",
            hint=f"train it first: featherweight train DATA --model {network}",
        )
    stored = load_network(path)
    check_same_task(images, task=stored.task, classes=stored.classes)
    return Parent(stored, stored.network.architecture.name)


def _of_module(module: nn.Module, images: ImageData, *, resolution: int | None) -> Parent:
    if isinstance(module, Network):
        network = module
    elif resolution is None:
        raise UsageError("a module does not say which pictures it takes", hint="give resolution=N")
    else:
        name = type(module).__name__.lower()
        network = import_module(module, input_shape=(3, resolution, resolution), name=name)
    outputs = network.architecture.num_classes
    if outputs != len(images.classes):
        raise UsageError(
            f"{network.architecture.name} has {outputs} outputs",
            allowed=f"{len(images.classes)}, one for each class of the data",
        )
    stored = StoredNetwork(network.eval(), Preprocessing(), images.classes, images.task)
    return Parent(stored, network.architecture.name)


def as_candidate(parent: Parent, *, run: Path, precision: str) -> tuple[Candidate, Phase]:
    """Save the parent where networks of the run lie, and return it as a trained candidate."""
    phase = Phase(kind="parent")
    network = parent.stored.network
    folder = run / "networks" / f"{network.architecture.digest[:16]}-{precision}-{phase}"
    if not (folder / _SAVED).exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_network(
            network,
            folder,
            preprocessing=parent.stored.preprocessing,
            classes=parent.stored.classes,
            task=parent.stored.task,
        )
    family, size = stored_family(folder, source=f"run of {parent.name}", weights_of=parent.name)
    return Candidate(family, size, precision), phase
