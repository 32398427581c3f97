"""Learn a platform, the verb `device calibrate`: networks are timed, a predictor is checked."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from featherweight.architecture import Architecture
from featherweight.arguments import optional_path
from featherweight.errors import DeviceError, UsageError
from featherweight.exporting.platforms import Platform, offered_precisions, parse_platform
from featherweight.measuring.bench import Untrained, time_untrained
from featherweight.measuring.measurement import Measurement
from featherweight.measuring.prediction import Predicted, fit_predictor
from featherweight.measuring.sampling import sample_networks
from featherweight.measuring.table import (
    Entry,
    HeldOut,
    LatencyTable,
    fingerprint_of,
    keep_table,
)
from featherweight.records import write_json

__all__ = ["calibrate", "judge", "time_sampled"]

logger = logging.getLogger(__name__)

_NETWORKS = 640
_ROUND = 16
"""Networks measured together: their files and the runtime's copies are in memory at once."""
_TOLD = 4 * _ROUND
"""Networks between two lines of progress."""
_SAMPLES = 15
"""The median of these is known to about 1.6 %; more networks say more than more samples."""
_MOST_S_EACH = 0.5
_FEWEST = 60
"""Networks without which nothing is predicted."""
_MOST_DISTURBED = 0.25
"""Share of disturbed measurements from which a table would predict the disturbance."""
_HELD = 5
"""Every so many networks one is held out for the error that is reported."""


def calibrate(
    on: str,
    *,
    time_s: float = 600.0,
    seed: int = 0,
    share: str | Path | None = None,
) -> list[LatencyTable]:
    """Time sampled networks on a platform and keep what predicts others; one table per precision.

    Args:
        on: platform in text form; without a precision fp32 and int8 are both learnt.
        time_s: at most about this long; the precisions share it.
        seed: of the draw.
        share: folder that gets a copy of each table, for others to load.

    Raises:
        UsageError: an unknown platform, or `share` is a file.
        DeviceError: the device could not measure, was too slow to time 60 networks, or was so busy
            that a quarter of the measurements were disturbed.
    """
    share = optional_path(share, name="share")
    if share is not None and share.exists() and not share.is_dir():
        raise UsageError(f"{share} is a file", allowed="a folder for the copies, also a new one")
    plain = parse_platform(on)
    platforms = [plain.with_precision(one) for one in offered_precisions(plain, on)]
    deadline = time.monotonic() + time_s
    tables = []
    for position, platform in enumerate(platforms):
        share_s = (deadline - time.monotonic()) / (len(platforms) - position)
        table = _calibrate(platform, time_s=share_s, seed=seed)
        path = keep_table(table)
        logger.info("%s: %d networks, %s", platform, len(table.entries), path)
        tables.append(table)
        if share is not None:
            write_json(share / path.name, table)
    return tables


def _calibrate(platform: Platform, *, time_s: float, seed: int) -> LatencyTable:
    started, begun = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    sampled = sample_networks(_NETWORKS, seed=seed)
    # The order of the draw goes through the families: a cut end leaves all of them.
    measured: list[Measurement] = []
    for first in range(0, len(sampled), _ROUND):
        spent_s = time.monotonic() - started
        another_s = spent_s * _ROUND / first if first else 0.0
        if spent_s + another_s > time_s:
            break
        measured += time_sampled(sampled[first : first + _ROUND], platform=platform, seed=seed)
        if first % _TOLD == 0:
            logger.info("%s: %d of %d networks timed", platform, len(measured), len(sampled))
    if len(measured) < _FEWEST:
        raise DeviceError(
            f"{platform} timed {len(measured)} networks in {time_s:.0f} s",
            hint=f"{_FEWEST} are needed: give it more --time",
        )
    disturbed = sum(one.disturbed for one in measured) / len(measured)
    if disturbed > _MOST_DISTURBED:
        raise DeviceError(
            f"{disturbed:.0%} of the measurements on {platform} were disturbed by other programs, "
            "heat or a changing clock: nothing is kept",
            hint="close other programs, or wait until it is quiet, and calibrate again",
        )
    architectures = dict(sampled)
    networks = [architectures[one.network] for one in measured]
    medians = [one.median_ms for one in measured]
    return LatencyTable(
        platform=str(platform),
        fingerprint=fingerprint_of(platform, runtime_version=measured[0].runtime_version),
        started=begun,
        seconds=time.monotonic() - started,
        seed=seed,
        entries=tuple(
            Entry(
                network=one.network,
                median_ms=one.median_ms,
                interval_ms=one.interval_ms,
                disturbed=one.disturbed,
            )
            for one in measured
        ),
        held_out=_hold_out(networks, medians),
    )


def time_sampled(
    sampled: Sequence[tuple[str, Architecture]], *, platform: Platform, seed: int = 0
) -> list[Measurement]:
    """Time networks in one process; what the runtime cannot hold is left out."""
    found = time_untrained(
        [Untrained(name, architecture, platform.precision) for name, architecture in sampled],
        platform=platform,
        samples=_SAMPLES,
        max_s_each=_MOST_S_EACH,
        seed=seed,
        refused=lambda one, refusal: logger.info("%s on %s: %s", one.label, platform, refusal),
    )
    return list(found.values())


def _hold_out(networks: Sequence[Architecture], medians_ms: Sequence[float]) -> HeldOut:
    """Predict every fifth network from the others."""
    held = [k for k in range(len(networks)) if k % _HELD == _HELD - 1]
    kept = [k for k in range(len(networks)) if k % _HELD != _HELD - 1]
    predictor = fit_predictor([networks[k] for k in kept], [medians_ms[k] for k in kept])
    return judge(predictor.predict([networks[k] for k in held]), [medians_ms[k] for k in held])


def judge(predicted: Sequence[Predicted], medians_ms: Sequence[float]) -> HeldOut:
    """Compare predictions with what was measured."""
    found = np.array([one.median_ms for one in predicted])
    truth = np.asarray(medians_ms, dtype=np.float64)
    errors = np.abs(found / truth - 1.0)
    inside = [one.low_ms <= ms <= one.high_ms for one, ms in zip(predicted, truth, strict=True)]
    return HeldOut(
        networks=len(truth),
        within_10_percent=float((errors <= 0.1).mean()),
        mape=float(errors.mean()),
        spearman=float(np.corrcoef(_ranks(found), _ranks(truth))[0, 1]),
        coverage=float(np.mean(inside)),
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    return values.argsort().argsort()
