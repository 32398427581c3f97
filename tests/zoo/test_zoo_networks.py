"""What the papers and the authors' code say that counts alone do not show."""

from __future__ import annotations

import pytest

from featherweight.architecture import Architecture
from featherweight.layers import layers
from featherweight.profiling.profile import profile
from featherweight.zoo.model import MODELS


def widths(architecture: Architecture) -> list[int]:
    """Distinct successive widths, from the stem to the last map."""
    found: list[int] = []
    for block in architecture.blocks:
        if not found or found[-1] != block.out_channels:
            found.append(block.out_channels)
    return found


def last_side(architecture: Architecture) -> int:
    return next(x for x in layers(architecture) if x.name == "pool").input_shape[1]


def test_mobilenet_v1_conv_totals_and_shares() -> None:
    """Layer by layer in the authors' TPU code; table 2 prints the shares."""
    rows = [row for row in profile(MODELS["mobilenet_v1"].build()).layers if row.op == "conv"]
    weights = sum((row.params or 0) - 2 * row.output_shape[0] for row in rows)
    assert weights == 3_185_088
    assert sum(row.macs or 0 for row in rows) == 567_716_352
    pointwise = sum(row.macs or 0 for row in rows if row.name.endswith("pointwise"))
    depthwise = sum(row.macs or 0 for row in rows if row.name.endswith("depthwise"))
    assert (pointwise, depthwise, rows[0].macs) == (539_492_352, 17_385_984, 10_838_016)


def test_mobilenet_v1_does_not_round_widths_to_eight() -> None:
    assert widths(MODELS["mobilenet_v1"].build(width=0.6))[:2] == [19, 38]
    assert widths(MODELS["mobilenet_v1"].build(width=0.1))[0] == 8


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (0.35, [16, 8, 16, 24, 32, 56, 112, 1280]),
        (0.5, [16, 8, 16, 32, 48, 80, 160, 1280]),
        (0.75, [24, 16, 24, 48, 72, 120, 240, 1280]),
        (1.3, [40, 24, 32, 40, 80, 128, 208, 416, 1664]),
        (1.4, [48, 24, 32, 48, 88, 136, 224, 448, 1792]),
    ],
)
def test_mobilenet_v2_widths(width: float, expected: list[int]) -> None:
    assert widths(MODELS["mobilenet_v2"].build(width=width)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenet_v3_large", [24, 32, 32, 120, 168, 168, 240, 240]),
        ("mobilenet_v3_small", [8, 24, 64, 64, 32, 40, 72, 144, 144]),
    ],
)
def test_mobilenet_v3_squeeze_widths(name: str, expected: list[int]) -> None:
    blocks = MODELS[name].build().blocks
    assert [block.se_channels for block in blocks if block.se_channels] == expected
    assert blocks[-1].se_channels == 0


def test_mobilenet_v3_tail_never_shrinks() -> None:
    large = MODELS["mobilenet_v3_large"]
    assert large.build(width=0.5).head_channels == (1280,)
    assert large.build(width=0.75).blocks[-1].out_channels == 720
    assert large.build(width=1.25).head_channels == (1600,)


def test_efficientnet_lite_keeps_its_ends() -> None:
    for width in (0.5, 1.0, 2.0):
        blocks = MODELS["efficientnet_lite2"].build(width=width).blocks
        assert blocks[0].out_channels == 32
        assert blocks[-1].out_channels == 1280
    counts = [len(MODELS[f"efficientnet_lite{i}"].build().blocks) for i in range(3)]
    assert counts == [2 + 16, 2 + 21, 2 + 21]
    assert MODELS["efficientnet_lite2"].build().dropout == 0.3
    assert MODELS["efficientnet_lite2"].default_resolution == 260


def test_resnet_is_resnet_20() -> None:
    """Table 6 of the paper prints 0.27M for n = 3."""
    architecture = MODELS["resnet"].build(classes=10)
    counted = profile(architecture)
    assert sum(row.op in {"conv", "linear"} for row in counted.layers) == 20
    assert counted.params == 269_722
    assert counted.macs == 40_551_040


@pytest.mark.parametrize("name", ["resnet", "convnet"])
def test_networks_for_small_images_take_large_ones(name: str) -> None:
    build = MODELS[name].build
    at_64 = build(resolution=64)
    assert all(build(resolution=r).blocks == at_64.blocks for r in (16, 32, 48))
    assert last_side(at_64.at_resolution(32)) in {4, 8}
    large = build(resolution=224)
    assert 4 in [block.stride for block in large.blocks] or large.blocks[0].stride == 2
    assert 7 <= last_side(large) <= 14
    assert (profile(large).macs or 0) < 600_000_000


def test_convnet_is_cheap_at_32() -> None:
    architecture = MODELS["convnet"].build(classes=10)
    assert {block.op for block in architecture.blocks} == {"conv", "max_pool"}
    skips = [block.skip for block in architecture.blocks if block.op == "conv"]
    assert skips == ["none", *["none", "identity"] * 3]
    assert profile(architecture).macs == 151_882_240
    assert profile(architecture).params == 1_978_026
    assert last_side(architecture) == 4
    small = MODELS["convnet"].build(resolution=16, classes=10, form="small")
    assert last_side(small) == 4
    assert [block.op for block in small.blocks].count("max_pool") == 2, "one pool less"
    assert all(width % 8 == 0 for width in widths(MODELS["convnet"].build(width=0.7)))


def test_the_name_says_what_the_shape_does_not() -> None:
    build = MODELS["mobilenet_v2"].build
    assert build(resolution=96, classes=3).name == "mobilenet_v2"
    assert build(width=0.5, padding="same").name == "mobilenet_v2:width=0.5,padding=same"
