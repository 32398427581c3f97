"""What was measured on a platform once, kept, to predict other networks: one JSON file each."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from featherweight.architecture import Architecture
from featherweight.devices.known import find_device, settings_folder
from featherweight.errors import UsageError
from featherweight.exporting.platforms import Platform
from featherweight.measuring.prediction import Predicted, Predictor, fit_predictor
from featherweight.networks.resolve import resolve_architecture
from featherweight.records import Record, parse_record, read_json, write_json
from featherweight.runtimes.runtime import RUNTIMES

__all__ = [
    "Entry",
    "Fingerprint",
    "HeldOut",
    "LatencyTable",
    "find_table",
    "fingerprint_of",
    "keep_table",
    "predict_latency",
    "read_table",
]


class Fingerprint(Record):
    """What times depend on; a table is for one of these.

    Attributes:
        cpu, arch, cores, os: of the device.
        runtime_version: of the runtime there.
        governor: frequency governor, where the system has one.
    """

    cpu: str
    arch: str
    cores: int
    os: str
    runtime_version: str
    governor: str | None = None


class Entry(Record):
    """One measured network in text form, with the 95 % interval of its median."""

    network: str
    median_ms: float = Field(gt=0)
    interval_ms: tuple[float, float]
    disturbed: bool


class HeldOut(Record):
    """How well networks were predicted that the predictor had not seen.

    Attributes:
        networks: how many.
        within_10_percent: share predicted within +-10 % of what was measured.
        mape: mean absolute error relative to what was measured.
        spearman: rank correlation.
        coverage: share of measured medians inside the 90 % interval of the prediction.
    """

    networks: int
    within_10_percent: float
    mape: float
    spearman: float
    coverage: float


class LatencyTable(Record):
    """What `device calibrate` found on one platform in one precision.

    Attributes:
        platform: text form.
        fingerprint: of the device and the runtime.
        started: ISO time.
        seconds: how long it took.
        seed: of the draw of networks.
        entries: what was measured.
        held_out: of a predictor fitted to four fifths of the entries, on the others.
    """

    platform: str
    fingerprint: Fingerprint
    started: str
    seconds: float
    seed: int
    entries: tuple[Entry, ...]
    held_out: HeldOut


def fingerprint_of(platform: Platform, *, runtime_version: str | None = None) -> Fingerprint:
    """Return what times on a platform depend on now.

    Args:
        platform: where.
        runtime_version: as the device said; `None` = this machine's.

    Raises:
        DeviceError: the device does not answer.
    """
    info = find_device(platform.device).info()
    version = runtime_version or RUNTIMES[platform.runtime].version()
    return Fingerprint(
        cpu=info.cpu,
        arch=info.arch,
        cores=info.cores,
        os=info.os,
        governor=info.governor,
        runtime_version=version,
    )


def keep_table(table: LatencyTable) -> Path:
    """Write a table where `find_table` looks; an older one of that platform is replaced."""
    path = _file(table.platform)
    write_json(path, table)
    return path


def read_table(path: Path) -> LatencyTable:
    """Read a table, also one that somebody shared.

    Raises:
        RecordError: the file is absent or no table.
    """
    return parse_record(LatencyTable, read_json(path), source=str(path))


def find_table(platform: Platform) -> LatencyTable | None:
    """Return the table of a platform; `None` = it was never calibrated.

    Raises:
        UsageError: device or runtime are not what they were: says how to renew it.
        RecordError: the file is damaged.
    """
    path = _file(str(platform))
    if not path.exists():
        return None
    table = read_table(path)
    before = table.fingerprint
    # Another machine's runtime is only known after it has run something.
    version = None if platform.device == "local" else before.runtime_version
    now = fingerprint_of(platform, runtime_version=version)
    for name in Fingerprint.model_fields:
        if getattr(before, name) != getattr(now, name):
            raise UsageError(
                f"the table of {platform} is stale: {name} was {getattr(before, name)!r} and is "
                f"{getattr(now, name)!r}",
                hint=f"renew it: featherweight device calibrate {platform}",
            )
    return table


def predict_latency(
    architectures: Sequence[Architecture], *, table: LatencyTable
) -> list[Predicted]:
    """Predict from a table what networks take on its platform: median and 90 % interval in ms."""
    return _predictor(table).predict(architectures)


@functools.lru_cache(maxsize=8)
def _predictor(table: LatencyTable) -> Predictor:
    return fit_predictor(
        [resolve_architecture(entry.network) for entry in table.entries],
        [entry.median_ms for entry in table.entries],
    )


def _file(platform: str) -> Path:
    name = re.sub(r"[^A-Za-z0-9.=-]+", "-", platform).strip("-")
    return settings_folder() / "tables" / f"{name}.json"
