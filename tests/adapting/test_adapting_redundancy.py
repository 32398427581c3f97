"""What channels repeat: against least squares, and with networks whose channels are copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression

from featherweight.adapting.changes import Narrow, apply
from featherweight.adapting.groups import width_groups
from featherweight.adapting.importance import channel_importance
from featherweight.adapting.redundancy import (
    Covariance,
    effective_rank,
    most_similar,
    unexplained_shares,
    worth_in_order,
)
from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import Network, build_network


def mixed(*, channels: int = 6, own: int = 4, positions: int = 4000) -> NDArray[np.float32]:
    """Return maps of which the last ones are mixtures of the first, with a little of their own."""
    generator = np.random.default_rng(0)
    first = generator.standard_normal((positions, own))
    rest = first @ generator.standard_normal((own, channels - own))
    rest += 0.3 * generator.standard_normal(rest.shape)
    return np.concatenate([first, rest], 1).astype(np.float32)


def covariance_of(values: NDArray[np.float32]) -> NDArray[np.float64]:
    gathered = Covariance()
    for piece in np.array_split(values, 7):
        gathered.add(piece)
    return gathered.matrix


def test_gathered_piece_by_piece_it_is_the_covariance() -> None:
    values = mixed() + 3
    expected = np.cov(values.astype(np.float64).T, bias=True)
    np.testing.assert_allclose(covariance_of(values), expected, rtol=1e-4, atol=1e-4)


def test_what_the_others_cannot_give_is_what_least_squares_leaves() -> None:
    values = mixed()
    found = unexplained_shares(covariance_of(values))
    for channel in range(values.shape[1]):
        others = np.delete(values, channel, axis=1)
        score = LinearRegression().fit(others, values[:, channel]).score(others, values[:, channel])
        assert found[channel] == pytest.approx(1 - score, rel=0.01)


def test_copies_and_constants_are_explained() -> None:
    values = mixed(channels=4, own=4)
    values = np.concatenate([values, -2 * values[:, :1], np.full_like(values[:, :1], 7.3)], 1)
    found = unexplained_shares(covariance_of(values))
    assert found[5] == 0.0
    assert found[0] < 0.01
    assert found[4] < 0.01
    assert found[1:4].min() > 0.9
    first = most_similar(covariance_of(values), 3)[0]
    assert (first.first, first.second) == (0, 4)
    assert first.correlation == pytest.approx(-1.0, abs=1e-4)


def test_no_map_is_in_two_pairs() -> None:
    pairs = most_similar(covariance_of(mixed()), 3)
    assert len({channel for one in pairs for channel in one[:2]}) == 6


@pytest.mark.parametrize(("rank", "of"), [(1, 5), (5, 5)])
def test_the_effective_rank_counts_directions(rank: int, of: int) -> None:
    axes = np.linalg.qr(np.random.default_rng(1).standard_normal((of, of)))[0]
    covariance = axes @ np.diag([1.0] * rank + [0.0] * (of - rank)) @ axes.T
    assert effective_rank(covariance) == pytest.approx(rank, abs=1e-6)
    assert effective_rank(0 * covariance) == 0.0


def test_of_two_copies_one_is_worth_nothing_and_the_other_all() -> None:
    values = mixed(channels=3, own=3)
    values = np.concatenate([values, values[:, :1]], 1)
    worth = worth_in_order(covariance_of(values), np.ones(4), count=10**6)
    copies = sorted([worth[0], worth[3]])
    assert copies[0] < 0.01
    assert copies[1] > 0.9
    assert worth[1:3].min() > 0.9


def test_channels_go_in_the_order_of_what_the_rest_cannot_explain() -> None:
    values = mixed(channels=9, own=5)
    weights = np.linspace(1, 2, 9)
    worth = worth_in_order(covariance_of(values), weights, count=10**6)
    left, expected = list(range(9)), []
    while len(left) > 1:
        lost = []
        for channel in left:
            others = values[:, [one for one in left if one != channel]].astype(np.float64)
            target = values[:, channel].astype(np.float64)
            rest = target - LinearRegression().fit(others, target).predict(others)
            lost.append(weights[channel] * rest.var())
        expected.append(left.pop(int(np.argmin(lost))))
    assert np.argsort(worth)[:-1].tolist() == expected


def test_with_few_positions_the_variance_alone_counts() -> None:
    values = mixed(channels=8, own=8, positions=6) * np.arange(1, 9, dtype=np.float32)
    covariance = covariance_of(values)
    worth = worth_in_order(covariance, np.ones(8), count=1)
    by_variance = np.argsort(np.diag(covariance))
    assert np.corrcoef(np.argsort(worth), by_variance)[0, 1] > 0.5


def with_copies() -> Network:
    """Return a network whose first block has every hidden channel twice."""
    network = build_network(create_architecture("resnet", resolution=32, classes=4), seed=0).eval()
    state = network.state_dict()
    group = next(one for one in width_groups(network.architecture) if one.kind == "hidden")
    (name,) = group.layers
    half = group.channels // 2
    for key, tensor in state.items():
        if key.startswith(f"{name}.") and tensor.dim():
            tensor[half:] = tensor[:half]
    network.load_state_dict(state)
    return network


def test_a_network_without_its_copies_answers_the_same() -> None:
    network = with_copies()
    group = next(one for one in width_groups(network.architecture) if one.kind == "hidden")
    images = torch.randn(48, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batches = [(images, torch.zeros(48, dtype=torch.int64))]
    worth = channel_importance(
        network, batches, loss=torch.nn.functional.cross_entropy, method="redundancy"
    )
    thin = apply(
        network,
        [Narrow(group=group.name, channels=group.channels // 2)],
        importance=worth,
        repaired_by=images,
    )
    others = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(thin(others), network(others), rtol=0.02, atol=0.02)
