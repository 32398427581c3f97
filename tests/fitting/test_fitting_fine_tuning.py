"""What a fit changes of the recipe where it fine-tunes on photographs."""

from __future__ import annotations

import math

import pytest

from featherweight.architecture import Architecture
from featherweight.fitting.candidate import Candidate
from featherweight.fitting.family import SEEN_SCALES, Family
from featherweight.fitting.fine_tuning import early_blocks, suited
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.profiling.profile import profile
from featherweight.training.recipe import Recipe, default_recipe


def build(value: float) -> Architecture:
    return create_architecture(
        "efficientnet_lite0", resolution=int(value), classes=81, form="standard"
    )


def family(source: str | None = "auto") -> Family:
    return Family(
        "efficientnet_lite0", "resolution", (64.0, 104.0, 112.0), build, source, Preprocessing()
    )


def recipe(*, whole: bool = True, pretrained: bool = True, **length: float) -> Recipe:
    return default_recipe(pretrained=pretrained, resolution=104, images=3000, whole=whole, **length)  # type: ignore[arg-type]


def test_early_blocks_are_few_weights_and_most_activations() -> None:
    assert early_blocks(build(104)) == 6
    layers = profile(build(104)).layers
    names = {f"blocks.{block}." for block in range(6)}
    early = [one for one in layers if any(one.name.startswith(name) for name in names)]
    shares = [sum(math.prod(one.output_shape) for one in part) for part in (early, layers)]
    assert shares[0] > 0.6 * shares[1]
    assert sum(one.params for one in early) < 0.02 * sum(one.params for one in layers)


def test_no_more_than_a_third_of_the_blocks() -> None:
    small = create_architecture("mobilenet_v2", resolution=32, classes=10, form="small")
    assert 0 < early_blocks(small) <= len(small.blocks) // 3


@pytest.mark.parametrize(
    ("given", "frozen"),
    [
        (recipe(time_s=300.0), 6),
        (recipe(time_s=600.0), 0),
        (recipe(epochs=3), 0),
        (recipe(time_s=300.0, whole=False), 0),
        (recipe(time_s=300.0, pretrained=False), 0),
    ],
)
def test_short_fine_tunings_keep_their_early_blocks(given: Recipe, frozen: int) -> None:
    found = suited(given, Candidate(family(), 104.0, "fp32"))
    assert found.frozen_blocks == frozen
    assert found.resolution_scales == SEEN_SCALES


def test_below_64_pixels_all_blocks_learn() -> None:
    assert suited(recipe(time_s=300.0), Candidate(family(), 64.0, "fp32")).frozen_blocks == 6
    assert suited(recipe(time_s=300.0), Candidate(family(), 56.0, "fp32")).frozen_blocks == 0
