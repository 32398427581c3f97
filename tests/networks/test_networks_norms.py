"""Statistics carried through a cut: the same where nothing changed, right where it did."""

from __future__ import annotations

import pytest
import torch
from cases import often

from featherweight.adapting.changes import apply
from featherweight.adapting.groups import Change, Drop, Narrow, width_groups
from featherweight.networks.norms import with_carried_norms
from featherweight.networks.resolve import create_architecture
from featherweight.networks.slicing import norms_of, recalibrate_norms
from featherweight.nn.network import Network, build_network


def pictures(count: int, *, spread: float, seed: int = 1) -> torch.Tensor:
    """Draw pictures that vary by `spread` around the same one."""
    generator = torch.Generator().manual_seed(0)
    same = torch.randn(1, 3, 32, 32, generator=generator)
    generator.manual_seed(seed)
    return same + spread * torch.randn(count, 3, 32, 32, generator=generator)


@pytest.fixture
def parent() -> Network:
    """A network whose statistics are those of pictures of all kinds."""
    network = build_network(create_architecture("mobilenet_v2", resolution=32, classes=10), seed=0)
    recalibrate_norms(network, [pictures(64, spread=1.0)])
    return network.eval()


@pytest.mark.parametrize("training", often([False, True], [True]))
def test_without_a_cut_nothing_moves(parent: Network, training: bool) -> None:
    parent.train(training)
    same = with_carried_norms(parent, lambda network: apply(network, []), pictures(16, spread=0.1))
    assert not same.training
    assert parent.training is training
    for norm, expected in zip(norms_of(same), norms_of(parent), strict=True):
        for name in ("running_mean", "running_var"):
            assert torch.allclose(
                norm.get_buffer(name), expected.get_buffer(name), rtol=1e-3, atol=1e-5
            )


@pytest.mark.parametrize(
    "third", [Narrow(group="blocks.3.hidden", channels=48), Drop(add="blocks.3.add")]
)
def test_statistics_come_nearer_to_those_of_all_pictures(parent: Network, third: Change) -> None:
    groups = width_groups(parent.architecture)
    halved = [
        Narrow(group=g.name, channels=g.channels // 2)
        for g in groups
        if g.kind == "hidden" and g.name != "blocks.3.hidden"
    ]

    def cut(network: Network) -> Network:
        return apply(network, [*halved, third])

    truth = cut(parent)
    recalibrate_norms(truth, [pictures(64, spread=1.0)])
    carried = with_carried_norms(parent, cut, pictures(32, spread=0.1, seed=3))

    def distance(network: Network) -> float:
        logs = [
            (one.get_buffer("running_var") / other.get_buffer("running_var")).log().abs().mean()
            for one, other in zip(norms_of(network), norms_of(truth), strict=True)
        ]
        return float(torch.stack(logs).mean())

    assert distance(carried) < 0.7 * distance(cut(parent))


def test_a_channel_without_spread_stays_finite(parent: Network) -> None:
    with torch.no_grad():
        parent.get_parameter("blocks.2.expand.conv.weight")[0] = 0.0
        parent.get_buffer("blocks.2.expand.norm.running_var")[0] = 0.0
    same = with_carried_norms(parent, lambda network: apply(network, []), pictures(8, spread=0.1))
    assert all(bool(norm.get_buffer("running_var").isfinite().all()) for norm in norms_of(same))
