"""Depthwise-separable pairs beside the plain convolution they stand for."""

from __future__ import annotations

import pytest

from featherweight.layers import Layer, layers
from featherweight.profiling.profile import profile
from featherweight.profiling.separable import separable_pairs, separable_saving
from featherweight.zoo.model import MODELS


def test_the_saving_of_the_paper() -> None:
    """3 x 3 kernels: 'between 8 and 9 times less computation' (MobileNetV1, section 3.1)."""
    saving = separable_saving(kernel_size=3, in_channels=512, out_channels=512)
    assert saving == pytest.approx(1 / 512 + 1 / 9)
    assert 1 / 9 < saving < 1 / 8
    assert saving == separable_saving(kernel_size=3, in_channels=32, out_channels=512)


def test_mobilenet_v1_without_separable_convolutions() -> None:
    """The paper's "Conv MobileNet" has 4,866 million multiply-adds (table 4), no classifier."""
    counted = profile(MODELS["mobilenet_v1"].build())
    assert len(counted.separable_pairs) == 13
    assert counted.macs is not None
    pairs = counted.separable_pairs
    plain = counted.macs + sum(pair.plain_macs - pair.macs for pair in pairs)
    assert (plain - 1024 * 1000) // 1_000_000 == 4866
    first = pairs[0]
    assert (first.depthwise, first.pointwise) == ("blocks.1.depthwise", "blocks.1.pointwise")
    assert first.macs == 112 * 112 * 32 * (9 + 64)
    assert first.plain_macs == 112 * 112 * 32 * 64 * 9


@pytest.mark.parametrize("name", MODELS)
def test_every_pair_saves_what_the_equation_says(name: str) -> None:
    architecture = MODELS[name].build(resolution=64)
    plan = {layer.name: layer for layer in layers(architecture)}
    pairs = profile(architecture).separable_pairs
    if name.startswith(("mobilenet", "efficientnet")):
        depthwise = [layer.name for layer in plan.values() if layer.groups > 1]
        assert [pair.depthwise for pair in pairs] == depthwise
    for pair in pairs:
        layer = plan[pair.depthwise]
        saving = separable_saving(
            kernel_size=layer.kernel_size,
            in_channels=layer.input_shape[0],
            out_channels=plan[pair.pointwise].output_shape[0],
        )
        assert pair.macs / pair.plain_macs == pytest.approx(saving, rel=1e-12)


def test_squeeze_and_excitation_is_between_and_not_a_pair() -> None:
    pairs = profile(MODELS["mobilenet_v3_small"].build()).separable_pairs
    assert ("blocks.1.depthwise", "blocks.1.project") in {
        (pair.depthwise, pair.pointwise) for pair in pairs
    }
    assert not any(".se." in pair.pointwise for pair in pairs)


def test_what_is_not_a_pair() -> None:
    shape, wide = (8, 4, 4), (16, 4, 4)
    depthwise = Layer("d", "conv", ("input",), shape, shape, kernel_size=3, groups=8)
    grouped = Layer("g", "conv", ("input",), shape, shape, kernel_size=3, groups=4)
    pooled = Layer("p", "pool", ("d",), shape, shape, kernel_size=3)

    def pointwise(source: str, stride: int = 1, groups: int = 1) -> Layer:
        return Layer("w", "conv", (source,), shape, wide, stride=stride, groups=groups)

    assert len(separable_pairs((depthwise, pointwise("d")))) == 1
    assert separable_pairs((depthwise, pooled, pointwise("p"))) == ()
    assert separable_pairs((grouped, pointwise("g"))) == ()
    assert separable_pairs((depthwise, pointwise("d", groups=2))) == ()
    assert separable_pairs((depthwise, pointwise("d", stride=2))) == ()
    assert separable_pairs((pointwise("input"),)) == ()
