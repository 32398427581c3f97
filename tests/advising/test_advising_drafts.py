"""Variants of networks: the same network as a graph, other widths, equal work."""

from __future__ import annotations

import pytest

from featherweight.advising.absence import with_nothing_at
from featherweight.advising.drafts import (
    EQUAL,
    groups_of,
    macs_of,
    with_equal_macs,
    with_widths,
    without,
)
from featherweight.advising.guideline import Plan
from featherweight.layers import layers
from featherweight.networks.graphs import as_graph
from featherweight.networks.resolve import create_architecture
from featherweight.profiling.profile import totals
from featherweight.zoo.model import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_of_primitives_is_the_same_network(name: str) -> None:
    architecture = create_architecture(name)
    drawn = as_graph(architecture)
    assert totals(drawn) == totals(architecture)
    for ours, theirs in zip(layers(drawn), layers(architecture), strict=True):
        assert ours._replace(same=theirs.same) == theirs
    assert as_graph(drawn) is drawn


def test_at_another_size_padding_stays_tensorflows() -> None:
    architecture = create_architecture("efficientnet_lite0", padding="same")
    drawn = as_graph(architecture).at_resolution(160)
    expected = layers(architecture.at_resolution(160))
    assert [one.output_shape for one in layers(drawn)] == [one.output_shape for one in expected]


def test_what_was_left_out_is_read_through() -> None:
    network = as_graph(create_architecture("shufflenet_v2"))
    shuffles = [one.name for one in network.primitives if one.op == "shuffle"]
    found = without(network, shuffles)
    assert len(found.primitives) == len(network.primitives) - len(shuffles)
    assert totals(found) == totals(network)


def test_a_gate_goes_with_everything_that_made_it() -> None:
    network = as_graph(create_architecture("mobilenet_v3_small"))
    scales = [one.name for one in network.primitives if one.op == "multiply"]
    found = without(network, scales)
    assert not any(".se." in one.name for one in found.primitives)


@pytest.mark.parametrize("factor", [0.5, 2])
@pytest.mark.parametrize("name", ["mobilenet_v2", "ghostnet", "mobilenet_v3_large", "resnet"])
def test_widths_become_wider_and_narrower(name: str, factor: float) -> None:
    network = as_graph(create_architecture(name))
    groups = set(groups_of(network).values())
    found = with_widths(
        network,
        {group: round(factor * group.channels / group.step) * group.step for group in groups},
    )
    before, after = ({one.name: one for one in layers(drawn)} for drawn in (network, found))
    for group in groups:
        width = round(factor * group.channels / group.step) * group.step
        assert after[group.layers[0]].output_shape[0] == width
    assert set(before) == set(after)
    assert (macs_of(found) < macs_of(network)) == (factor < 1)


@pytest.mark.parametrize("share", [0.7, 1.6])
@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "ghostnet", "mnasnet_b1"])
def test_the_work_that_was_asked_for_is_met(name: str, share: float) -> None:
    network = as_graph(create_architecture(name))
    wanted = round(share * macs_of(network))
    hidden = [group for group in groups_of(network).values() if len(group.layers) == 1]
    found = with_equal_macs(network, hidden, wanted)
    assert found is not None
    assert abs(macs_of(found) - wanted) <= EQUAL * wanted


def test_work_that_no_width_reaches_is_not_met() -> None:
    network = as_graph(create_architecture("mobilenet_v2"))
    group = next(iter(groups_of(network).values()))
    assert with_equal_macs(network, [group], 100 * macs_of(network)) is None
    assert with_equal_macs(network, [], 2 * macs_of(network)) is None
    assert with_equal_macs(network, [], macs_of(network)) is network


def test_with_nothing_in_its_place_a_layer_has_next_to_no_work() -> None:
    plan = Plan(as_graph(create_architecture("mobilenet_v2")))
    strided = with_nothing_at(plan, ["blocks.2.depthwise"])
    assert strided is not None
    assert {one.name: one for one in layers(strided)}["blocks.2.depthwise"].kernel_size == 1
    widening = with_nothing_at(plan, ["blocks.2.expand"])
    assert widening is not None
    assert macs_of(widening) < macs_of(plan.network)
    adds = [name for name in plan.layers if name.endswith(".add")]
    added = with_nothing_at(plan, adds)
    assert added is not None
    assert macs_of(added) == plan.macs
    assert len(layers(added)) == len(plan.layers) - len(adds) > 0
    gated = Plan(as_graph(create_architecture("mobilenet_v3_small")))
    whole = [name for name in gated.layers if ".se." in name]
    without_gates = with_nothing_at(gated, whole)
    assert without_gates is not None
    assert not any(".se." in one.name for one in layers(without_gates))
    assert with_nothing_at(plan, ["classifier"]) is None
