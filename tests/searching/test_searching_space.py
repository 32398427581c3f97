"""Spaces: golden sizes, exact counts, equal networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from featherweight.errors import RecordError, UsageError
from featherweight.networks.resolve import resolve_architecture
from featherweight.profiling.profile import profile
from featherweight.searching.costs import costs
from featherweight.searching.space import (
    SPACES,
    Point,
    Space,
    SpaceSettings,
    count_points,
    mutated,
    random_point,
    read_point,
)
from featherweight.searching.staged_space import read_staged_space

SMALL = SpaceSettings(input_shape=(3, 32, 32), num_classes=10)
LARGE = SpaceSettings(input_shape=(3, 224, 224), num_classes=1000)


def test_sizes_are_those_of_the_paper() -> None:
    """Section 4.1 of MnasNet: 432 options a block; the flat space decides every layer alone."""
    assert count_points(SPACES["mnasnet"](LARGE)) == 432**7
    layers = 2 * 3 + 3 + 4 + 5 + 4 + 4  # the most that every block can have
    assert count_points(SPACES["mnasnet_flat"](LARGE)) == 144**layers * 3**7
    assert count_points(SPACES["nas_bench_macro"](SMALL)) == 3**8


@pytest.mark.parametrize("name", list(SPACES))
def test_every_space_draws_networks_that_are_counted_alike(name: str) -> None:
    space, generator = SPACES[name](SMALL), np.random.default_rng(0)
    seen = set()
    for _ in range(12):
        point = random_point(space, generator)
        drawn = space.decode(point)
        whole = profile(drawn)
        assert costs(drawn)[:2] == (whole.params, whole.macs)
        seen.add(space.key(point))
    assert len(seen) > 8


@pytest.mark.parametrize("name", list(SPACES))
def test_a_mutation_changes_one_choice(name: str) -> None:
    space, generator = SPACES[name](SMALL), np.random.default_rng(1)
    point = random_point(space, generator)
    changed = mutated(space, point, generator)
    assert sum(a != b for a, b in zip(point, changed, strict=True)) == 1
    assert all(
        option < len(choice.options) for option, choice in zip(changed, space.choices, strict=True)
    )


def test_only_the_first_layer_of_a_block_is_strided() -> None:
    space = SPACES["mnasnet"](LARGE)
    drawn = space.decode(tuple(len(choice.options) - 1 for choice in space.choices))
    strided = [index for index, block in enumerate(drawn.blocks) if block.stride == 2]
    assert len(strided) == 5  # the stem and four of seven blocks, however many layers they have


@pytest.mark.parametrize(
    ("changes", "network"),
    [
        (
            {
                "1.repeats": "0",
                "2.repeats": "0",
                "3.op": "conv",
                "3.out_channels": "64",
                "3.repeats": "2",
                "3.reduction": "pool",
                "4.op": "conv",
                "4.out_channels": "256",
                "4.repeats": "2",
                "4.reduction": "pool",
                "5.repeats": "0",
                "6.op": "conv",
                "6.out_channels": "256",
                "6.repeats": "2",
                "6.reduction": "pool",
                "7.repeats": "0",
                "head": "0",
            },
            "convnet:classes=10",
        ),
        (
            {
                "1.op": "separable",
                "1.out_channels": "16",
                "1.repeats": "1",
                "2.op": "mbconv6",
                "2.out_channels": "24",
                "2.repeats": "2",
                "3.op": "mbconv6",
                "3.out_channels": "32",
                "3.repeats": "3",
                "4.op": "mbconv6",
                "4.out_channels": "64",
                "4.repeats": "4",
                "5.op": "mbconv6",
                "5.out_channels": "96",
                "5.repeats": "3",
                "6.op": "mbconv6",
                "6.out_channels": "160",
                "6.repeats": "3",
                "7.op": "mbconv6",
                "7.out_channels": "320",
                "7.repeats": "1",
                "head": "1280",
            },
            "mobilenet_v2:form=small,resolution=32,classes=10,activation=relu",
        ),
    ],
)
def test_networks_of_the_zoo_are_points_of_the_small_space(
    changes: dict[str, str], network: str
) -> None:
    space = SPACES["small"](SMALL)
    options = {choice.name: choice.options[0] for choice in space.choices} | {"stem": "32"}
    drawn = space.decode(read_point(space, options | changes))
    wanted = resolve_architecture(network)
    assert drawn.blocks == wanted.blocks
    assert drawn.changed(dropout=wanted.dropout).digest == wanted.digest


def test_equal_networks_of_nas_bench_macro_are_one() -> None:
    space = SPACES["nas_bench_macro"](SMALL)
    points: list[Point] = [tuple(map(int, np.base_repr(n, 3).zfill(8))) for n in range(3**8)]
    assert len({space.key(point) for point in points}) == 3969
    one, other = (1, 0, 2, 0, 1, 0, 1, 2), (1, 0, 2, 1, 0, 0, 1, 2)
    assert space.key(one) == space.key(other)
    assert space.decode(one).digest == space.decode(other).digest


TABLE = Path(__file__).parents[3] / "shared/data/nas_bench_macro/nas-bench-macro_cifar10.json"


@pytest.mark.skipif(not TABLE.exists(), reason="the table of NAS-Bench-Macro is not here")
def test_params_and_multiply_adds_of_all_keys_are_the_table_s() -> None:
    space = SPACES["nas_bench_macro"](SMALL)
    rows = json.loads(TABLE.read_text())
    assert len(rows) == 6561
    for key, row in rows.items():
        found = costs(space.decode(tuple(map(int, key))))
        assert (found.params, found.macs) == (row["params"], row["flops"]), key


def test_an_option_that_does_not_exist_is_named() -> None:
    space = SPACES["nas_bench_macro"](SMALL)
    options = {choice.name: "identity" for choice in space.choices}
    with pytest.raises(UsageError, match="mb9 cannot be chosen"):
        read_point(space, options | {"1.1": "mb9"})
    with pytest.raises(UsageError, match=r"'9\.9' is unknown"):
        read_point(space, options | {"9.9": "identity"})
    with pytest.raises(UsageError, match="did you mean 'mnasnet'"):
        SPACES["mnasnett"]


OWN = """
name: mine
stem_channels: [8, 16]
stages:
  - {op: [conv], out_channels: [16], stride: 2}
  - {op: [mbconv3, mbconv6], kernel_size: [3, 5], out_channels: [24, 32], repeats: [1, 2]}
head_channels: [0]
"""


def test_own_spaces_are_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(OWN)
    space: Space = read_staged_space(path, SMALL)
    assert count_points(space) == 2 * 2 * 2 * 2 * 2
    assert next(choice.name for choice in space.choices) == "stem"


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        (OWN.replace("out_channels: [16]", "out_channel: [16]"), RecordError, "out_channel"),
        (OWN.replace("stride: 2}", "repeats: [0, 1], stride: 2}"), RecordError, "left out"),
        (OWN.replace("[3, 5]", "[4]"), RecordError, "odd"),
        ("a: [", UsageError, "cannot read the space"),
        (OWN.replace("[0]", "[]"), RecordError, "head_channels needs widths of at least 0"),
        (OWN.replace("[0]", "[0, -8, 64]"), RecordError, "widths of at least 0, each once"),
        (OWN.replace("stride: 2}", "stride: 64, reduction: [pool]}"), UsageError, "impossible"),
    ],
)
def test_bad_spaces_are_refused_with_one_line(
    text: str, error: type[Exception], match: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(error, match=match) as caught:
        read_staged_space(path, SMALL)
    assert len(str(caught.value).splitlines()) <= 3
