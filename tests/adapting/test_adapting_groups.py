"""Thinner blocks and fewer of them compute what the parent computes without those channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from oracles.transplant import randomise, relative_error

from featherweight.adapting.branches import droppable
from featherweight.adapting.changes import apply, changed
from featherweight.adapting.groups import Change, Drop, Narrow, WidthGroup, width_groups
from featherweight.adapting.importance import channel_importance
from featherweight.adapting.propose import propose_changes
from featherweight.adapting.saving_model import SavingModel
from featherweight.adapting.savings import change_options, measure_savings
from featherweight.adapting.table import measure_options, measure_table, thin_everywhere
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


def group_of(architecture: Architecture, block: int) -> WidthGroup:
    name = f"blocks.{block}.hidden"
    return next(group for group in width_groups(architecture) if group.name == name)


def narrow(block: int, channels: int) -> Narrow:
    return Narrow(group=f"blocks.{block}.hidden", channels=channels)


def test_a_group_is_what_the_hidden_channels_of_a_block_are_written_by() -> None:
    group = group_of(build(), 4)
    assert group.layers == ("blocks.4.expand",)
    assert group.channels == build().blocks[4].hidden_channels
    assert [change.channels for change in group.narrowed((1.0, 0.5, 0.5))] == [
        group.channels // 2 // 8 * 8
    ]


def test_a_narrower_block_computes_the_same_without_its_silent_channels(parent: Network) -> None:
    position, width = 4, 16
    hidden = group_of(parent.architecture, position).channels
    importance = {f"blocks.{position}.expand": np.arange(float(hidden))}
    silence(parent, f"blocks.{position}.depthwise", list(range(hidden - width)))
    small = apply(parent, [narrow(position, width)], importance=importance)
    assert group_of(small.architecture, position).channels == width
    with torch.no_grad():
        assert relative_error(small(pictures()), parent(pictures())) <= 1e-5


def test_a_dropped_block_computes_the_same_where_it_added_nothing(parent: Network) -> None:
    drop = droppable(parent.architecture)[1]
    position = int(drop.add.split(".")[1])
    out = parent.architecture.blocks[position].out_channels
    silence(parent, f"blocks.{position}.project", list(range(out)))
    small = apply(parent, [drop], name="smaller")
    assert small.architecture.name == "smaller"
    assert len(small.architecture.blocks) == len(parent.architecture.blocks) - 1
    with torch.no_grad():
        assert relative_error(small(pictures()), parent(pictures())) <= 1e-5


def test_both_at_once_are_the_architecture_that_was_asked_for(parent: Network) -> None:
    drops = droppable(parent.architecture)
    behind = 1 + int(drops[2].add.split(".")[1])
    changes = [drops[0], drops[2], narrow(behind, 8)]
    small = apply(parent, changes)
    assert small.architecture == changed(parent.architecture, changes)
    assert (profile(small.architecture).macs or 0) < (profile(parent.architecture).macs or 0)
    assert small(pictures()).shape == (4, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Drop(add="blocks.0.add"), "ends at blocks.0.add .* cannot be left out; allowed: .*blocks"),
        (narrow(2, 4096), "4096 channels; allowed: 1 to"),
        (narrow(2, 0), "0 channels"),
        (narrow(0, 8), "no group 'blocks.0.hidden'"),
    ],
)
def test_what_cannot_be_changed_is_one_line(change: Change, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        changed(build(), [change])


def test_importance_is_what_the_loss_changes_by(parent: Network) -> None:
    """For small gates the estimate is the change itself, squared."""
    layer = "blocks.4.depthwise"
    images, labels = pictures(8), torch.arange(8) % 5
    with torch.no_grad():
        parent.get_parameter("blocks.4.project.conv.weight").mul_(1e-6)
    found = channel_importance(
        parent.double(), [(images.double(), labels)], loss=torch.nn.functional.cross_entropy
    )["blocks.4.expand"]

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

    options = change_options(architecture)
    savings = measure_savings(architecture, options, time=time)
    (whole,) = macs([architecture])
    assert tuple(one.change for one in savings) == options
    assert {type(one.change) for one in savings} == {Narrow, Drop}
    kinds = {group.name: group.kind for group in width_groups(architecture)}
    seen = {kinds[one.change.group] for one in savings if isinstance(one.change, Narrow)}
    assert seen == {"hidden", "trunk", "head"} & set(kinds.values())
    for one in savings:
        (smaller,) = macs([changed(architecture, [one.change])])
        assert one.saved_ms == pytest.approx(whole - smaller, abs=1e-9)


def exact_model(architecture: Architecture, kinds: Sequence[str]) -> SavingModel:
    """Return what changes save on the clock that adds up."""
    options = change_options(architecture, kinds=kinds)
    savings = measure_savings(architecture, options, time=lambda networks: macs(list(networks)))
    (present,) = macs([architecture])
    return SavingModel(architecture, savings, present_ms=present)


def test_many_changes_together_save_what_the_whole_network_saves() -> None:
    """However many touch one layer: thin everywhere, without branches, and drawn choices."""
    architecture = build()
    (present,) = macs([architecture])
    model = exact_model(architecture, ("hidden", "trunk", "gate", "head"))
    choices = [thin_everywhere(architecture, share) for share in (0.75, 0.5, 0.25)]
    choices.append(tuple(droppable(architecture)))
    generator = np.random.default_rng(0)
    for _ in range(10):
        groups = [group for group in width_groups(architecture) if generator.uniform() < 0.6]
        choices.append(
            tuple(
                change
                for group in groups
                for change in group.narrowed((generator.uniform(0.3, 0.9),))
            )
        )
    for choice in choices:
        (measured,) = macs([changed(architecture, choice)])
        assert model.latency_ms(choice) == pytest.approx(measured, rel=0.05)
    everything = [*choices[2], *droppable(architecture)]
    assert 0.0 < model.latency_ms(everything) <= min(map(model.latency_ms, choices[2:4]))
    assert 0.0 < model.reach_ms() < 0.3 * present


@pytest.mark.parametrize("wrong", [0.6, 1.5])
def test_the_table_is_held_against_whole_networks(wrong: float) -> None:
    """Blocks timed alone tell too little or too much, and the machine has another speed."""
    architecture = build()
    (present,) = macs([architecture])

    def time(networks: Sequence[Architecture]) -> list[float]:
        whole = [one.input_shape == architecture.input_shape for one in networks]
        deep = [len(one.blocks) == len(architecture.blocks) for one in networks]
        factors = [
            1.3 if own and other else 1.3 * wrong for own, other in zip(whole, deep, strict=True)
        ]
        return [factor * ms for factor, ms in zip(factors, macs(list(networks)), strict=True)]

    options = change_options(architecture, kinds=("hidden",))
    savings = measure_table(architecture, options, time=time, present_ms=present)
    model = SavingModel(architecture, savings, present_ms=present)
    for share in (0.75, 0.5):
        choice = [c for c in thin_everywhere(architecture, share) if "hidden" in c.group]
        (measured,) = macs([changed(architecture, choice)])
        assert present - model.latency_ms(choice) == pytest.approx(present - measured, rel=0.25)


@pytest.mark.parametrize("most_s", [0.0, 1e6, math.inf])
def test_where_time_is_short_widths_between_lie_on_a_line(most_s: float) -> None:
    architecture = build()
    timed: set[str] = set()

    def time(networks: Sequence[Architecture]) -> list[float]:
        timed.update(one.digest for one in networks)
        return macs(list(networks))

    (present,) = macs([architecture])
    savings = measure_options(architecture, time=time, present_ms=present, most_s=most_s)
    options = change_options(architecture)
    once = measure_options(architecture, time=macs, present_ms=present)
    whole_table = {one.change: pytest.approx(one.saved_ms) for one in once}
    assert {one.change for one in savings} == set(options)
    assert len(savings) == len(options)
    saved = {one.change: one.saved_ms for one in savings}
    if most_s > 0.0:
        assert saved == whole_table, "measured in two parts or at once"
    for group in width_groups(architecture):
        widths = sorted(one.channels for one in group.narrowed((0.75, 0.5, 0.25)))
        found = [saved[Narrow(group=group.name, channels=width)] for width in widths]
        assert found == sorted(found, reverse=True)  # the narrowest saves most
        if most_s == 0.0:
            line = [(group.channels - width) * found[0] for width in widths]
            assert found == pytest.approx([one / (group.channels - widths[0]) for one in line])
    whole = len(timed)
    timed.clear()
    measure_options(architecture, time=time, present_ms=present)
    assert (whole < len(timed)) == (most_s == 0.0)


@pytest.mark.parametrize("kinds", [("hidden",), ("hidden", "trunk", "head")], ids=["dp", "solver"])
@pytest.mark.parametrize("share", [0.9, 0.7, 0.5])
def test_a_proposal_meets_its_target_and_keeps_what_matters(
    share: float, kinds: tuple[str, ...]
) -> None:
    architecture = build()
    groups = width_groups(architecture)
    generator = np.random.default_rng(0)
    importance = {group.layers[0]: generator.uniform(0, 1, group.channels) for group in groups}
    precious = droppable(architecture)[0]
    hidden = precious.add.replace(".add", ".hidden")
    importance[precious.add.replace(".add", ".expand")] += 1000.0
    model = exact_model(architecture, kinds)
    (present,) = macs([architecture])
    changes = propose_changes(architecture, model, importance, target_ms=share * present)
    assert changes is not None
    assert precious not in changes
    assert hidden not in {one.group for one in changes if isinstance(one, Narrow)}
    (proposed,) = macs([changed(architecture, changes)])
    assert proposed == pytest.approx(model.latency_ms(changes), rel=0.02), "overlaps are reckoned"
    assert 0.93 * share * present <= proposed <= 1.02 * share * present


def test_a_target_out_of_reach_is_none() -> None:
    architecture = build()
    model = exact_model(architecture, ("hidden",))
    importance = {group.layers[0]: np.ones(group.channels) for group in width_groups(architecture)}

    def propose(target_ms: float) -> tuple[Change, ...] | None:
        return propose_changes(architecture, model, importance, target_ms=target_ms)

    assert propose(0.9 * model.reach_ms()) is None
    assert propose(1.02 * model.reach_ms())
    assert propose(model.present_ms) == ()


def test_widths_between_those_measured_lie_on_a_line() -> None:
    architecture = build()
    model = exact_model(architecture, ("hidden",))
    group = group_of(architecture, 10)
    least = min(change.channels for change in group.narrowed((0.25,)))
    for channels in range(least, group.channels, 8):
        (smaller,) = macs([changed(architecture, [narrow(10, channels)])])
        assert model.latency_ms([narrow(10, channels)]) == pytest.approx(smaller, rel=1e-6)
