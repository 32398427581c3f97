"""Decoding and resizing, timed beside the network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherweight.cli.app import run
from featherweight.measuring.preparing import time_preparation

NETWORK = "mobilenet_v2:width=0.25,resolution=64,classes=10"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(noise).resize((1600, 1200)).save(path)
    return path


def test_a_large_photograph_takes_longer_than_its_thumbnail(photo: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.jpg"
    Image.open(photo).resize((64, 64)).save(small)
    large_ms, small_ms = (
        time_preparation(path, resolution=64).median_ms for path in (photo, small)
    )
    assert large_ms > 3 * small_ms


def test_it_stands_beside_the_network(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["measure", NETWORK, "--picture", str(photo), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    prepared = found["preparation"]
    assert (prepared["picture"], prepared["resolution"]) == (str(photo), 64)
    assert prepared["interval_ms"][0] <= prepared["median_ms"] <= prepared["interval_ms"][1]
    assert run(["measure", NETWORK, "--picture", str(photo)]) == 0
    assert f"decode and resize {photo} to 64" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["absent.jpg", "text.jpg"])
def test_what_is_no_picture_is_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    assert run(["measure", NETWORK, "--picture", str(tmp_path / name)]) == 2
    assert name in capsys.readouterr().err
