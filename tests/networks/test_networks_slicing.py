"""Slicing wide weights into thin networks."""

from __future__ import annotations

import pytest
import torch
from oracles.transplant import randomise, relative_error

from featherweight.architecture import Architecture, Primitive
from featherweight.errors import UnsupportedError, UsageError
from featherweight.layers import layers
from featherweight.networks.slicing import kept_channels, recalibrate_norms, slice_network
from featherweight.nn.network import Network
from featherweight.zoo.model import MODELS

NAMES = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v4_conv_small",
    "efficientnet_lite0",
    "mnasnet_a1",
    "resnet",
    "convnet",
    "vgg16",
    "shufflenet_v1_g3",
    "shufflenet_v1_g8",
    "shufflenet_v2",
    "snet49",
)


def build(name: str, width: float) -> Architecture:
    return MODELS[name].build(width=width, resolution=32, classes=5).changed(dropout=0.0)


def wide_network(name: str, *, seed: int = 0) -> Network:
    network = Network(build(name, 1.0))
    randomise(network, seed=seed)
    return network.eval()


def silence(network: Network, thin: Architecture) -> None:
    """Make every channel that the thin network lacks zero, whatever enters."""
    kept = kept_channels(network, thin)
    with torch.no_grad():
        for layer in layers(network.architecture):
            if layer.op not in {"conv", "linear"}:
                continue
            gone = [k for k in range(layer.output_shape[0]) if k not in set(kept[layer.name])]
            module = network.get_submodule(layer.name)
            for key, tensor in module.state_dict().items():
                if not key.endswith(("running_var", "num_batches_tracked")):
                    tensor[gone] = 0.0


@pytest.mark.parametrize("name", NAMES)
def test_without_its_silent_channels_a_network_computes_the_same(name: str) -> None:
    wide, thin = wide_network(name), build(name, 0.5)
    silence(wide, thin)
    sliced = slice_network(wide, thin)
    assert sliced.architecture == thin
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert relative_error(sliced(images), wide(images)) <= 1e-5


def test_important_channels_stay() -> None:
    wide, thin = wide_network("convnet"), build("convnet", 0.5)
    strong = [3, 8, 17, 30]
    with torch.no_grad():
        wide.get_parameter("blocks.0.main.conv.weight")[strong] *= 100.0
    kept = kept_channels(wide, thin)["blocks.0.main"]
    assert len(kept) == thin.blocks[0].out_channels
    assert set(strong) <= set(kept.tolist())


def test_the_same_width_is_the_same_network() -> None:
    wide = wide_network("mobilenet_v3_small")
    same = slice_network(wide, wide.architecture)
    for key, tensor in wide.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(tensor, same.state_dict()[key]), key


def test_channels_that_go_different_ways_are_refused() -> None:
    """Two selections share two channels of eight; of six they would share three."""

    def build(width: int, *, second: int) -> Architecture:
        part = {"op": "select", "inputs": ("conv",), "out_channels": 4}
        return Architecture(
            name="two parts",
            input_shape=(3, 8, 8),
            primitives=(
                Primitive(name="conv", op="conv", inputs=("input",), out_channels=width),
                Primitive(name="first", **part),
                Primitive(name="second", first_channel=second, **part),
                Primitive(name="both", op="concat", inputs=("first", "second")),
                Primitive(name="pool", op="global_pool", inputs=("both",)),
                Primitive(name="classifier", op="linear", inputs=("pool",), out_channels=2),
            ),
            num_classes=2,
        )

    wide = Network(build(8, second=2))
    with pytest.raises(UnsupportedError, match="3 channels cannot be taken from 2"):
        slice_network(wide, build(6, second=1))
    assert slice_network(wide, build(6, second=2)).architecture == build(6, second=2)


def test_a_skip_that_only_the_thin_network_has_is_refused() -> None:
    """Rounded widths may be equal where the wide ones differ: 40 and 48 both become 24."""
    with pytest.raises(UsageError, match="not a thinner form"):
        kept_channels(wide_network("mobilenet_v3_small"), build("mobilenet_v3_small", 0.5))
    sliced = slice_network(wide_network("mobilenet_v3_small"), build("mobilenet_v3_small", 0.75))
    assert sliced.architecture == build("mobilenet_v3_small", 0.75)


@pytest.mark.parametrize(
    "thin",
    [
        build("mobilenet_v2", 1.4),
        build("mobilenet_v1", 0.5),
        build("mobilenet_v2", 0.5).changed(num_classes=7),
        build("mobilenet_v2", 0.5).changed(input_shape=(1, 32, 32)),
    ],
    ids=["wider", "another", "classes", "channels"],
)
def test_what_is_no_thinner_form_is_refused(thin: Architecture) -> None:
    with pytest.raises(UsageError, match="not a thinner form"):
        slice_network(Network(build("mobilenet_v2", 1.0)), thin)


def test_recalibrated_norms_have_the_statistics_of_the_pictures() -> None:
    network = wide_network("mobilenet_v2").train(mode=False)
    batches = torch.randn(3, 8, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    recalibrate_norms(network, batches)
    assert not network.training
    first = network.get_submodule("blocks.0.main")
    with torch.no_grad():
        outputs = torch.cat([first.conv(batch) for batch in batches])
    assert torch.allclose(first.norm.running_mean, outputs.mean((0, 2, 3)), atol=1e-5)
    assert first.norm.momentum == 0.1
    with pytest.raises(UsageError, match="without pictures"):
        recalibrate_norms(network, [])
