"""Weights that networks share, a super-network of them, and what its scores are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import Network, build_network
from featherweight.searching import super_network
from featherweight.searching.agreement import agreement, kendall_tau
from featherweight.searching.shared_weights import SharedWeights, inherit_weights, weight_keys
from featherweight.searching.space import SPACES, Point, Space, SpaceSettings, random_point
from featherweight.searching.staged_space import StageChoices, StagedSpace, StagedSpaceRecord
from featherweight.searching.super_network import SuperNetwork, train_super_network
from featherweight.training.evaluate import TrainingImages
from featherweight.training.muon import Muon, takes_muon

PREPROCESSING = Preprocessing(mean=(0.5,), std=(0.5,))


def tiny() -> StagedSpace:
    record = StagedSpaceRecord(
        name="tiny",
        stem_channels=(8,),
        stem_stride=1,
        stages=(
            StageChoices(op=("conv", "mbconv3"), out_channels=(8, 16), repeats=(1, 2), stride=2),
            StageChoices(op=("conv", "separable"), out_channels=(16, 24), repeats=(0, 1)),
        ),
        head_channels=(0, 32),
    )
    return StagedSpace(record, SpaceSettings((1, 8, 8), 10))


@pytest.mark.parametrize("name", list(SPACES))
def test_every_block_of_a_space_has_a_place(name: str) -> None:
    space = SPACES[name](SpaceSettings((3, 32, 32), 10))
    generator = np.random.default_rng(0)
    for _ in range(20):
        point = random_point(space, generator)
        places, blocks = space.places(point), space.decode(point).blocks
        assert len(places) == len(blocks)
        assert len(set(places)) == len(places)


def test_networks_share_the_first_channels_at_one_place() -> None:
    space = tiny()
    # op, width and repeats of the first stage; op, width, repeats of the second; head
    assert [choice.name for choice in space.choices] == [
        *("1.repeats", "1.op", "1.out_channels"),
        *("2.repeats", "2.op", "2.out_channels", "head"),
    ]
    narrow, wide, other = (1, 0, 0, 0, 0, 0, 0), (1, 0, 1, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0, 0)
    shared = SharedWeights(space, 0)
    large, small = shared.leaves(wide), shared.leaves(narrow)
    name = "blocks.2.main.conv.weight"
    assert small[name].shape == (8, 8, 3, 3)
    assert torch.equal(large[name][:8, :8], small[name])
    keys = weight_keys(space, narrow)
    assert keys == weight_keys(space, wide)
    common = set(keys.values()) & set(weight_keys(space, other).values())
    assert {key.partition(":")[0] for key in common} == {"stem", "1"}, "stem and classifier"


def test_a_step_moves_what_a_network_has_and_nothing_else() -> None:
    shared = SharedWeights(tiny(), 0)
    narrow, wide = (1, 0, 0, 0, 0, 0, 0), (1, 0, 1, 0, 0, 0, 0)
    name = "blocks.2.main.conv.weight"
    before = shared.leaves(wide)[name].detach()
    for _ in range(2):
        leaves = shared.leaves(narrow)
        loss = shared.answer(narrow, leaves, torch.randn(4, 1, 8, 8)).square().sum()
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        shared.step(narrow, dict(zip(leaves, gradients, strict=True)), rate=0.1, decay=0.0)
    after = shared.leaves(wide)[name].detach()
    assert not torch.equal(after[:8, :8], before[:8, :8])
    assert torch.equal(after[8:], before[8:])
    assert torch.equal(after[:, 8:], before[:, 8:])


def test_a_step_is_that_of_the_optimizer_of_trainings() -> None:
    """But for the scale of dense convolutions, which a norm takes out."""
    shared, point = SharedWeights(tiny(), 0), (1, 1, 1, 1, 1, 1, 1)
    alone = {
        name: one.detach().clone().requires_grad_() for name, one in shared.leaves(point).items()
    }
    network = build_network(tiny().decode(point), seed=0)
    dense = [f"{name}.weight" for name, one in network.named_modules() if takes_muon(one)]
    groups = [{"params": [alone[name]], "lr": 0.2 * 0.1, "orthogonal": True} for name in dense] + [
        {"params": [one]} for name, one in alone.items() if name not in dense
    ]
    optimizer = Muon(groups, lr=0.1)
    for batch in torch.randn(2, 4, 1, 8, 8):
        loss = shared.answer(point, alone, batch).square().sum()
        gradients = dict(zip(alone, torch.autograd.grad(loss, list(alone.values())), strict=True))
        before = shared.leaves(point)
        shared.step(point, gradients, rate=0.1, decay=0.0)
        moved = {name: (one - before[name]).detach() for name, one in shared.leaves(point).items()}
        for name, leaf in alone.items():
            leaf.grad = gradients[name]
        optimizer.step()
        for name, change in moved.items():
            if name in dense:
                ratio = float(change.norm() / before[name].detach().norm())
                singular = min(len(change), change[0].numel()) / len(change)
                assert ratio == pytest.approx(0.02 * singular**0.5, rel=0.4)
            else:
                torch.testing.assert_close(shared.leaves(point)[name], alone[name])


def test_an_heir_has_what_both_have() -> None:
    space = tiny()
    wide, narrow = (1, 0, 1, 1, 0, 1, 0), (1, 0, 0, 1, 0, 0, 1)
    trained = build_network(space.decode(wide), seed=3)
    state = trained.state_dict()
    same = inherit_weights(space, wide, donor=wide, state=state, seed=0)
    assert all(torch.equal(one, state[name]) for name, one in same.state_dict().items())
    heir = inherit_weights(space, narrow, donor=wide, state=state, seed=0).state_dict()
    assert torch.equal(heir["blocks.1.main.conv.weight"], state["blocks.1.main.conv.weight"][:8])
    fresh = build_network(space.decode(narrow), seed=0).state_dict()
    head = f"blocks.{len(space.decode(narrow).blocks) - 1}.main.conv.weight"
    assert torch.equal(heir[head], fresh[head]), "the donor has no head"


@pytest.fixture(scope="module")
def digits() -> TrainingImages:
    scans = load_digits()
    pixels = np.rint(scans.images * 15.9375).astype(np.uint8)[..., None]
    return TrainingImages(pixels, scans.target.astype(np.int64))


def part(images: TrainingImages, rows: slice) -> TrainingImages:
    return TrainingImages(images.pixels[rows], images.targets[rows])


def train(space: Space, digits: TrainingImages, folder: Path) -> SuperNetwork:
    return train_super_network(
        space,
        train=part(digits, slice(0, 1200)),
        plain=part(digits, slice(0, 256)),
        val=part(digits, slice(1200, None)),
        preprocessing=PREPROCESSING,
        draw=lambda generator: random_point(space, generator),
        time_s=None,
        epochs=16,
        seed=0,
        directory=folder,
    )


class _Killed(BaseException):
    pass


@pytest.mark.slow
def test_networks_of_a_super_network_know_the_digits(
    digits: TrainingImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut and continued it is the same; networks that never had a step answer too."""
    space = tiny()
    whole = train(space, digits, tmp_path / "whole")
    points: list[Point] = [(1, 0, 1, 1, 0, 1, 1), (0, 1, 0, 0, 0, 0, 0)]
    scores = [whole.score(point) for point in points]
    assert min(scores) > 0.3, "of ten digits, after a fifth of a second a network"
    assert [whole.score(point) for point in points] == scores

    written, plain = [0], super_network.write_checkpoint

    def cut(*given: object, **named: object) -> None:
        plain(*given, **named)  # type: ignore[arg-type]
        written[0] += 1
        if written[0] == 4:
            raise _Killed

    monkeypatch.setattr(super_network, "write_checkpoint", cut)
    with pytest.raises(_Killed):
        train(space, digits, tmp_path / "cut")
    again = train(space, digits, tmp_path / "cut")
    assert [again.score(point) for point in points] == scores
    assert {key: one.tolist() for key, one in again.shared.weights.items()} == {
        key: one.tolist() for key, one in whole.shared.weights.items()
    }


def test_a_network_is_asked_with_norms_that_have_seen_pictures(
    digits: TrainingImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train(tiny(), digits, tmp_path)
    point = (1, 0, 1, 1, 0, 1, 1)
    asked: list[Network] = []
    plain = super_network.evaluate_placed

    def evaluate(network: Network, *given: Any, **named: Any) -> Any:
        asked.append(network)
        return plain(network, *given, **named)

    batches: list[torch.Tensor] = []
    recalibrate = super_network.recalibrate_norms

    def calibrate(network: Network, given: list[torch.Tensor]) -> None:
        batches.extend(given)
        recalibrate(network, given)

    monkeypatch.setattr(super_network, "evaluate_placed", evaluate)
    monkeypatch.setattr(super_network, "recalibrate_norms", calibrate)
    trained.score(point)
    assert len(batches) > 1
    assert sum(map(len, batches)) == len(trained.norms)
    # Pictures come class by class: a batch that is a stretch of them would be of one class.
    for first, batch in enumerate(batches):
        torch.testing.assert_close(batch[1], trained.norms[first + len(batches)])
    with torch.no_grad():
        seen = asked[0].get_submodule("blocks.0.main.conv")(trained.norms)
    norm = asked[0].get_submodule("blocks.0.main.norm")
    mean = norm.get_buffer("running_mean")
    torch.testing.assert_close(mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
    fresh = trained.shared.network(point).get_submodule("blocks.0.main.norm")
    assert float(fresh.get_buffer("running_mean").abs().max()) == 0.0


def test_tau() -> None:
    assert kendall_tau([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1.0)
    assert kendall_tau([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1.0)
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)  # 5 pairs agree, 1 not
    assert kendall_tau([1, 1, 1], [1, 2, 3]) == 0.0


def test_a_score_becomes_an_accuracy_and_must_beat_multiply_adds() -> None:
    found = agreement([0.1, 0.2, 0.3], [3.0, 1.0, 2.0], [0.5, 0.6, 0.7])
    assert found.is_worth_it
    assert found.accuracy(0.25) == pytest.approx(0.65)
    assert found.accuracy(9.0) == 1.0
    level = agreement([0.3, 0.3, 0.3], [3.0, 2.0, 1.0], [0.5, 0.6, 0.7])
    assert not level.is_worth_it, "better than falling multiply-adds is not enough"
    assert level.accuracy(0.1) == pytest.approx(0.6)
    falling = agreement([0.3, 0.2, 0.25], [3.0, 2.0, 1.0], [0.5, 0.6, 0.7])
    assert falling.tau > falling.tau_of_macs
    assert not falling.is_worth_it
    assert falling.accuracy(0.1) == falling.accuracy(0.3)
