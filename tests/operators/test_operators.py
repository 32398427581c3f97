"""Operators: shapes, the fields they use, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from featherweight.architecture import Architecture, BlockSpec
from featherweight.errors import ArchitectureError, UsageError
from featherweight.layers import OPERATORS, layers
from featherweight.nn.network import build_network

NEUTRAL = {
    "kernel_size": 5,
    "groups": 2,
    "hidden_channels": 16,
    "se_channels": 4,
    "se_gate": "sigmoid",
    "activation": "relu6",
    "skip": "pad",
    "entry_groups": 2,
    "start_kernel_size": 5,
    "shortcut_channels": 2,
    "ghost_ratio": 2,
    "cheap_kernel_size": 5,
}
NEEDS: dict[tuple[str, str], dict[str, Any]] = {
    **{(op, "se_gate"): {"se_channels": 4} for op in OPERATORS},
    **{(op, "cheap_kernel_size"): {"ghost_ratio": 2} for op in OPERATORS},
    ("shuffle_v2", "shortcut_channels"): {"stride": 2},
    ("ghost", "kernel_size"): {"stride": 2},
}
"""What makes a field matter."""


def network(*blocks: BlockSpec, **changes: Any) -> Architecture:
    plain = {"name": "x", "input_shape": (8, 9, 9), "blocks": blocks, "num_classes": 2}
    return Architecture.model_validate({**plain, **changes})


def block(op: str, **fields: Any) -> BlockSpec:
    return BlockSpec.model_validate({"op": op, "out_channels": 8, **fields})


def test_there_are_operators() -> None:
    assert {
        "conv",
        "max_pool",
        "separable",
        "inverted_residual",
        "residual",
        "shuffle_v1",
        "shuffle_v2",
        "ghost",
        "universal_inverted_bottleneck",
    } <= set(OPERATORS)


@pytest.mark.parametrize("op", list(OPERATORS))
@pytest.mark.parametrize("field", list(NEUTRAL))
def test_a_field_changes_the_layers_or_is_refused(op: str, field: str) -> None:
    base = NEEDS.get((op, field), {}) if field in OPERATORS[op].fields else {}
    changed = network(block(op, **base, **{field: NEUTRAL[field]}))
    if field in OPERATORS[op].fields:
        assert layers(changed) != layers(network(block(op, **base)))
    else:
        with pytest.raises(ArchitectureError, match=f"blocks.0.*{op}.*{field}"):
            layers(changed)


@pytest.mark.parametrize("op", list(OPERATORS))
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("side", [7, 8, 9])
def test_odd_kernels_give_ceil_of_side_by_stride(
    op: str, stride: int, padding: str, side: int
) -> None:
    needs = {"start_kernel_size": 3} if "start_kernel_size" in OPERATORS[op].fields else {}
    changed = block(op, stride=stride, **needs)
    architecture = network(changed, padding=padding, input_shape=(8, side, side))
    pooled = next(layer for layer in layers(architecture) if layer.name == "pool")
    assert pooled.input_shape == (8, -(-side // stride), -(-side // stride))


@pytest.mark.parametrize("skip", ["pad", "pool"])
def test_a_skip_may_widen_and_stride(skip: str) -> None:
    wide = block("residual", out_channels=12, stride=2, skip=skip, activation="relu")
    built = build_network(network(wide), seed=0).eval()
    assert built(torch.randn(2, 8, 9, 9)).shape == (2, 2)


def test_pad_skip_is_option_a() -> None:
    """With the second convolution at zero, the block is every second pixel and zero channels."""
    wide = block("residual", out_channels=12, stride=2, skip="pad")
    built = build_network(network(wide), seed=0).eval()
    torch.nn.init.zeros_(built.get_parameter("blocks.0.second.norm.weight"))
    images = torch.randn(1, 8, 9, 9)
    seen: list[torch.Value] = []
    built.get_submodule("pool").register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    built(images)
    assert torch.allclose(seen[0][:, :8], images[:, :, ::2, ::2])
    assert not seen[0][:, 8:].any()


def test_identity_needs_equal_shapes() -> None:
    with pytest.raises(ArchitectureError, match="identity"):
        layers(network(block("residual", stride=2, skip="identity")))


def test_a_skip_cannot_narrow() -> None:
    with pytest.raises(ArchitectureError, match="narrow"):
        layers(network(block("residual", out_channels=4, skip="pad")))


def test_groups_must_divide() -> None:
    with pytest.raises(ArchitectureError, match="3 groups"):
        layers(network(block("conv", groups=3)))


def test_max_pool_keeps_channels() -> None:
    with pytest.raises(ArchitectureError, match="keeps 8 channels"):
        layers(network(block("max_pool", out_channels=16)))


def test_unknown_operator_is_suggested() -> None:
    with pytest.raises(UsageError, match="did you mean 'inverted_residual'"):
        layers(network(block("inverted_residul")))


def test_expansion_is_there_exactly_when_asked_for() -> None:
    equal = [layer.name for layer in layers(network(block("inverted_residual", hidden_channels=8)))]
    none = [layer.name for layer in layers(network(block("inverted_residual")))]
    assert "blocks.0.expand" in equal
    assert "blocks.0.expand" not in none


def test_building_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build_network(network(block("conv")), seed=1)
    assert torch.equal(torch.rand(3), expected)
    again = build_network(network(block("conv")), seed=1)
    other = build_network(network(block("conv")), seed=2)
    name = "blocks.0.main.conv.weight"
    assert torch.equal(first.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))


def names(*blocks: BlockSpec, **changes: Any) -> list[str]:
    return [layer.name.removeprefix("blocks.0.") for layer in layers(network(*blocks, **changes))]


def test_a_universal_inverted_bottleneck_is_four_blocks() -> None:
    """MobileNetV4, figure 4: inverted bottleneck, ConvNext-like, extra depthwise, FFN."""
    op = "universal_inverted_bottleneck"
    middle, start = {"depthwise"}, {"start"}
    for fields, expected in (
        ({}, middle),
        ({"kernel_size": 1, "start_kernel_size": 3}, start),
        ({"start_kernel_size": 3}, start | middle),
        ({"kernel_size": 1}, set()),
    ):
        found = set(names(block(op, hidden_channels=16, **fields)))
        assert found & (middle | start) == expected
        assert {"expand", "project"} <= found
    with pytest.raises(ArchitectureError, match="needs a depthwise"):
        layers(network(block(op, kernel_size=1, stride=2)))


def test_the_stride_is_taken_once() -> None:
    op = "universal_inverted_bottleneck"
    listed = layers(network(block(op, start_kernel_size=3, stride=2, hidden_channels=16)))
    strides = {layer.name: layer.stride for layer in listed if layer.stride > 1}
    assert strides == {"blocks.0.depthwise": 2}


def test_ghost_modules_keep_the_channels_asked_for() -> None:
    """5 = ceil(9 / 2) computed, 5 cheap, 9 kept."""
    listed = {
        layer.name: layer
        for layer in layers(
            network(block("conv", out_channels=9, ghost_ratio=2, activation="relu"))
        )
    }
    assert listed["blocks.0.main"].output_shape[0] == 5
    assert listed["blocks.0.main_cheap"].groups == 5
    assert listed["blocks.0.main_kept"].output_shape[0] == 9


def test_shuffle_reorders_as_printed() -> None:
    """Groups (0 1 2 3) (4 5 6 7) become 0 4 1 5 2 6 3 7."""
    architecture = network(block("shuffle_v1", groups=2, hidden_channels=8))
    module = build_network(architecture, seed=0).get_submodule("blocks.0.shuffle")
    channels = torch.arange(8.0).view(1, 8, 1, 1)
    assert module(channels).flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_shuffle_lets_groups_see_each_other(shuffle: bool) -> None:
    """ShuffleNetV1, figure 1: without it an output group depends on its own input group only."""
    unit = network(block("shuffle_v1", groups=2, hidden_channels=8), input_shape=(8, 5, 5))
    built = build_network(unit, seed=0).eval()
    if not shuffle:
        built.get_submodule("blocks.0.shuffle").groups = 1
    images = torch.randn(1, 8, 5, 5, requires_grad=True)
    seen: list[torch.Value] = []
    built.get_submodule("blocks.0.project").register_forward_hook(lambda _m, _i, o: seen.append(o))
    built(images)
    seen[0][:, :4].square().sum().backward()  # the first of two groups
    assert images.grad is not None
    assert images.grad[:, :4].abs().sum() > 0
    assert bool(images.grad[:, 4:].abs().sum() > 0) == shuffle


def test_shuffle_v2_passes_half_of_the_channels() -> None:
    built = build_network(network(block("shuffle_v2"), input_shape=(8, 5, 5)), seed=0).eval()
    images = torch.randn(1, 8, 5, 5)
    seen: list[torch.Value] = []
    built.get_submodule("pool").register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    built(images)
    assert torch.equal(seen[0][:, ::2], images[:, :4])


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"op": "shuffle_v1", "out_channels": 4}, "cannot narrow"),
        ({"op": "shuffle_v2", "out_channels": 9}, "cannot halve"),
        ({"op": "shuffle_v2", "stride": 2, "shortcut_channels": 8}, "leaves none"),
        ({"op": "shuffle_v2", "stride": 2, "skip": "identity"}, "changes the map"),
    ],
)
def test_units_say_what_does_not_fit(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ArchitectureError, match=problem):
        layers(network(block(**fields)))


def test_average_pooling_leaves_out_the_padding() -> None:
    """The authors of ShuffleNetV1 count it (`count_include_pad`); see its zoo file."""
    wide = block("shuffle_v1", out_channels=12, stride=2)
    built = build_network(network(wide, input_shape=(8, 6, 6)), seed=0).eval()
    pooled = built.get_submodule("blocks.0.shortcut")(torch.ones(1, 8, 6, 6))
    counted = torch.nn.functional.avg_pool2d(torch.ones(1, 8, 6, 6), 3, 2, 1)
    assert torch.equal(pooled, torch.ones(1, 8, 3, 3))
    assert counted[0, 0, 0, 0] == pytest.approx(4 / 9)
