"""Devices by what a user writes: a fixed name, a URL, or a name given with `device add`."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

from featherweight.arguments import home_folder
from featherweight.devices.device import DEVICE_SCHEMES, DEVICES, Device
from featherweight.errors import UsageError
from featherweight.records import Record, parse_record, read_json, write_json
from featherweight.registry import unknown_name

__all__ = [
    "KnownDevice",
    "add_device",
    "find_device",
    "known_as",
    "known_devices",
    "settings_folder",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class KnownDevice(Record):
    """A device that was given a name. No secrets: those are ssh's business.

    Attributes:
        url: such as `ssh://pi@raspberrypi.local`.
        python: interpreter on the device; `None` = the scheme's usual one.
    """

    url: str
    python: str | None = None


class _KnownDevices(Record):
    devices: dict[str, KnownDevice]


def find_device(text: str) -> Device:
    """Return the device of a name or URL; the same object for the same text.

    Raises:
        UsageError: an unknown name or scheme, or a URL that cannot be read.
    """
    if text in DEVICES:
        return DEVICES[text]
    known = known_devices()
    if text in known:
        return _open(known[text].url, known[text].python)
    if "://" in text:
        return _open(text, None)
    unknown = unknown_name("device", text, [*DEVICES, *known])
    raise UsageError(
        unknown.message,
        allowed=", ".join([unknown.allowed or "", *(f"{name}://..." for name in DEVICE_SCHEMES)]),
        hint=unknown.hint or f"give it a name: featherweight device add {text} URL",
    )


def known_devices() -> dict[str, KnownDevice]:
    """Return what `device add` wrote.

    Raises:
        RecordError: the file cannot be read as such.
    """
    path = _file()
    if not path.exists():
        return {}
    return parse_record(_KnownDevices, read_json(path), source=str(path)).devices


def known_as(text: str) -> str | None:
    """Return how the user knows a device, as `NAME (URL)`; `None` where it was never named.

    Args:
        text: name or URL.

    Raises:
        RecordError: the file of names cannot be read as such.
    """
    for name, known in known_devices().items():
        if text == name or text.rstrip("/") == known.url.rstrip("/"):
            return f"{name} ({known.url})"
    return None


def add_device(name: str, device: KnownDevice) -> Path:
    """Give a device a name; one that had it before is replaced.

    Returns:
        the file that keeps the names.

    Raises:
        UsageError: a name that cannot be one, or a URL that cannot be read.
    """
    if not _NAME.fullmatch(name) or name in DEVICES:
        raise UsageError(
            f"cannot call a device {name!r}",
            allowed=f"letters, digits, - and _, but not {', '.join(DEVICES)}",
        )
    _open(device.url, device.python)
    path = _file()
    write_json(path, _KnownDevices(devices={**known_devices(), name: device}))
    return path


@functools.cache
def _open(url: str, python: str | None) -> Device:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in DEVICE_SCHEMES:
        raise UsageError(
            f"cannot read the device {url!r}",
            allowed=", ".join(f"{name}://..." for name in DEVICE_SCHEMES),
        )
    return DEVICE_SCHEMES[scheme](url, python)


def settings_folder() -> Path:
    """Return the folder of what is known about devices.

    It is $FEATHERWEIGHT_HOME or ~/.config/featherweight.

    Raises:
        UsageError: this user has no home directory, and the variable is not set.
    """
    home = os.environ.get("FEATHERWEIGHT_HOME")
    return Path(home) if home else home_folder(".config/featherweight")


def _file() -> Path:
    return settings_folder() / "devices.json"
