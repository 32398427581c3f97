"""Mistakes of the literature and of other code that no other test of the zoo would notice."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from featherweight.architecture import BlockSpec
from featherweight.errors import ArchitectureError
from featherweight.layers import layers
from featherweight.nn.network import Network, build_network
from featherweight.profiling.profile import profile
from featherweight.zoo.model import MODELS


@pytest.mark.parametrize(
    ("name", "width", "without_norms"),
    [
        ("mobilenet_v1", 1.0, 4_210_088),
        ("mobilenet_v1", 0.25, 464_600),
        ("mobilenet_v2", 1.0, 3_470_760),
        ("mobilenet_v2", 1.4, 6_060_840),
        ("mobilenet_v2", 0.35, 1_663_048),
    ],
)
def test_published_params_that_leave_the_norms_out(
    name: str, width: float, without_norms: int
) -> None:
    """3.47M and 3.50M are the same MobileNetV2."""
    architecture = MODELS[name].build(width=width)
    norms = sum(2 * x.output_shape[0] for x in layers(architecture) if x.norm_eps is not None)
    assert profile(architecture).params == without_norms + norms


@pytest.mark.parametrize(
    ("groups", "printed", "without_classifier"),
    [
        (1, 143, 142_502_976),
        (2, 140, 140_036_512),
        (3, 137, 136_500_672),
        (4, 133, 133_251_776),
        (8, 137, 136_829_952),
    ],
)
def test_shufflenet_v1_prints_complexity_without_the_classifier(
    groups: int, printed: int, without_classifier: int
) -> None:
    counted = profile(MODELS[f"shufflenet_v1_g{groups}"].build())
    assert counted.macs is not None
    rest = counted.macs - (counted.layers[-1].macs or 0)
    assert counted.layers[-1].name == "classifier"
    assert rest == without_classifier
    assert round(rest / 1e6) == printed


@pytest.mark.parametrize(
    ("width", "resolution", "params", "macs"),
    [(1.0, 224, 3_185_088, 567_716_352), (0.75, 128, 1_800_144, 106_002_432)],
)
def test_convolutions_of_mobilenet_v1(
    width: float, resolution: int, params: int, macs: int
) -> None:
    """The authors' code lists its convolutions layer by layer, without norms and classifier."""
    counted = profile(MODELS["mobilenet_v1"].build(width=width, resolution=resolution))
    convolutions = [x for x in counted.layers if x.op == "conv"]
    assert len(convolutions) == 27
    assert sum(x.macs or 0 for x in convolutions) == macs
    norms = sum(2 * x.output_shape[0] for x in convolutions if x.output_shape)
    assert sum(x.params or 0 for x in convolutions) - norms == params


def test_shares_of_mobilenet_v1() -> None:
    """Table 2 prints 1.19 % for the first convolution: 1.91 % with two digits exchanged."""
    counted = profile(MODELS["mobilenet_v1"].build())
    assert counted.macs is not None
    kinds = {
        "first": [x for x in counted.layers if x.name == "blocks.0.main"],
        "depthwise": [x for x in counted.layers if x.name.endswith(".depthwise")],
        "pointwise": [x for x in counted.layers if x.name.endswith(".pointwise")],
    }
    shares = {k: 100 * sum(x.macs or 0 for x in v) / counted.macs for k, v in kinds.items()}
    assert {k: round(share, 2) for k, share in shares.items()} == {
        "first": 1.91,
        "depthwise": 3.06,
        "pointwise": 94.86,
    }


@pytest.mark.parametrize("name", MODELS)
def test_a_fresh_network_carries_its_signal(name: str) -> None:
    """torchvision's fresh networks output 1e-9: their init ignores the groups."""
    network = build_network(MODELS[name].build(resolution=64, form="standard"), seed=0).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = network.forward_features(images)
    assert float(features.std()) > 1e-6


def test_norms_follow_a_short_training() -> None:
    """torchvision's MnasNet has a momentum of 0.0003: no statistics after a short training."""
    network = Network(MODELS["mnasnet_b1"].build(resolution=32))
    assert {m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_the_eight_groups_of_180_channels_do_not_exist() -> None:
    """ShuffleNetV2, table 2, CPU: the authors used 184."""
    base = MODELS["resnet"].build()
    conv = BlockSpec(op="conv", out_channels=180, kernel_size=1)
    grouped = conv.model_copy(update={"groups": 8})
    with pytest.raises(ArchitectureError, match="8 groups"):
        layers(base.changed(blocks=(conv, grouped)))


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "mnasnet_b1"])
def test_the_bottleneck_is_linear_and_compresses(name: str) -> None:
    listed = layers(MODELS[name].build())
    activated = {layer.inputs[0] for layer in listed if layer.op == "activation"}
    bottlenecks = [layer for layer in listed if layer.name.endswith(".project")]
    assert len(bottlenecks) >= 15
    expanded = {x.name.removesuffix("expand") for x in listed if x.name.endswith(".expand")}
    assert not {layer.name for layer in bottlenecks} & activated
    compressed = [x for x in bottlenecks if x.name.removesuffix("project") in expanded]
    assert len(compressed) >= 14
    assert all(layer.output_shape[0] < layer.input_shape[0] for layer in compressed)


def test_the_branch_of_shufflenet_v2_ends_in_relu() -> None:
    listed = layers(MODELS["shufflenet_v2"].build())
    activated = {layer.inputs[0] for layer in listed if layer.op == "activation"}
    last = {layer.name for layer in listed if layer.name.endswith(".project")}
    assert len(last) >= 16
    assert last <= activated
    assert not {x.name for x in listed if x.name.endswith(".depthwise")} & activated
