"""Weights of torchvision over the network, only when somebody asks for them by name."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

from featherweight.architecture import Architecture
from featherweight.arguments import home_folder
from featherweight.errors import FailedError, UsageError
from featherweight.networks.resolve import ALIASES

__all__ = ["Download", "fetch", "find_download"]

logger = logging.getLogger(__name__)

_NAMES = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
"""Networks that torchvision calls as we do; the others are aliases."""


class Download(NamedTuple):
    """One file on torchvision's server.

    Attributes:
        name: of torchvision's network.
        url: where it is; the end of its name is the start of its SHA-256.
        size_bytes: of the file.
        crop_fraction: of the evaluation that its accuracy was published with.
    """

    name: str
    url: str
    size_bytes: int
    crop_fraction: float


def find_download(architecture: Architecture) -> Download:
    """Return torchvision's best weights for a network.

    Raises:
        UsageError: torchvision has no weights for it.
    """
    from torchvision.models import get_model_weights

    known = {ALIASES.get(name, (name, {}))[0] for name in _torchvision_names()}
    for name in _torchvision_names():
        base, implied = ALIASES.get(name, (name, {}))
        if architecture.name == _full_name(base, implied) and architecture.padding == "symmetric":
            weights = get_model_weights(name).DEFAULT
            transforms = weights.transforms()
            return Download(
                name=name,
                url=weights.url,
                size_bytes=round(weights.meta["_file_size"] * 2**20),
                crop_fraction=transforms.crop_size[0] / transforms.resize_size[0],
            )
    raise UsageError(
        f"torchvision has no weights for {architecture.name}",
        allowed=", ".join(sorted(known)) + " at the widths torchvision has",
        hint="give the path of a state_dict",
    )


def _torchvision_names() -> list[str]:
    import torchvision

    return [*_NAMES, *(name for name in ALIASES if hasattr(torchvision.models, name))]


def _full_name(base: str, implied: dict[str, object]) -> str:
    width = implied.get("width", 1.0)
    return base if width == 1.0 else f"{base}:width={width:g}"


def fetch(download: Download) -> Path:
    """Return the file, downloaded unless an earlier call left it; its SHA-256 is checked.

    It is kept in $FEATHERWEIGHT_HOME/weights, or without that variable where torch keeps its own
    ($TORCH_HOME).

    Raises:
        FailedError: the server cannot be reached, or sends another file.
        UsageError: there is no place to keep it.
    """
    import torch

    home = os.environ.get("FEATHERWEIGHT_HOME")
    folder = Path(home) / "weights" if home else Path(torch.hub.get_dir()) / "checkpoints"
    if folder.parts[0] == "~":  # torch keeps the sign where there is no home directory
        folder = home_folder(".cache/torch/hub/checkpoints")
    file = folder / download.url.rpartition("/")[2]
    if file.exists():
        return file
    logger.info("downloading %s (%.1f MB) to %s", download.url, download.size_bytes / 2**20, folder)
    digest = file.stem.rpartition("-")[2]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(download.url, str(file), digest, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise FailedError(
            f"cannot download {download.url} ({download.size_bytes / 2**20:.1f} MB): {error}",
            hint="download it elsewhere and give its path: --pretrained FILE",
        ) from error
    return file
