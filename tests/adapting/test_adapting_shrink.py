"""Thinner blocks and fewer of them compute what the parent computes without those channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from oracles.transplant import randomise, relative_error

from featherweight.adapting.importance import channel_importance
from featherweight.adapting.propose import propose_widths
from featherweight.adapting.savings import hidden_options, measure_savings
from featherweight.adapting.shrink import (
    DROPPED,
    hidden_widths,
    is_droppable,
    shrink_network,
    shrunk,
)
from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.nn.network import Network
from featherweight.profiling.profile import profile
from featherweight.zoo.model import MODELS


def build(name: str = "efficientnet_lite0") -> Architecture:
    return MODELS[name].build(width=0.5, resolution=32, classes=5).changed(dropout=0.0)


@pytest.fixture
def parent() -> Network:
    network = Network(build())
    randomise(network, seed=0)
    return network.eval()


def pictures(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def silence(network: Network, layer: str, channels: list[int]) -> None:
    """Make channels behind a norm zero, whatever enters."""
    with torch.no_grad():
        for part in ("weight", "bias"):
            network.get_parameter(f"{layer}.norm.{part}")[channels] = 0.0


def droppable(architecture: Architecture) -> list[int]:
    return [k for k in range(len(architecture.blocks)) if is_droppable(architecture, k)]


def test_a_thinner_block_computes_the_same_without_its_silent_channels(parent: Network) -> None:
    position, width = 4, 16
    hidden = hidden_widths(parent.architecture)[position]
    importance = {f"blocks.{position}.depthwise": np.arange(float(hidden))}
    silence(parent, f"blocks.{position}.depthwise", list(range(hidden - width)))
    small = shrink_network(parent, {position: width}, importance=importance)
    assert hidden_widths(small.architecture)[position] == width
    with torch.no_grad():
        assert relative_error(small(pictures()), parent(pictures())) <= 1e-5


def test_a_dropped_block_computes_the_same_where_it_added_nothing(parent: Network) -> None:
    position = droppable(parent.architecture)[1]
    out = parent.architecture.blocks[position].out_channels
    silence(parent, f"blocks.{position}.project", list(range(out)))
    small = shrink_network(parent, {position: DROPPED}, name="smaller")
    assert small.architecture.name == "smaller"
    assert len(small.architecture.blocks) == len(parent.architecture.blocks) - 1
    with torch.no_grad():
        assert relative_error(small(pictures()), parent(pictures())) <= 1e-5


def test_both_at_once_are_the_architecture_that_was_asked_for(parent: Network) -> None:
    dropped = droppable(parent.architecture)
    widths = {dropped[0]: DROPPED, dropped[2]: DROPPED, 1 + dropped[2]: 8}
    small = shrink_network(parent, widths)
    assert small.architecture == shrunk(parent.architecture, widths)
    assert (profile(small.architecture).macs or 0) < (profile(parent.architecture).macs or 0)
    assert small(pictures()).shape == (4, 5)


@pytest.mark.parametrize(
    ("widths", "message"),
    [({0: DROPPED}, "cannot be left out"), ({2: 4096}, "4096 hidden"), ({0: 8}, "no other number")],
)
def test_what_cannot_be_shrunk_is_one_line(widths: dict[int, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shrunk(build(), widths)


def test_importance_is_what_the_loss_changes_by(parent: Network) -> None:
    """For small gates the estimate is the change itself, squared."""
    layer = "blocks.4.depthwise"
    images, labels = pictures(8), torch.arange(8) % 5
    with torch.no_grad():
        for part in ("weight", "bias"):
            parent.get_parameter(f"{layer}.norm.{part}").mul_(1e-6)
    found = channel_importance(parent.double(), [(images.double(), labels)])[layer]

    def loss() -> float:
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(parent(images.double()), labels))

    before = loss()
    for channel in np.argsort(found)[-3:]:
        kept = {k: v.clone() for k, v in parent.state_dict().items()}
        silence(parent, layer, [int(channel)])
        assert found[channel] == pytest.approx((loss() - before) ** 2, rel=1e-3)
        parent.load_state_dict(kept)


def macs(networks: list[Architecture]) -> list[float]:
    """A clock whose milliseconds are millions of multiply-adds."""
    return [(profile(one).macs or 0) / 1e6 for one in networks]


def test_savings_are_those_of_the_block_in_the_network() -> None:
    """With a clock that adds up, a block alone tells what the whole network saves."""
    architecture = build()

    def time(networks: Sequence[Architecture]) -> list[float]:
        assert {one.input_shape[0] for one in networks} == {3}, "files take pictures"
        return macs(list(networks))

    savings = measure_savings(architecture, time=time)
    (whole,) = macs([architecture])
    assert set(savings) == set(hidden_widths(architecture))
    for position, saved in savings.items():
        assert set(saved) == set(hidden_options(architecture)[position])
        for width, value in saved.items():
            (smaller,) = macs([shrunk(architecture, {position: width})])
            assert value == pytest.approx(whole - smaller, abs=1e-9)


@pytest.mark.parametrize("share", [0.9, 0.7, 0.5])
def test_a_proposal_meets_its_target_and_keeps_what_matters(share: float) -> None:
    architecture = build()
    generator = np.random.default_rng(0)
    importance = {
        f"blocks.{position}.depthwise": generator.uniform(0, 1, width)
        for position, width in hidden_widths(architecture).items()
    }
    precious = droppable(architecture)[0]
    importance[f"blocks.{precious}.depthwise"] += 1000.0
    savings = measure_savings(architecture, time=lambda networks: macs(list(networks)))
    (present,) = macs([architecture])
    widths = propose_widths(savings, importance, present_ms=present, target_ms=share * present)
    assert widths is not None
    assert precious not in widths
    (proposed,) = macs([shrunk(architecture, widths)])
    assert 0.95 * share * present <= proposed <= share * present


def test_a_target_out_of_reach_is_none() -> None:
    savings = {2: {16: 0.0, 8: 0.1}}
    importance = {"blocks.2.depthwise": np.ones(16)}
    assert propose_widths(savings, importance, present_ms=1.0, target_ms=0.8) is None
    assert propose_widths(savings, importance, present_ms=1.0, target_ms=0.9) == {2: 8}
    assert propose_widths(savings, importance, present_ms=1.0, target_ms=1.0) == {}
