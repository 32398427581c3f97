"""Operators: shapes, the fields they use, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from featherweight.architecture import Architecture, BlockSpec
from featherweight.errors import ArchitectureError, UsageError
from featherweight.layers import OPERATORS, layers
from featherweight.nn.network import build_network

NEUTRAL = {"kernel_size": 5, "groups": 2, "hidden_channels": 16, "se_channels": 4,
           "se_gate": "sigmoid", "activation": "relu6", "skip": "pad"}  # fmt: skip


def network(*blocks: BlockSpec, **changes: Any) -> Architecture:
    plain = {"name": "x", "input_shape": (8, 9, 9), "blocks": blocks, "num_classes": 2}
    return Architecture.model_validate({**plain, **changes})


def block(op: str, **fields: Any) -> BlockSpec:
    return BlockSpec.model_validate({"op": op, "out_channels": 8, **fields})


def test_there_are_operators() -> None:
    assert {"conv", "max_pool", "separable", "inverted_residual", "residual"} <= set(OPERATORS)


@pytest.mark.parametrize("op", list(OPERATORS))
@pytest.mark.parametrize("field", list(NEUTRAL))
def test_a_field_changes_the_layers_or_is_refused(op: str, field: str) -> None:
    base = {"se_channels": 4} if field == "se_gate" and "se_gate" in OPERATORS[op].fields else {}
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
    architecture = network(block(op, stride=stride), padding=padding, input_shape=(8, side, side))
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
    seen: list[torch.Tensor] = []
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
