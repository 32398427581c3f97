"""First weights from the pictures: whitened first layer, identity in the later ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.architecture import Architecture, BlockSpec
from featherweight.data.augmentation import normalise_batch
from featherweight.nn.network import Network, build_network
from featherweight.training.evaluate import TrainingImages
from featherweight.training.start import kept_first_weights, suit_to_pictures


def convolutions(network: Network) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


@pytest.fixture
def suited(tiny_architecture, gray, digits):
    train, _ = digits
    return suit_to_pictures(build_network(tiny_architecture, seed=0), train, preprocessing=gray)


def test_the_first_layer_whitens(suited, gray, digits):
    """Oracle: numpy's covariance of its answers to pictures it was not computed from."""
    _, held = digits
    pixels = held.batch(slice(None)).pixels
    inputs = normalise_batch(pixels, mean=gray.mean, std=gray.std)
    first = convolutions(suited)[0]
    with torch.no_grad():
        answers = nn.functional.conv2d(inputs, first.weight)
    pairs = first.out_channels // 2
    columns = answers.transpose(0, 1).flatten(1).numpy()
    assert np.allclose(columns[pairs:], -columns[:pairs])
    covariance = np.cov(columns[:pairs])
    assert np.allclose(np.diag(covariance), 1.0, atol=0.15)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.15


def test_later_layers_pass_their_input_on(suited):
    second = convolutions(suited)[1]
    inputs = torch.randn(2, second.in_channels, 9, 9, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answers = nn.functional.conv2d(inputs, second.weight, padding=1)
    assert second.out_channels > second.in_channels
    torch.testing.assert_close(answers[:, : second.in_channels], inputs)
    drawn = second.weight[second.in_channels :]
    assert drawn.std() > 0.01, "filters beyond the inputs stay random"


def test_norms_depthwise_and_pointwise_layers_stay(gray, digits):
    train, _ = digits
    architecture = Architecture(
        name="depthwise",
        input_shape=(1, 16, 16),
        blocks=(
            BlockSpec(op="conv", out_channels=8, kernel_size=3, stride=2, activation="relu"),
            BlockSpec(op="separable", out_channels=16, activation="relu"),
        ),
        num_classes=10,
    )
    drawn = build_network(architecture, seed=0).state_dict()
    suited = suit_to_pictures(
        build_network(architecture, seed=0), train, preprocessing=gray
    ).state_dict()
    changed = {name for name in drawn if not torch.equal(drawn[name], suited[name])}
    assert changed == {"blocks.0.main.conv.weight"}


def test_more_channels_than_directions_keep_the_drawn_rest(gray, digits):
    train, _ = digits
    wide = Architecture(
        name="wide",
        input_shape=(1, 16, 16),
        blocks=(BlockSpec(op="conv", out_channels=32, kernel_size=3, activation="relu"),),
        num_classes=10,
    )
    drawn = build_network(wide, seed=0)
    suited = suit_to_pictures(build_network(wide, seed=0), train, preprocessing=gray)
    before, after = convolutions(drawn)[0].weight, convolutions(suited)[0].weight
    assert torch.equal(before[18:], after[18:])
    assert not torch.equal(before[:18], after[:18])


def test_one_picture_of_one_colour_gives_finite_weights(tiny_architecture, gray):
    flat = TrainingImages(np.full((1, 16, 16, 1), 7, np.uint8), np.zeros(1, np.int64))
    network = suit_to_pictures(build_network(tiny_architecture, seed=0), flat, preprocessing=gray)
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())


def test_pictures_of_another_size_are_resized(tiny_architecture, gray, digits, suited):
    train, _ = digits
    larger = TrainingImages(train.pixels.repeat(2, axis=1).repeat(2, axis=2), train.targets)
    other = suit_to_pictures(build_network(tiny_architecture, seed=0), larger, preprocessing=gray)
    ours, theirs = (convolutions(one)[0].weight.detach() for one in (suited, other))
    similarity = nn.functional.cosine_similarity(ours[0].flatten(), theirs[0].flatten(), dim=0)
    assert abs(float(similarity)) > 0.95


def test_a_resumed_training_starts_from_the_same_weights(tiny_architecture, tmp_path):
    """A second attempt on another machine draws weights that differ in the last bit."""
    first = kept_first_weights(tmp_path / "run", lambda: build_network(tiny_architecture, seed=0))
    again = kept_first_weights(tmp_path / "run", lambda: build_network(tiny_architecture, seed=1))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    other = build_network(tiny_architecture, seed=1).state_dict()
    assert not torch.equal(other["classifier.weight"], first.state_dict()["classifier.weight"])
