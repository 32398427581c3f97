"""Write a trained network as the files one runtime executes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featherweight.arguments import to_path
from featherweight.errors import UsageError
from featherweight.networks.preprocessing import Preprocessing
from featherweight.runtimes.artifact import Artifact
from featherweight.runtimes.runtime import RUNTIMES, ExportOptions

if TYPE_CHECKING:
    from featherweight.networks.modules import AnyNetwork

__all__ = ["export_network", "network_weights"]


def export_network(  # noqa: PLR0913 - all that a file is made of
    network: AnyNetwork,
    *,
    runtime: str,
    precision: str = "fp32",
    out: str | Path,
    calibration: np.ndarray | None = None,
    preprocessing: Preprocessing,
    labels: tuple[str, ...],
    saturation_safe: bool | None = None,
    task: str = "classification",
) -> Artifact:
    """Export a network with its weights.

    Args:
        network: what to export, on any device; at `network.architecture.input_shape`.
        runtime: name of a registered runtime.
        precision: what the file computes in.
        out: directory of the files and their artifact.json; created.
        calibration: uint8 (N, H, W, 3) training pictures at the network's resolution; int8 needs
            them, 64 are enough.
        preprocessing: its normalisation becomes part of the file.
        labels: class names in the order of the logits.
        saturation_safe: of int8, see `ExportOptions`; `None` = as this machine's CPU needs it.
        task: kind of the task that the answers are for.

    Raises:
        UsageError: an unknown runtime or precision, int8 without pictures, labels that do not
            fit, weights that are not finite.
    """
    if precision == "int8" and calibration is None:
        raise UsageError(
            "int8 without calibration pictures", hint="give 64 or more pictures of the train split"
        )
    options = ExportOptions(
        precision=precision,
        preprocessing=preprocessing,
        labels=labels,
        calibration=calibration,
        saturation_safe=saturation_safe,
        task=task,
    )
    folder = to_path(out, name="out")
    return RUNTIMES[runtime].export(network.architecture, network_weights(network), folder, options)


def network_weights(network: AnyNetwork) -> dict[str, np.ndarray]:
    """Return the state dict as numpy arrays.

    Raises:
        UsageError: an array holds a value that is not finite; names it.
    """
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    for name, values in weights.items():
        if not np.isfinite(values).all():
            raise UsageError(
                f"the weights {name!r} hold values that are not finite",
                hint="the training diverged: lower the learning rate and train again",
            )
    return weights
