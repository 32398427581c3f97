"""What the rules propose: what breaks a rule is found, and changed at equal multiply-adds."""

from __future__ import annotations

import pytest
from cases import often

from featherweight.advising.drafts import EQUAL, macs_of
from featherweight.advising.guideline import GUIDELINES, Plan, Proposal
from featherweight.advising.guidelines import proposals_for
from featherweight.advising.paper_networks import Chain, paper_networks, repeated
from featherweight.architecture import Architecture
from featherweight.layers import layers
from featherweight.networks.channels import is_depthwise
from featherweight.networks.graphs import as_graph
from featherweight.networks.resolve import create_architecture
from featherweight.zoo.model import MODELS

FEW = {"convnet", "ghostnet", "mnasnet_a1", "mobilenet_v3_small", "shufflenet_v1_g3", "snet49"}
"""A network of every kind of block that a rule speaks of."""
BROKEN = {"G1": "1:12", "G2": "g = 8", "G3": "4 in parallel", "G4": "ReLU and shortcut"}


def broken(guideline: str) -> Architecture:
    """Return the paper's network that breaks a rule, with a hundred channels or so."""
    return next(
        one.architecture
        for one in paper_networks()
        if (one.guideline, one.setting, one.multiple) == (guideline, BROKEN[guideline], 2)
    )


def proposed(network: Architecture, guideline: str) -> list[Proposal]:
    return [one for one in proposals_for(Plan(as_graph(network))) if one.guideline == guideline]


@pytest.mark.parametrize("name", often(MODELS, FEW))
def test_every_variant_of_the_zoo_is_another_network_of_equal_work(name: str) -> None:
    plan = Plan(as_graph(create_architecture(name)))
    for one in proposals_for(plan):
        drawn = layers(one.variant)
        assert drawn[-1].output_shape == (plan.network.num_classes,)
        assert one.variant.digest != plan.network.digest
        assert abs(macs_of(one.variant) - plan.macs) <= EQUAL * plan.macs, one.finding
        assert set(one.layers) <= set(plan.layers)
        assert one.finding
        assert one.advice


@pytest.mark.parametrize("guideline", BROKEN)
def test_what_breaks_a_rule_is_found(guideline: str) -> None:
    found = proposed(broken(guideline), guideline)
    assert found
    assert len(found[0].layers) >= 9


@pytest.mark.parametrize("guideline", ["G1", "G2", "G3"])
def test_what_follows_a_rule_is_left_alone(guideline: str) -> None:
    first = next(one for one in paper_networks() if one.guideline == guideline)
    assert proposed(first.architecture, guideline) == []


def test_unequal_widths_become_equal() -> None:
    (one,) = proposed(broken("G1"), "G1")
    widths = {layer.output_shape[0] for layer in layers(one.variant)[2:-2]}
    assert max(widths) <= 1.25 * min(widths)


def test_groups_become_dense_and_narrower() -> None:
    (one,) = proposed(broken("G2"), "G2")
    drawn = [layer for layer in layers(one.variant) if layer.op == "conv"]
    assert {layer.groups for layer in drawn} == {1}
    assert drawn[-1].output_shape[0] < 368


def test_shuffles_go_with_the_groups_they_mix() -> None:
    (one,) = proposed(create_architecture("shufflenet_v1_g3"), "G2")
    assert not any(layer.op == "shuffle" for layer in layers(one.variant))
    assert not any(layer.groups > 1 and not is_depthwise(layer) for layer in layers(one.variant))


def test_parallel_convolutions_become_one() -> None:
    (one,) = proposed(broken("G3"), "G3")
    drawn = layers(one.variant)
    assert not any(layer.op == "add" for layer in drawn)
    assert sum(layer.op == "conv" for layer in drawn) == 11


def test_concatenated_convolutions_become_one_as_wide() -> None:
    chain = Chain().conv(16)
    start = chain.last
    ends = []
    for width in (8, 24):
        chain.last = start
        ends.append(chain.conv(width).relu().last)
    chain.put("concat", inputs=tuple(ends)).conv(16).relu()
    chain.put("global_pool").put("linear", out_channels=2, bias=True)
    network = Architecture(
        name="two", input_shape=(3, 8, 8), primitives=tuple(chain.primitives), num_classes=2
    )
    (one,) = proposed(network, "G3")
    assert macs_of(one.variant) == macs_of(network)
    assert [layer.output_shape[0] for layer in layers(one.variant) if layer.op == "conv"] == [
        16,
        32,
        16,
    ]


def test_a_ghost_module_becomes_a_dense_convolution() -> None:
    found = proposed(create_architecture("ghostnet"), "G3")
    assert found
    for one in found:
        left = {layer.name for layer in layers(one.variant)}
        assert not any(name.endswith("_cheap") and name in left for name in one.layers)


def test_odd_widths_become_multiples_of_eight() -> None:
    def block(chain: Chain) -> None:
        chain.conv(33).relu().conv(49).relu()

    (one,) = proposed(repeated(49, block), "width")
    widths = [layer.output_shape[0] for layer in layers(one.variant) if layer.op == "conv"]
    assert all(width % 8 == 0 for width in widths)


def test_a_shortcut_is_left_out_and_its_branch_stays() -> None:
    plan = Plan(as_graph(create_architecture("mobilenet_v2")))
    found = list(GUIDELINES["G4 shortcuts"](plan))
    assert sum(len(one.layers) for one in found) == 10
    for one in found:
        assert macs_of(one.variant) == plan.macs


def test_large_windows_become_three_by_three() -> None:
    plan = Plan(as_graph(create_architecture("mnasnet_b1")))
    for one in GUIDELINES["depthwise windows"](plan):
        drawn = {layer.name: layer for layer in layers(one.variant)}
        for name in one.layers:
            assert drawn[name].kernel_size == 3
            assert drawn[name].output_shape[1:] == plan.layers[name].output_shape[1:]
