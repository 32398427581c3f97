"""Predict networks by name from what `device calibrate` kept: `measure --predicted`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featherweight.arguments import to_path
from featherweight.errors import UsageError
from featherweight.exporting.platforms import DEFAULT_PLATFORM, offered_precisions, parse_platform
from featherweight.measuring.table import LatencyTable, find_table, predict_latency, read_table
from featherweight.networks.resolve import resolve_architecture
from featherweight.records import Record

__all__ = ["Prediction", "predict_latencies"]


class Prediction(Record):
    """What one network should take on one platform.

    Attributes:
        network, platform: text forms.
        median_ms: predicted.
        interval_ms: 90 % interval: nine of ten networks that are measured lie inside.
    """

    network: str
    platform: str
    median_ms: float
    interval_ms: tuple[float, float]


def predict_latencies(
    networks: Sequence[str],
    *,
    on: Sequence[str] = (DEFAULT_PLATFORM,),
    table: str | Path | None = None,
) -> list[Prediction]:
    """Predict latencies from tables; nothing is measured.

    Args:
        networks: zoo names with settings, run directories or architecture.json files.
        on: platforms that were calibrated; without a precision those of fp32 and int8 that were.
        table: a table that somebody shared, instead of `on`.

    Raises:
        UsageError: an unknown network or platform, or one that was not calibrated; says how.
        RecordError: a table is damaged.
    """
    architectures = [resolve_architecture(network) for network in networks]
    tables = [read_table(to_path(table, name="table"))] if table is not None else _tables(on)
    return [
        Prediction(
            network=network,
            platform=found.platform,
            median_ms=one.median_ms,
            interval_ms=(one.low_ms, one.high_ms),
        )
        for found in tables
        for network, one in zip(networks, predict_latency(architectures, table=found), strict=True)
    ]


def _tables(on: Sequence[str]) -> list[LatencyTable]:
    found = []
    for text in on:
        plain = parse_platform(text)
        tables = [
            find_table(plain.with_precision(precision))
            for precision in offered_precisions(plain, text)
        ]
        known = [table for table in tables if table is not None]
        if not known:
            raise UsageError(
                f"{text} was never calibrated",
                hint=f"featherweight device calibrate {text} (some minutes), or measure instead",
            )
        found += known
    return found
