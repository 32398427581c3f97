"""Whether a device computes what this machine computes from the same file."""

from __future__ import annotations

import numpy as np

from featherweight.devices.known import find_device
from featherweight.exporting.platforms import Platform
from featherweight.measuring.latency import answer_of_device
from featherweight.measuring.worker import seeded_picture
from featherweight.runtimes.artifact import Artifact
from featherweight.runtimes.runtime import RUNTIMES

__all__ = ["MOST_DIFFERENCE", "device_difference"]

MOST_DIFFERENCE = {"fp32": 1e-3, "fp16": 0.05, "bf16": 0.1, "int8": 0.25}
"""Largest difference of a logit, over the largest logit, that rounding explains. Kernels for other
processors add in another order; the other precisions round at every layer."""
_TIMEOUT_S = 300.0
_SEED = 0


def device_difference(artifact: Artifact, *, platform: Platform) -> float | None:
    """Run a file on a device and here, on one seeded picture.

    Args:
        artifact: exported for the runtime and precision of `platform`.
        platform: where it runs; here it runs in the same runtime.

    Returns:
        the largest difference of an answer, divided by the largest answer; `None` = the device has
        no Python, and its programs tell times but no answers.

    Raises:
        DeviceError: the device does not answer or cannot run the file.
    """
    device = find_device(platform.device)
    if device.python is None:
        return None
    job = {
        "runtime": platform.runtime,
        "precision": platform.precision,
        "num_threads": platform.num_threads,
        "samples": 1,
        "max_s_each": 0.1,
        "seed": _SEED,
        "cpus": None,
        "answers": True,
    }
    answer = answer_of_device(device, [artifact], job, timeout_s=_TIMEOUT_S)
    there = answer["answers"][0]
    predict = RUNTIMES[platform.runtime].load(artifact, num_threads=1)
    here = predict(seeded_picture(artifact.input_shape, _SEED))
    differences = [
        np.abs(np.asarray(there[name]) - values.reshape(-1)).max()
        / max(np.abs(values).max(), 1e-30)
        for name, values in here.items()
    ]
    return float(np.max(differences))  # not max(): it may pass over NaN
