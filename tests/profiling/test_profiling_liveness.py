"""Peak memory of activations, by hand."""

from __future__ import annotations

from featherweight.layers import Layer
from featherweight.profiling.liveness import peak_activation_bytes

SHAPE = (2, 4, 4)  # 32 values
WIDE = (6, 4, 4)  # 96 values


def layer(name: str, op: str, *inputs: str, out: tuple[int, ...] = SHAPE) -> Layer:
    return Layer(name, op, inputs, SHAPE, out)


def test_a_chain_keeps_two_neighbours() -> None:
    chain = (
        layer("a", "conv", "input", out=WIDE),
        layer("b", "conv", "a"),
        layer("c", "conv", "b"),
    )
    assert peak_activation_bytes(chain) == 4 * (32 + 96)


def test_an_activation_works_in_place() -> None:
    chain = (layer("a", "conv", "input"), layer("b", "activation", "a"), layer("c", "conv", "b"))
    assert peak_activation_bytes(chain) == 4 * (32 + 32)


def test_an_activation_with_another_reader_needs_its_own_place() -> None:
    branches = (
        layer("a", "conv", "input"),
        layer("b", "activation", "a"),
        layer("c", "add", "a", "b"),
    )
    assert peak_activation_bytes(branches) == 4 * (32 + 32 + 32)


def test_a_skip_lives_until_it_is_added() -> None:
    residual = (
        layer("a", "conv", "input"),
        layer("expand", "conv", "a", out=WIDE),
        layer("act", "activation", "expand", out=WIDE),
        layer("depthwise", "conv", "act", out=WIDE),
        layer("project", "conv", "depthwise"),
        layer("sum", "add", "a", "project"),
    )
    assert peak_activation_bytes(residual) == 4 * (32 + 96 + 96)


def test_the_picture_is_not_overwritten_and_the_logits_stay() -> None:
    assert peak_activation_bytes((layer("a", "activation", "input"),)) == 4 * (32 + 32)
    unused = (layer("a", "conv", "input", out=WIDE), layer("b", "conv", "input"))
    assert peak_activation_bytes(unused) == 4 * (32 + 96 + 32)
