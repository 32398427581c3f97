"""Whether a device can measure: the verb `device check`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from featherweight.devices.device import Device
from featherweight.devices.known import find_device
from featherweight.exporting.platforms import offered_precisions, parse_platform
from featherweight.measuring.agreement import MOST_DIFFERENCE, device_difference
from featherweight.measuring.bench import export_untrained
from featherweight.measuring.latency import measure_artifacts, no_python
from featherweight.networks.resolve import resolve_architecture

__all__ = ["check_device"]

_NETWORK = "mobilenet_v2:width=0.5,resolution=96,classes=10"
"""Small enough for any device, with every kind of layer that most networks have."""
_ASK = """
import importlib, json, shutil, sys
found = {}
for name in ("numpy", "onnxruntime", "ncnn", "featherweight"):
    try:
        module = importlib.import_module(name)
        found[name] = str(getattr(module, "__version__", "?"))
    except ImportError:
        found[name] = None
print(json.dumps({"python": sys.version.split()[0], "packages": found,
                  "free_bytes": shutil.disk_usage(".").free}))
"""
_ASK_S = 60.0


def check_device(text: str, *, runtime: str = "onnxruntime") -> dict[str, Any]:
    """Look at a device, run a small network on it and compare its answer with this machine's.

    Args:
        text: name or URL.
        runtime: which runtime.

    Returns:
        `ok, device, info, python, packages, free_bytes, measured: [{platform, median_ms,
        interval_ms, relative_iqr, disturbed, difference}], problems`.

    Raises:
        UsageError: an unknown device or runtime.
        DeviceError: it does not answer, or has no Python or runtime; says what to do.
    """
    device = find_device(text)
    info = device.info()
    asked = _ask_python(device)
    measured, problems = [], []
    plain = parse_platform(f"{text}/{runtime}")
    for precision in offered_precisions(plain, str(plain.runtime)):
        platform = plain.with_precision(precision)
        with tempfile.TemporaryDirectory(prefix="featherweight-") as folder:
            artifact = export_untrained(
                resolve_architecture(_NETWORK), platform=platform, out=Path(folder)
            )
            (found,) = measure_artifacts([artifact], platform=platform, names=[_NETWORK])
            difference = device_difference(artifact, platform=platform)
        measured.append(
            {
                "platform": found.platform,
                "median_ms": found.median_ms,
                "interval_ms": found.interval_ms,
                "relative_iqr": found.relative_iqr,
                "disturbed": found.disturbed,
                "difference": difference,
            }
        )
        if difference is not None and difference > MOST_DIFFERENCE[precision]:
            problems.append(
                f"{precision}: the device computes something else than this machine: "
                f"{difference:.2g} of the largest logit (allowed: {MOST_DIFFERENCE[precision]:g})"
            )
        if found.disturbed:
            problems.append(f"{precision}: other programs or a changing clock disturb the timing")
    return {
        "ok": not problems,
        "device": device.url,
        "info": info.model_dump(mode="json"),
        **asked,
        "measured": measured,
        "problems": problems,
    }


def _ask_python(device: Device) -> dict[str, Any]:
    """Return version, packages and free space, as far as the device has a Python to say it."""
    if device.python is None:
        return {"python": None, "packages": {}, "free_bytes": None}
    asked = device.run([device.python, "-c", _ASK], timeout_s=_ASK_S)
    if asked.returncode != 0:
        lines = asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"]
        raise no_python(device, lines[-1])
    found: dict[str, Any] = json.loads(asked.stdout)
    return found
