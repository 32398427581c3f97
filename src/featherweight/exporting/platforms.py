"""Platforms as text: `DEVICE/RUNTIME[:threads=4,precision=int8]`."""

from __future__ import annotations

import logging
import re
from typing import Annotated

from pydantic import Field

from featherweight.devices.device import DEVICES, Device
from featherweight.devices.known import find_device, known_as
from featherweight.errors import UsageError
from featherweight.records import Record
from featherweight.registry import unknown_name
from featherweight.runtimes.runtime import RUNTIMES

__all__ = [
    "DEFAULT_PLATFORM",
    "Platform",
    "allow_recorded",
    "offered_precisions",
    "parse_platform",
]

logger = logging.getLogger(__name__)

DEFAULT_PLATFORM = "local/onnxruntime:threads=1"
_FORM = "DEVICE/RUNTIME[:threads=N,precision=fp32|int8|...], such as " + DEFAULT_PLATFORM
_SETTINGS = ("threads", "precision")
_DIGITS = re.compile(r"[0-9]{1,9}")


class Platform(Record):
    """What executes a network where, and how; `str()` is what `parse_platform` reads.

    Attributes:
        device: name or URL of the device.
        runtime: name of the runtime.
        num_threads: threads of the runtime, set explicitly, never its default.
        precision: numbers the network is computed in.
    """

    device: str
    runtime: str
    num_threads: Annotated[int, Field(ge=1)] = 1
    precision: str = "fp32"

    def __str__(self) -> str:
        """Return the text form, always with threads and precision."""
        settings = f"threads={self.num_threads},precision={self.precision}"
        return f"{self.device}/{self.runtime}:{settings}"

    @property
    def saturation_safe(self) -> bool | None:
        """Whether int8 files for the device need smaller weights, as `Runtime.export` takes it.

        Raises:
            DeviceError: the device does not answer.
        """
        return find_device(self.device).info().int8_pairs_saturate

    def with_precision(self, precision: str) -> Platform:
        """Return the same platform in another precision.

        Raises:
            UsageError: the runtime does not have it.
        """
        _check_precision(self.runtime, precision)
        return self.model_copy(update={"precision": precision})


def parse_platform(text: str) -> Platform:
    """Read a platform.

    Raises:
        UsageError: not of the form, or an unknown device, runtime, setting or precision (the
            nearest one is suggested), or more threads than the device has cores.
        DeviceError: the device does not answer.
    """
    # The device may hold slashes (ssh://user@host:22), runtime and settings hold none.
    device, slash, rest = text.strip().rpartition("/")
    if device.endswith(":/"):
        raise UsageError(
            f"the platform {text!r} names no runtime",
            allowed=_FORM,
            hint=f"such as {text.strip()}/onnxruntime",
        )
    runtime, colon, settings_text = rest.partition(":")
    if not (slash and device and runtime) or (colon and not settings_text):
        known = runtime in RUNTIMES
        hint = f"did you mean {'local/' + rest!r}?" if known and not slash else None
        raise UsageError(f"cannot read the platform {text!r}", allowed=_FORM, hint=hint)
    found = find_device(device)
    if runtime not in RUNTIMES:
        raise unknown_name("runtime", runtime, RUNTIMES)
    settings = _settings(settings_text, text=text)
    precision = settings.get("precision", "fp32")
    _check_precision(runtime, precision)
    return Platform(
        device=device,
        runtime=runtime,
        num_threads=_num_threads(settings.get("threads", "1"), device=found),
        precision=precision,
    )


def allow_recorded(text: str, *, source: str) -> None:
    """See whether a platform that a file names may be used, before anything connects to it.

    A run directory may come from anybody. Its device is used when it is this machine, or when the
    user gave it a name with `device add`; then a line of the log says what will be connected to.

    Args:
        text: platform that the file names.
        source: of the text, for messages.

    Raises:
        UsageError: a device that the user never named.
    """
    device = text.strip().rpartition("/")[0]
    if device in DEVICES:
        return
    name = known_as(device)
    if name is None:
        raise UsageError(
            f"{source} was made for the device {device!r}, which is not one of yours",
            allowed="this machine, and devices that `featherweight device list` shows",
            hint=f"if you trust it, name it yourself: --on {text}",
        )
    logger.info("%s names the device %s: connecting to it", source, name)


def offered_precisions(platform: Platform, text: str) -> tuple[str, ...]:
    """Return what may ship: the precision that `text` spells out, else fp32 and int8.

    Args:
        platform: what `text` was read as.
        text: as the user wrote it.
    """
    if "precision=" in text:
        return (platform.precision,)
    offered = RUNTIMES[platform.runtime].precisions
    return tuple(precision for precision in ("fp32", "int8") if precision in offered)


def _settings(settings_text: str, *, text: str) -> dict[str, str]:
    """Return the settings behind the colon, each given once."""
    settings: dict[str, str] = {}
    for part in settings_text.split(",") if settings_text else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (equals and value):
            raise UsageError(
                f"cannot read the setting {part!r} of the platform {text!r}", allowed=_FORM
            )
        if key not in _SETTINGS:
            raise unknown_name("platform setting", key, _SETTINGS)
        if key in settings:
            raise UsageError(f"the platform {text!r} gives {key} twice")
        settings[key] = value
    return settings


def _num_threads(text: str, *, device: Device) -> int:
    """Return the number of threads, which the device must have cores for."""
    cores = device.info().cores
    if not (_DIGITS.fullmatch(text) and 1 <= int(text) <= cores):
        raise UsageError(
            f"cannot use threads={text} on the device {device.url!r}", allowed=f"1 to {cores}"
        )
    return int(text)


def _check_precision(runtime: str, precision: str) -> None:
    """Refuse a precision the runtime does not have."""
    known = RUNTIMES[runtime].precisions
    if precision not in known:
        raise unknown_name(f"precision of {runtime}", precision, known)
