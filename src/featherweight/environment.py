"""What the numbers of a run depend on besides its settings: machine and versions."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

from featherweight.errors import RecordError
from featherweight.records import read_json, write_json

__all__ = ["int8_pairs_saturate", "note_environment", "process_age_s"]

logger = logging.getLogger(__name__)

_IMPORTED_S = time.monotonic()
_STARTED_FIELD = 21
"""Of /proc/self/stat, counted from 0: clock ticks between the start of the system and ours."""
_PACKAGES = ("featherweight", "numpy", "onnx", "onnxruntime", "pillow", "torch", "torchvision")


def note_environment(path: Path) -> None:
    """Write environment.json; warn where an earlier attempt of the run had another environment.

    A run may go on with other versions: what it finished stays. But a training does not continue
    to the bit, and latencies measured before and after may differ. The newest attempt's
    environment is what the file says; the ones before it are kept under `before`.

    Raises:
        FailedError: the file cannot be written.
    """
    now = _environment()
    before = _earlier(path)
    if before is not None:
        changed = _differences(before, now)
        earlier = list(before.pop("before", []))
        if changed:
            logger.warning(
                "this run was begun with %s: what was finished stays, but trainings do not "
                "continue to the bit and latencies may differ",
                ", ".join(changed),
            )
            earlier.append(before)
        if earlier:
            now["before"] = earlier
    write_json(path, now)


def int8_pairs_saturate(machine: str, cpu_flags: str) -> bool:
    """Whether a CPU adds two int8 products in 16 bits that overflow (x86 without VNNI).

    Args:
        machine: architecture as the system names it, such as `x86_64` or `aarch64`.
        cpu_flags: the CPU's abilities, as /proc/cpuinfo lists them; an x86 CPU whose abilities
            are unknown counts as one without VNNI.
    """
    if machine.lower() not in ("x86_64", "amd64", "i686"):
        return False
    return not set(cpu_flags.split()) & {"avx512_vnni", "avx_vnni"}


def process_age_s() -> float:
    """Return the seconds since this process started; off Linux, since this module was imported."""
    try:
        # The program's name, in parentheses, may hold blanks.
        fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
        started_s = int(fields[_STARTED_FIELD - 2]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic() - _IMPORTED_S


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _earlier(path: Path) -> dict[str, Any] | None:
    """Return what an earlier attempt wrote; a damaged file is written anew."""
    if not path.exists():
        return None
    try:
        plain = read_json(path)
    except RecordError:
        return None
    if not isinstance(plain, dict):
        return None
    plain.pop("schema_version", None)
    return plain


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what differs, as it was and is: "torch 2.9.0 (now 2.14.1)"."""

    def flat(plain: dict[str, Any]) -> dict[str, Any]:
        versions = plain.get("versions")
        return {
            "Python": plain.get("python"),
            "CPU": plain.get("cpu"),
            **(versions if isinstance(versions, dict) else {}),
        }

    old, new = flat(before), flat(now)
    return [
        f"{name} {old.get(name)} (now {new[name]})" for name in new if old.get(name) != new[name]
    ]


def _cpu_model() -> str:
    file = Path("/proc/cpuinfo")
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
