"""Architecture: rounding of widths, digest, JSON, small form."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherweight.architecture import (
    Architecture,
    BlockSpec,
    make_divisible,
    read_architecture,
    small_form,
    write_architecture,
)
from featherweight.errors import ArchitectureError, RecordError
from featherweight.layers import layers
from featherweight.networks.resolve import create_architecture


# Source of the vectors: the rounding of slim (MobileNetV2), which never loses more than 10 %.
@pytest.mark.parametrize(
    ("value", "divisor", "expected"),
    [
        (18, 8, 24),
        (11.2, 8, 16),
        (5.6, 8, 8),
        (8.4, 8, 8),
        (83, 8, 80),
        (84, 8, 88),
        (33.6, 8, 32),
        (44.8, 8, 48),
        (22.4, 8, 24),
        (18, 4, 20),
        (12.0, 4, 12),
    ],
)
def test_make_divisible(value: float, divisor: int, expected: int) -> None:
    assert make_divisible(value, divisor) == expected


@given(st.floats(1, 4096), st.sampled_from([4, 8, 16]))
def test_make_divisible_never_loses_more_than_a_tenth(value: float, divisor: int) -> None:
    rounded = make_divisible(value, divisor)
    assert rounded % divisor == 0
    assert rounded >= 0.9 * value


def example(**changes: object) -> Architecture:
    blocks = (
        BlockSpec(op="conv", out_channels=8, stride=2, activation="relu"),
        BlockSpec(op="max_pool", out_channels=8, stride=2),
        BlockSpec(op="inverted_residual", out_channels=16, stride=2, hidden_channels=32),
        BlockSpec(op="inverted_residual", out_channels=16, hidden_channels=32, skip="identity"),
    )
    plain = {"name": "example", "input_shape": (3, 32, 32), "blocks": blocks, "num_classes": 10}
    return Architecture.model_validate({**plain, **changes})


def test_digest_ignores_the_name_only() -> None:
    assert example(name="other").digest == example().digest
    assert example(num_classes=11).digest != example().digest
    assert example(padding="same").digest != example().digest


def test_digest_is_the_same_in_every_version() -> None:
    # A changed digest would orphan every stored network and cache: it needs an ADR.
    assert example().digest.startswith("49632031ffdb0bdc")


def test_file_round_trip(tmp_path: Path) -> None:
    write_architecture(example(), tmp_path / "architecture.json")
    assert read_architecture(tmp_path / "architecture.json") == example()


def test_unknown_key_names_its_path(tmp_path: Path) -> None:
    file = tmp_path / "architecture.json"
    write_architecture(example(), file)
    file.write_text(file.read_text().replace('"kernel_size"', '"kernelsize"', 1))
    with pytest.raises(RecordError, match=r"blocks\.0\.kernelsize"):
        read_architecture(file)


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "architecture.json"
    write_architecture(example(), file)
    file.write_text(file.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(RecordError, match="newer featherweight"):
        read_architecture(file)


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "convnet"])
@pytest.mark.parametrize("resolution", [16, 28, 32, 64])
def test_small_form_ends_with_at_least_four_pixels(name: str, resolution: int) -> None:
    small = create_architecture(name, resolution=resolution, form="small")
    last = [layer for layer in layers(small) if layer.op == "global_pool"][-1]
    assert min(last.input_shape[1:]) >= 4


def test_small_form_spends_resolution_late() -> None:
    small = small_form(example())
    assert [block.stride for block in small.blocks] == [2, 2, 2, 1]
    smaller = small_form(example(input_shape=(3, 16, 16)))
    assert [(block.op, block.stride) for block in smaller.blocks] == [
        ("conv", 1),
        ("max_pool", 2),
        ("inverted_residual", 2),
        ("inverted_residual", 1),
    ]
    smallest = small_form(example(input_shape=(3, 8, 8)))
    assert [block.op for block in smallest.blocks].count("max_pool") == 0


def test_small_form_of_a_tiny_picture_is_an_error() -> None:
    with pytest.raises(ArchitectureError, match="3 pixels"):
        small_form(example(input_shape=(3, 3, 3)))
