"""Every family and imported networks: what is cut away could have been zero all along."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from cases import often
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from oracles.transplant import randomise, relative_error
from torch import Tensor, nn

from featherweight.adapting.branches import branch_layers, droppable
from featherweight.adapting.changes import apply, changed
from featherweight.adapting.groups import Change, Drop, Narrow, width_groups
from featherweight.adapting.importance import IMPORTANCES, channel_importance
from featherweight.architecture import Architecture
from featherweight.layers import layers
from featherweight.networks.channels import channels_of
from featherweight.networks.importing import import_module, import_timm
from featherweight.networks.slicing import kept_channels
from featherweight.nn.network import Network
from featherweight.zoo.model import MODELS

FAMILIES = (
    "convnet",
    "efficientnet_lite0",
    "ghostnet",
    "mnasnet_a1",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v4_conv_small",
    "resnet",
    "shufflenet_v1_g3",
    "shufflenet_v2",
    "snet49",
    "vgg16",
)
OFTEN = {
    "ghostnet",
    "mobilenet_v3_small",
    "own module",
    "resnet",
    "shufflenet_v1_g3",
    "shufflenet_v2",
}
"""What the others are made of; those are slow tests."""
SHARES = (0.75, 0.5, 0.25)


class Own(nn.Module):
    """A network nobody drew as blocks: branches, a concatenation, a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.left = nn.Sequential(nn.Conv2d(16, 24, 1), nn.ReLU(), nn.Conv2d(24, 16, 3, 1, 1))
        self.right = nn.Conv2d(16, 32, 3, padding=1, groups=4)
        self.join = nn.Conv2d(48, 32, 1)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.left(x)
        x = torch.cat([x, torch.relu(self.right(x))], 1)
        return self.head(torch.relu(self.join(x)).mean((2, 3)))


def build(name: str) -> Network:
    if name == "own module":
        return import_module(Own().eval(), input_shape=(3, 32, 32), name="own")
    if name.startswith("timm:"):
        return import_timm(name.removeprefix("timm:"), classes=5, resolution=32, channels=3)
    if name == "vgg16":
        return Network(MODELS[name].build(width=0.25, resolution=32, classes=5))
    return Network(MODELS[name].build(width=1.0, resolution=32, classes=5))


_BUILT: dict[str, Network] = {}


def network_of(name: str) -> Network:
    """Return the network with drawn weights; built once."""
    if name not in _BUILT:
        network = build(name)
        randomise(network, seed=0)
        _BUILT[name] = network.eval()
    return _BUILT[name]


def pictures(count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 32, 32, generator=generator)


def answers(network: Network) -> Tensor:
    """Return what a network answers, in float64: its weights are float32 numbers."""
    with torch.no_grad():
        return copy.deepcopy(network).double()(pictures().double())


def with_zeros(network: Network, thin: Architecture, worth: dict[str, np.ndarray]) -> Tensor:
    """Return what a network answers with every channel zero that the thin one lacks."""
    kept = kept_channels(network, thin, importance=worth)

    def apply_layer(name: str, module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
        output: Tensor = module(*inputs)
        gone = sorted(set(range(output.shape[1])) - set(kept[name].tolist()))
        output = output.clone()
        output[:, gone] = 0.0
        return output

    with torch.no_grad():
        return copy.deepcopy(network).double().forward_by(pictures().double(), apply_layer)


def without_branches(network: Network, drops: Sequence[Drop]) -> Tensor:
    """Return what a network answers where some branches add nothing."""
    ends = {}
    for drop in drops:
        inside = set(branch_layers(network.architecture)[drop.add])
        add = next(one for one in layers(network.architecture) if one.name == drop.add)
        ends[drop.add] = [name in inside for name in add.inputs]

    def apply_layer(name: str, module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
        if name in ends:
            inputs = [x * (not gone) for x, gone in zip(inputs, ends[name], strict=True)]
        output: Tensor = module(*inputs)
        return output

    with torch.no_grad():
        return copy.deepcopy(network).double().forward_by(pictures().double(), apply_layer)


NETWORKS = (*FAMILIES, "timm:mobilenetv3_small_100", "timm:resnet18", "own module")


@pytest.mark.parametrize("name", often(NETWORKS, OFTEN))
def test_every_network_has_something_to_cut(name: str) -> None:
    architecture = network_of(name).architecture
    groups = width_groups(architecture)
    assert len(groups) >= 4, "nothing of it can be made narrower"
    assert len({group.name for group in groups}) == len(groups)
    assert all(group.channels % group.copies == 0 for group in groups)
    owners = [place for group in groups for place in group.places]
    assert len(owners) == len(set(owners)), "two groups say one width"


@pytest.mark.parametrize("name", often(NETWORKS, OFTEN))
@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # to shrink a failure would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_removing_is_zeroing(name: str, data: st.DataObject) -> None:
    """Channels of random groups, ranked by random numbers."""
    network = network_of(name)
    groups = width_groups(network.architecture)
    offered = [narrowed for group in groups if (narrowed := group.narrowed(SHARES))]
    picked = data.draw(
        st.lists(st.sampled_from(range(len(offered))), min_size=1, max_size=6, unique=True)
    )
    changes: list[Change] = [data.draw(st.sampled_from(offered[one])) for one in picked]
    worth = channel_importance(
        network, [], loss=nn.functional.cross_entropy, method="random", seed=len(picked)
    )
    small = apply(network, changes, importance=worth)
    assert small.architecture == changed(network.architecture, changes)
    for change in changes:
        assert isinstance(change, Narrow)
        now = {group.name: group.channels for group in width_groups(small.architecture)}
        assert now[change.group] == change.channels
    expected = with_zeros(network, small.architecture, worth)
    assert relative_error(answers(small), expected) <= 1e-9


@pytest.mark.parametrize("name", often(NETWORKS, OFTEN))
def test_a_branch_left_out_added_nothing(name: str) -> None:
    network = network_of(name)
    drops = droppable(network.architecture)
    straight = {"mobilenet_v1", "vgg16", "shufflenet_v2", "snet49"}
    assert bool(drops) == (name not in straight)
    for some in (drops[:1], drops[1::2], drops):
        small = apply(network, some)
        assert relative_error(answers(small), without_branches(network, some)) <= 1e-9


@pytest.mark.parametrize("method", list(IMPORTANCES))
@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v2",
        "own module",
        pytest.param("ghostnet", marks=pytest.mark.slow),
        pytest.param("shufflenet_v1_g3", marks=pytest.mark.slow),
    ],
)
def test_every_importance_names_every_channel_once(method: str, name: str) -> None:
    network = network_of(name)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    batches = [(pictures(8), torch.arange(8) % 5)]
    worth = channel_importance(network, batches, loss=nn.functional.cross_entropy, method=method)
    listed, numbers, _ = channels_of(network.architecture)
    seen: dict[int, float] = {}
    for layer in listed:
        if layer.op not in {"conv", "linear"}:
            continue
        assert worth[layer.name].shape == (layer.output_shape[0],)
        assert np.isfinite(worth[layer.name]).all()
        for number, value in zip(numbers[layer.name], worth[layer.name].tolist(), strict=True):
            assert seen.setdefault(number, value) == value, "tied channels are one"
    assert len({round(value, 12) for value in seen.values()}) > len(seen) // 4
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    group = width_groups(network.architecture)[1]
    (narrow, *_) = group.narrowed((0.5,))
    small = apply(network, [narrow], importance=worth)
    kept = kept_channels(network, small.architecture, importance=worth)[group.layers[0]]
    own = worth[group.layers[0]]
    gone = np.delete(own, kept)
    assert gone.max() <= own[kept].max()
    assert own[kept].sum() >= gone.sum()
