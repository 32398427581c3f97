"""A fit and a training are known by their pictures and settings, however these are spelled."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from featherweight.errors import RunDirectoryError
from featherweight.fitting.fit import fit
from featherweight.fitting.settings import FitSettings
from featherweight.run_directory import RunDirectory
from featherweight.training.train import train


class Cut(Exception):
    """The attempt ends here."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with 20 pictures of two classes in ./pets."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for k in range(10):
            pixels = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{k}.png")
    return tmp_path


def cut_fit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a fit that is cut once its directory is open, and gives that directory."""
    opened: list[RunDirectory] = []

    def cut(run: RunDirectory, *given: Any, **named: Any) -> None:
        opened.append(run)
        raise Cut

    monkeypatch.setattr(importlib.import_module("featherweight.fitting.fit"), "_fit", cut)

    def begin(data: str | Path, **given: Any) -> Path:
        with pytest.raises(Cut):
            fit(data, latency="5ms", time="30m", **given)
        return opened[-1].path

    return begin


def test_the_same_pictures_go_on_however_they_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = cut_fit(monkeypatch)
    first = begin("pets")
    for spelling in ("pets/", "./pets", folder / "pets", "../" + folder.name + "/pets"):
        assert begin(spelling) == first, spelling
    (folder / "pets").rename(folder / "animals")
    assert begin("animals", output=first) == begin("animals") == first
    record = yaml.safe_load((first / "run.yaml").read_text())
    assert "pets" not in str(record["identity"])
    assert record["given"]["data"] == "animals"  # where `fit --from` finds them
    assert len(record["attempts"]) == 7
    (folder / "animals" / "cat" / "0.png").unlink()
    assert begin("animals") != first
    with pytest.raises(RunDirectoryError, match="fingerprint is"):
        fit("animals", latency="5ms", time="30m", output=first)


def test_weights_are_known_by_their_content(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = cut_fit(monkeypatch)
    Path("w.bin").write_bytes(b"weights")
    first = begin("pets", model="mobilenet_v2", pretrained="w.bin")
    assert begin("pets", model="mobilenet_v2", pretrained="./w.bin") == first
    Path("w.bin").write_bytes(b"others")
    assert begin("pets", model="mobilenet_v2", pretrained="w.bin") != first


def test_finished_stages_do_not_depend_on_the_path() -> None:
    one, two = (
        FitSettings(data=data, latency_ms=5.0, platform="local/onnxruntime:threads=1")
        for data in ("pets", "./pets")
    )
    assert one.model_dump(mode="json") == two.model_dump(mode="json")
    assert one.identity(fingerprint="f") == two.identity(fingerprint="f")
    assert (one.given["data"], two.given["data"]) == ("pets", "./pets")


def test_a_training_goes_on_however_its_pictures_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("featherweight.training.train")

    def cut(*given: Any, **named: Any) -> None:
        raise Cut

    monkeypatch.setattr(module, "train_network", cut)
    for spelling in ("pets", "pets/", "./pets"):
        with pytest.raises(Cut):
            train(spelling, model="convnet:width=0.25", epochs=1)
    (folder / "pets").rename(folder / "animals")
    with pytest.raises(Cut):
        train("animals", model="convnet:width=0.25", epochs=1)
    (run,) = (folder / "runs").iterdir()
    assert "pets" not in str(yaml.safe_load((run / "run.yaml").read_text())["identity"])
