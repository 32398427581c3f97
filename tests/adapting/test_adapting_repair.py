"""Least-squares repair of the weights that lose inputs."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from oracles.transplant import randomise
from torch import Tensor

from featherweight.adapting.changes import apply, narrow
from featherweight.adapting.groups import Drop, Narrow, width_groups
from featherweight.adapting.samples import weight_of
from featherweight.layers import Layer, layers
from featherweight.nn.network import Network
from featherweight.zoo.model import MODELS


def drawn(name: str, seed: int = 0) -> Network:
    network = Network(MODELS[name].build(width=1.0, resolution=32, classes=5))
    randomise(network, seed=seed)
    return network.eval()


@pytest.fixture
def pictures() -> Tensor:
    return torch.randn(48, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def half(network: Network, names: list[str]) -> list[Narrow]:
    groups = {group.name: group for group in width_groups(network.architecture)}
    return [Narrow(group=name, channels=groups[name].channels // 2) for name in names]


@pytest.mark.parametrize(
    ("name", "group", "writers", "reader"),
    [
        (
            "mobilenet_v2",
            "blocks.2.hidden",
            ("blocks.2.expand", "blocks.2.depthwise"),
            "blocks.2.project",
        ),
        ("resnet", "blocks.1.hidden", ("blocks.1.first",), "blocks.1.second"),
        ("vgg16", "blocks.0.trunk", ("blocks.0.main",), "blocks.1.main"),
    ],
)
def test_a_channel_that_another_repeats_is_replaced_by_it(
    name: str, group: str, writers: tuple[str, ...], reader: str, pictures: Tensor
) -> None:
    """What the cut takes away can be had from what stays: the repaired network is the whole one."""
    whole = drawn(name)
    (change,) = half(whole, [group])
    kept = change.channels
    with torch.no_grad():  # the second half of the group computes what the first half does
        for key, tensor in whole.state_dict().items():
            if key.startswith(tuple(f"{layer}." for layer in writers)) and tensor.dim():
                tensor[kept:] = tensor[:kept]
    worth = {layer: np.arange(2 * kept, 0, -1.0) for layer in writers}
    plain = narrow(whole, [change], importance=worth).network
    repaired = narrow(whole, [change], importance=worth, repaired_by=pictures).network
    with torch.no_grad():
        right = whole(pictures)
        errors = [float((one(pictures) - right).norm() / right.norm()) for one in (plain, repaired)]
    assert errors[1] < 0.1 * errors[0]
    weights = [
        weight_of(one, layer) for one in (plain, repaired) for layer in [_layer(one, reader)]
    ]
    assert not torch.equal(*weights)


def _layer(network: Network, name: str) -> Layer:
    return next(layer for layer in layers(network.architecture) if layer.name == name)


def test_on_unseen_pictures_readers_compute_nearly_what_they_did(pictures: Tensor) -> None:
    whole = drawn("mobilenet_v2", seed=3)
    changes = half(whole, ["blocks.2.hidden"])
    others = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    plain = apply(whole, changes)
    repaired = apply(whole, changes, repaired_by=pictures)
    name = ["blocks.2.project"]
    with torch.no_grad():
        (right,) = whole.forward_layers(others, name)
        errors = [
            float((one.forward_layers(others, name)[0] - right).norm()) for one in (plain, repaired)
        ]
    assert errors[1] < 0.8 * errors[0]


def test_what_loses_no_input_stays_and_so_does_the_whole(pictures: Tensor) -> None:
    whole = drawn("mobilenet_v2")
    before = copy.deepcopy(whole.state_dict())
    names = [one.name for one in width_groups(whole.architecture) if one.kind == "hidden"][:1]
    changes = half(whole, names)
    plain, repaired = apply(whole, changes), apply(whole, changes, repaired_by=pictures)
    assert all(torch.equal(one, before[name]) for name, one in whole.state_dict().items())
    moved = {
        name
        for name, one in plain.state_dict().items()
        if not torch.equal(one, repaired.state_dict()[name])
    }
    assert len(moved) == 1
    assert next(iter(moved)).endswith("project.conv.weight")


def test_dropped_branches_and_repairs_go_together(pictures: Tensor) -> None:
    whole = drawn("mobilenet_v2")
    names = [one.name for one in width_groups(whole.architecture) if one.kind == "hidden"][:1]
    changes = [*half(whole, names), Drop(add="blocks.5.add")]
    network = apply(whole, changes, repaired_by=pictures)
    assert torch.isfinite(network(pictures)).all()
