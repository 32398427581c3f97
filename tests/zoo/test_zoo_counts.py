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
    assert len(exact_rows()) >= 89


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
    assert len(published_rows()) >= 60


@pytest.mark.parametrize(("name", "row"), published_rows(), ids=str)
def test_published_counts_are_reproduced(name: str, row: Published) -> None:
    """Papers round, truncate, or leave the norms out; some authors count more operators."""
    counted = profile(MODELS[name].build(width=row.width, resolution=row.resolution))
    assert row.params is not None or row.macs is not None
    if row.params is not None:
        assert counted.params == pytest.approx(row.params, abs=100_000)
    if row.macs is not None and (name, row.width) not in NOT_REPRODUCED:
        assert counted.macs == pytest.approx(row.macs, rel=_share(name), abs=1_000_000)
    assert row.top1 is None or 0.4 < row.top1 < 0.85


def _share(name: str) -> float:
    """Return how far a published number of multiply-adds may lie from ours."""
    if name.startswith("efficientnet_lite"):
        return 0.06  # the authors count more operators
    return 0.03 if name.startswith(("mnasnet", "shufflenet_v2")) else 0.015


NOT_REPRODUCED = {
    ("mobilenet_v3_small_minimalistic", 1.0): (65_000_000, 52_288_448),
    ("snet49", 1.0): (49_000_000, 51_205_832),
    ("snet146_126", 1.0): (146_000_000, 148_425_396),
}
"""(network, width) -> published and exact multiply-adds that do not agree; the zoo file says so."""


@pytest.mark.parametrize(("name", "width"), NOT_REPRODUCED)
def test_what_is_not_reproduced_is_known(name: str, width: float) -> None:
    published, exact = NOT_REPRODUCED[name, width]
    row = find_published(MODELS[name].published, width=width, resolution=224)
    assert row is not None
    assert (row.macs, profile(MODELS[name].build(width=width)).macs) == (published, exact)


CIFAR = {
    "vgg16": (14_986_698, 313_463_808),
    "ghost_vgg16": (7_650_474, 158_109_696),
    "resnet": (269_722, 40_551_040),
    "resnet56": (853_018, 125_485_696),
    "ghost_resnet56": (429_882, 63_009_408),
}
"""Networks for 32 x 32 with 10 classes, counted by hand from GhostNet's tables 2 to 5."""


@pytest.mark.parametrize("name", CIFAR)
def test_networks_for_cifar(name: str) -> None:
    counted = profile(MODELS[name].build(classes=10))
    assert (counted.params, counted.macs) == CIFAR[name]


@pytest.mark.parametrize(
    ("ratio", "cheap", "params", "macs"),
    [
        (3, 3, 5_218_476, 107_240_040),
        (4, 3, 3_982_362, 80_432_640),
        (5, 3, 3_269_697, 65_665_296),
        (2, 1, None, 157_003_776),
        (2, 5, None, 160_321_536),
        (2, 7, None, 163_639_296),
    ],
)
def test_ghost_vgg_of_other_ratios_and_cheap_kernels(
    ratio: int, cheap: int, params: int | None, macs: int
) -> None:
    """GhostNet, tables 3 and 4."""
    network = MODELS["ghost_vgg16"].build(classes=10)
    blocks = tuple(
        block
        if block.op == "max_pool"
        else block.model_copy(update={"ghost_ratio": ratio, "cheap_kernel_size": cheap})
        for block in network.blocks
    )
    counted = profile(network.changed(blocks=blocks))
    assert counted.macs == macs
    assert params is None or counted.params == params


def test_ghost_resnet_with_the_cheap_kernels_of_the_text() -> None:
    network = MODELS["ghost_resnet56"].build(classes=10)
    blocks = tuple(block.model_copy(update={"cheap_kernel_size": 3}) for block in network.blocks)
    counted = profile(network.changed(blocks=blocks))
    assert (counted.params, counted.macs) == (438_010, 65_139_328)


@pytest.mark.parametrize(
    ("name", "macs"),
    [("snet49", 51.2), ("snet146", 161.1), ("snet146_126", 148.4), ("snet535", 535.4)],
)
def test_snet_as_printed_and_as_published(name: str, macs: float) -> None:
    """ThunderNet, table 1: what is printed for 146 has 161.1M multiply-adds."""
    counted = profile(MODELS[name].build()).macs
    assert counted is not None
    assert round(counted / 1e6, 1) == macs


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
