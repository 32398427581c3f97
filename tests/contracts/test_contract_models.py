"""What every network of the zoo promises."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn import functional

from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.layers import layers
from featherweight.nn.network import Network, build_network
from featherweight.records import parse_record, to_plain
from featherweight.zoo.model import MODELS

NAMES = tuple(MODELS)
WANTED = {
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "resnet",
    "convnet",
    "efficientnet_lite3",
    "efficientnet_lite4",
    "mobilenet_v3_large_minimalistic",
    "mobilenet_v3_small_minimalistic",
    "mobilenet_v4_conv_small",
    "mobilenet_v4_conv_medium",
    "mobilenet_v4_conv_large",
    "mnasnet_a1",
    "mnasnet_b1",
    "mnasnet_small",
    "ghostnet",
    "shufflenet_v1_g1",
    "shufflenet_v1_g2",
    "shufflenet_v1_g3",
    "shufflenet_v1_g4",
    "shufflenet_v1_g8",
    "shufflenet_v2",
    "shufflenet_v2_paper",
    "shufflenet_v2_50",
    "shufflenet_v2_164_se",
    "snet49",
    "snet146",
    "snet146_126",
    "snet535",
    "vgg16",
    "ghost_vgg16",
    "resnet56",
    "ghost_resnet56",
}


def last_map(architecture: Architecture) -> tuple[int, ...]:
    """(C, H, W) that enters the last global pooling."""
    return next(layer for layer in layers(architecture) if layer.name == "pool").input_shape


def test_the_subjects_were_found() -> None:
    assert len(NAMES) >= 36
    assert set(NAMES) >= WANTED


@pytest.mark.parametrize("name", NAMES)
def test_forward_at_its_own_size(name: str) -> None:
    architecture = MODELS[name].build()
    assert architecture.resolution == MODELS[name].default_resolution
    with torch.no_grad():
        logits = Network(architecture).eval()(torch.zeros(1, *architecture.input_shape))
    assert logits.shape == (1, 1000)


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_size_runs_and_every_parameter_gets_a_gradient(name: str) -> None:
    architecture = MODELS[name].build(resolution=45, classes=5, channels=1, width=0.5)
    network = build_network(architecture, seed=0).train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 1, 45, 45, generator=generator)
    functional.cross_entropy(network(images), torch.tensor([0, 1, 4])).backward()
    silent = [
        key
        for key, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum().item() > 0.0
    ]
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_the_layers_predict_the_shapes_that_torch_computes(name: str, padding: str) -> None:
    architecture = MODELS[name].build(resolution=45, padding=padding, width=0.25, classes=10)
    network = Network(architecture).eval()
    seen: dict[str, tuple[int, ...]] = {}
    for layer in layers(architecture):
        network.get_submodule(layer.name).register_forward_hook(
            lambda _module, _inputs, output, key=layer.name: seen.update(
                {key: tuple(output.shape[1:])}
            )
        )
    with torch.no_grad():
        network(torch.zeros(1, *architecture.input_shape))
    assert seen == {layer.name: layer.output_shape for layer in layers(architecture)}


@pytest.mark.parametrize("name", NAMES)
def test_the_digest_is_stable_and_json_round_trips(name: str) -> None:
    architecture = MODELS[name].build(width=0.75, classes=10)
    again = parse_record(
        Architecture, json.loads(json.dumps(to_plain(architecture))), source="test"
    )
    assert again == architecture
    assert again.digest == architecture.digest
    assert MODELS[name].build(width=0.75, classes=10).digest == architecture.digest
    assert MODELS[name].build(width=0.75, classes=11).digest != architecture.digest
    assert MODELS[name].build(width=0.5, classes=10).digest != architecture.digest


@pytest.mark.parametrize("name", NAMES)
def test_the_small_form_keeps_a_map_of_four_pixels(name: str) -> None:
    for resolution in (8, 16, 28, 30, 32, 33, 48, 64, 96):
        standard = MODELS[name].build(resolution=resolution, form="standard")
        small = MODELS[name].build(resolution=resolution, form="small")
        channels, height, width = last_map(small)
        assert channels == last_map(standard)[0]
        assert min(height, width) >= 4, resolution
        if min(last_map(standard)[1:]) >= 4:
            assert small == standard


@pytest.mark.parametrize("name", NAMES)
def test_settings_reach_the_network(name: str) -> None:
    build = MODELS[name].build
    architecture = build(resolution=64, classes=7, channels=1, padding="same", activation="relu")
    assert architecture.input_shape == (1, 64, 64)
    assert architecture.num_classes == 7
    assert architecture.padding == "same"
    activations = {block.activation for block in architecture.blocks}
    assert activations <= {"relu", "none"}
    assert architecture.head_activation in {"relu", "none"}
    assert architecture.name.startswith(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"width": 0.0}, "0.1 to 8"),
        ({"width": float("nan")}, "0.1 to 8"),
        ({"resolution": 7}, "8 to"),
        ({"classes": -1}, "0 to"),
        ({"channels": 0}, "1 to"),
        ({"padding": "valid"}, "symmetric, same"),
        ({"activation": "gelu"}, "relu6"),
        ({"activation": "none"}, "relu6"),
        ({"form": "tiny"}, "standard, small"),
    ],
)
def test_bad_settings_say_what_is_allowed(
    name: str, settings: dict[str, object], allowed: str
) -> None:
    with pytest.raises(UsageError, match=f"allowed: .*{allowed}"):
        MODELS[name].build(**settings)
