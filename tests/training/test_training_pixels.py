"""Which pixels a training and a held-out split get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherweight.data import cache
from featherweight.data.images import load_images
from featherweight.networks.preprocessing import Preprocessing, fine_tuning_preprocessing
from featherweight.training.pixels import open_store

CROPPED = Preprocessing(crop_fraction=0.5)


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures that are grey in their centre square, and twice to four times as wide as high."""
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(tmp_path / "home"))
    for index in range(40):
        width = (200, 400)[index % 2]
        pixels = np.full((100, width, 3), 10 * (index % 20), np.uint8)
        pixels[:, width // 2 - 50 : width // 2 + 50] = 128
        folder = tmp_path / "data" / "ab"[index // 20]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "data"


def test_photographs_are_trained_whole_and_judged_by_their_centre(photographs: Path) -> None:
    store = open_store(load_images(photographs))
    train = store.train(32, CROPPED)
    assert train.pixels.shape[1:] == (64, 64, 3), "room for crops"
    assert train.aspects is not None
    assert set(train.aspects) == {2.0}, "the ends of four times as wide are cut off"
    assert (train.pixels[:, :, 32] == 128).all()
    assert (train.pixels[:, :, 2] != 128).any(), "what lies beside the centre is there"
    val = store.held_out("val", 32, CROPPED)
    assert val.aspects is None
    assert (val.pixels == 128).all()


def test_what_a_training_keeps_gives_the_pictures_of_the_file_without_decoding(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, rows = open_store(load_images(photographs)), np.array([0, 3, 9])
    train = store.train(32, CROPPED)
    decoded = store.held_out("train", 32, CROPPED, rows=rows)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(cache, "_squares", refuse)
    cut = store.centres(32, CROPPED, rows=rows)
    assert cut.pixels.shape == decoded.pixels.shape
    assert (cut.pixels == 128).all(), "half of the height: all of it is grey"
    assert (cut.targets == train.targets[rows]).all()


def test_the_centres_of_thumbnails_are_the_thumbnails() -> None:
    store, rows = open_store(load_images("demo")), np.array([2, 5])
    cut = store.centres(8, Preprocessing(), rows=rows)
    assert (cut.pixels == store.train(8, Preprocessing()).pixels[rows]).all()


def test_thumbnails_are_trained_and_judged_as_they_are() -> None:
    store = open_store(load_images("demo"))
    train = store.train(8, Preprocessing())
    assert train.pixels.shape[1:] == (8, 8, 3)
    assert train.aspects is None
    assert fine_tuning_preprocessing(CROPPED, small=store.small).crop_fraction == 1.0
    assert fine_tuning_preprocessing(CROPPED, small=False) == CROPPED
