"""`create_model`: a network from its text form."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision

import featherweight as fw
from featherweight.errors import UnsupportedError, UsageError
from featherweight.networks.creation import create_model
from featherweight.networks.preprocessing import Preprocessing
from featherweight.runtimes.onnx_writer import write_onnx


def test_settings_reach_the_network() -> None:
    network = create_model("mobilenet_v2:width=0.5,resolution=64,classes=7")
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert not network.training


def test_the_public_name() -> None:
    assert fw.create_model is create_model


def test_unknown_network() -> None:
    with pytest.raises(UsageError, match="did you mean"):
        create_model("mobilnet_v2")


def test_without_classes_the_network_ends_with_features() -> None:
    whole = create_model("mobilenet_v3_small:resolution=64,classes=7")
    headless = create_model("mobilenet_v3_small:resolution=64,classes=0")
    weights = {k: v for k, v in whole.state_dict().items() if not k.startswith("classifier.")}
    headless.load_state_dict(weights)  # strict: nothing else is missing or surplus
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert headless(images).shape == (2, 1024)
        assert torch.equal(headless(images), whole.forward_features(images))
        assert torch.equal(headless.forward_features(images), headless(images))


def test_weights_of_a_classifier_fit_a_network_without(tmp_path: Path) -> None:
    theirs = torchvision.models.mobilenet_v2()
    torch.save(theirs.state_dict(), tmp_path / "v2.pth")
    headless = create_model("mobilenet_v2:classes=0", pretrained=str(tmp_path / "v2.pth"))
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    theirs.classifier = torch.nn.Identity()
    with torch.no_grad():
        expected = theirs.eval()(images)
    assert torch.allclose(headless(images), expected, rtol=1e-4, atol=1e-5 * expected.abs().max())


def test_a_network_without_classes_is_not_exported() -> None:
    architecture = fw.create_architecture("mobilenet_v2", resolution=64, classes=0)
    with pytest.raises(UnsupportedError, match="no classifier"):
        write_onnx(architecture, None, preprocessing=Preprocessing(), labels=())


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("mobilenet_v3_large", "mobilenetv3_large_100"),
        ("mobilenet_v3_small", "mobilenetv3_small_100"),
        ("mobilenet_v4_conv_small", "mobilenetv4_conv_small"),
        ("mobilenet_v4_conv_medium", "mobilenetv4_conv_medium"),
    ],
)
def test_features_have_timms_widths_and_reductions(name: str, theirs: str) -> None:
    features = fw.create_features(name)
    listed = timm.create_model(theirs, features_only=True).feature_info
    assert features.channels == tuple(listed.channels())
    assert features.reductions == tuple(listed.reduction()) == (2, 4, 8, 16, 32)


def test_the_last_feature_map_is_what_is_pooled() -> None:
    features = fw.create_features("shufflenet_v2:resolution=96", seed=3)
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = features(images)
        pooled = features.network.forward_features(images)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (24, 48, 48),
        (24, 24, 24),
        (116, 12, 12),
        (232, 6, 6),
        (1024, 3, 3),
    ]
    assert features.channels == (24, 24, 116, 232, 1024)
    assert torch.allclose(maps[-1].mean((2, 3)), pooled, atol=1e-6)
