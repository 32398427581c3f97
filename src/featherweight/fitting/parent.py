"""The network that `adapt` starts from: trained, and saved in the run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from torch import nn

from featherweight.data.images import ImageData
from featherweight.errors import UnsupportedError, UsageError
from featherweight.fitting.candidate import Candidate, Phase
from featherweight.fitting.families import stored_family
from featherweight.networks.importing import import_module
from featherweight.networks.preprocessing import Preprocessing, fine_tuning_preprocessing
from featherweight.networks.pretrained import read_pretrained
from featherweight.networks.resolve import resolve_architecture
from featherweight.networks.storage import StoredNetwork, load_network, save_network
from featherweight.nn.network import Network
from featherweight.tasks.task import check_same_task
from featherweight.training.pixels import SMALL_PICTURE

__all__ = ["Parent", "as_candidate", "read_parent"]

_SAVED = "network.json"


class Parent(NamedTuple):
    """A trained network and what it is called.

    Attributes:
        stored: the network, with the preparation of its pictures.
        name: of it.
        origin: where it came from, in words.
        is_fresh: whether its classifier was drawn: the data have other classes than its weights.
    """

    stored: StoredNetwork
    name: str
    origin: str
    is_fresh: bool = False

    @property
    def content(self) -> str:
        """Digest of what it computes."""
        network = self.stored.classifier
        digest = hashlib.sha256(network.architecture.digest.encode())
        for name, tensor in network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def read_parent(
    network: str | Path | nn.Module,
    images: ImageData,
    *,
    resolution: int | None,
    pretrained: str | None = None,
    seed: int = 0,
) -> Parent:
    """Return the network that is to become faster.

    Args:
        network: run directory of a trained network, a name of the zoo with `pretrained`, or a
            trained module whose outputs are the classes of the data in their order.
        images: the data it was trained for.
        resolution: side of the pictures that a module takes.
        pretrained: weights of a name, as `read_pretrained` takes them; its classifier is drawn
            where the data have other classes.
        seed: of that classifier.

    Raises:
        UsageError: it is not trained, or for other classes than those of the data.
        UnsupportedError: an .onnx file, or a module that cannot be imported.
        MissingDependencyError: the package with the weights is not installed.
    """
    if pretrained is not None:
        return _of_name(network, images, pretrained=pretrained, seed=seed)
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
            hint=f"train it first: featherweight train DATA --model {network}; or, with weights, "
            "--pretrained auto",
        )
    stored = load_network(path)
    check_same_task(images, task=stored.task, classes=stored.classes)
    name = stored.classifier.architecture.name
    return Parent(stored, name, f"run of {name}")


def _of_name(
    name: str | Path | nn.Module, images: ImageData, *, pretrained: str, seed: int
) -> Parent:
    if not isinstance(name, str) or (Path(name) / _SAVED).exists():
        raise UsageError(
            f"{name if isinstance(name, str | Path) else 'a module'} has its own weights",
            allowed="--pretrained with a name of the zoo",
        )
    wanted = resolve_architecture(name).changed(num_classes=len(images.classes))
    found = read_pretrained(wanted, source=pretrained, seed=seed)
    small = images.typical_size <= SMALL_PICTURE
    preprocessing = fine_tuning_preprocessing(found.preprocessing, small=small)
    stored = StoredNetwork(found.network, preprocessing, images.classes, images.task)
    return Parent(
        stored,
        found.network.architecture.name,
        f"{pretrained} weights of {name}",
        is_fresh=found.fresh_classifier,
    )


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
    name = network.architecture.name
    return Parent(stored, name, f"module {name}")


def as_candidate(parent: Parent, *, run: Path, precision: str) -> tuple[Candidate, Phase]:
    """Save the parent where networks of the run lie, and return it as a trained candidate."""
    phase = Phase(kind="parent")
    network = parent.stored.classifier
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
    family, size = stored_family(folder, source=parent.origin, weights_of=parent.name)
    return Candidate(family, size, precision), phase
