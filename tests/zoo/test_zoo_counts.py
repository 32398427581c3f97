"""Exact and published counts of the zoo."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from featherweight.profiling.profile import profile
from featherweight.zoo.model import MODELS
from featherweight.zoo.published import Published, find_published

EXACT = Path(__file__).parent.parent / "golden" / "exact_counts.csv"
"""Counted on torchvision's and timm's networks, and by hand from the papers' tables."""


def exact_rows() -> list[dict[str, str]]:
    with EXACT.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_table_was_found() -> None:
    assert len(exact_rows()) >= 43


@pytest.mark.parametrize(
    "row", exact_rows(), ids=lambda row: f"{row['model']}-{row['width']}-{row['resolution']}"
)
def test_exact_counts(row: dict[str, str]) -> None:
    counted = profile(
        MODELS[row["model"]].build(width=float(row["width"]), resolution=int(row["resolution"]))
    )
    assert counted.params == int(row["params"])
    assert counted.macs == int(row["macs"])
    if row["flops"]:
        assert counted.flops == int(row["flops"])


def published_rows() -> list[tuple[str, Published]]:
    return [(name, row) for name in MODELS for row in MODELS[name].published]


def test_published_rows_were_found() -> None:
    assert len(published_rows()) >= 37


@pytest.mark.parametrize(("name", "row"), published_rows(), ids=str)
def test_published_counts_are_reproduced(name: str, row: Published) -> None:
    """Papers round, truncate, or leave the norms out; EfficientNet-Lite counts more operators."""
    counted = profile(MODELS[name].build(width=row.width, resolution=row.resolution))
    assert row.params is not None
    assert row.macs is not None
    assert counted.params == pytest.approx(row.params, abs=100_000)
    share = 0.06 if name.startswith("efficientnet_lite") else 0.015
    assert counted.macs == pytest.approx(row.macs, rel=share, abs=1_000_000)
    assert row.top1 is not None
    assert 0.4 < row.top1 < 0.8


def test_a_published_row_is_found_by_width_and_resolution() -> None:
    rows = MODELS["mobilenet_v2"].published
    found = find_published(rows, width=0.5, resolution=160)
    assert found is not None
    assert found.top1 == 0.610
    assert find_published(rows, width=0.6, resolution=160) is None


def test_defaults_are_golden(golden: Callable[[str, str], None]) -> None:
    """A changed digest means that caches and saved networks no longer fit."""
    table = {}
    for name in MODELS:
        architecture = MODELS[name].build()
        counted = profile(architecture)
        table[name] = {
            "resolution": architecture.resolution,
            "params": counted.params,
            "macs": counted.macs,
            "flops": counted.flops,
            "peak_activation_bytes": counted.peak_activation_bytes,
            "digest": architecture.digest,
        }
    golden("zoo.json", json.dumps(table, indent=2) + "\n")
