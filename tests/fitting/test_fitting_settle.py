"""What a fit ends with: the trained network at the size that fits, if its file is better there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import fake_context, measured, on_val, small_family
from fakes import trained as trained_as

from featherweight.data.images import load_images
from featherweight.exporting.platforms import parse_platform
from featherweight.fitting.candidate import Candidate, Phase, Trained, Training
from featherweight.fitting.context import FitContext
from featherweight.fitting.family import Family
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.ranking import losses_on_val
from featherweight.fitting.stages import refit_head as refitting
from featherweight.fitting.stages.refit_head import is_known_to_grow
from featherweight.fitting.stages.refit_head import refit_head as refit_at
from featherweight.fitting.trainer import Trainer
from featherweight.journal import Journal
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.storage import load_network, save_network
from featherweight.nn.network import build_network
from featherweight.run_directory import open_run
from featherweight.training.pixels import PixelStore

SIZES = tuple(float(size) for size in range(16, 72, 8))
TRAIN = Phase(kind="train")


def family(*, source: str | None = "auto", axis: str = "resolution") -> Family:
    return small_family(axis=axis, sizes=SIZES, source=source)


def candidate(size: float, **of: Any) -> Candidate:
    return Candidate(family(**of), size, "fp32")


@pytest.fixture
def context(tmp_path: Path, few_digits: Path) -> Any:
    store = PixelStore(load_images(few_digits), small=True, directory=tmp_path / "cache")
    trainer = Trainer(
        store, parse_platform("local/onnxruntime"), tmp_path / "run", seed=0, device="cpu"
    )
    with open_run(tmp_path / "run", parent=tmp_path, identity={"name": "x"}, command="x") as run:
        yield fake_context(run=run, trainer=trainer, ledger=Ledger(run, runtime="onnxruntime"))


def untrained(context: FitContext, one: Candidate) -> Trained:
    trainer = context.trainer
    network = build_network(one.architecture, seed=0).eval()
    folder = trainer.network_folder(one, TRAIN)
    save_network(network, folder, preprocessing=Preprocessing(), classes=tuple("0123456789"))
    losses = losses_on_val(trainer, one, network, phase=TRAIN)
    training = Training(one, TRAIN, losses, on_val(0.1), images_seen=64, seconds=1.0)
    return Trained.of(measured(one), training)


def refit(context: FitContext, trained: Trained, size: float, **more: Any) -> Trained:
    return refit_at(context, trained, measured(trained.candidate.at(size)), **more)


def having_seen(trained: Trained, images: int) -> Trained:
    return replace(trained, training=replace(trained.training, images_seen=images))


def test_the_better_file_ships_and_nothing_is_done_twice(
    context: FitContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = untrained(context, candidate(16))
    best = refit(context, trained, 32.0)
    assert best.val_loss < trained.val_loss - 0.3
    assert best.val.value > 0.3
    assert best.training is trained.training
    assert str(best.phase) == "train-at-16"
    lines = Journal(context.run.path / "candidates.jsonl").read()
    assert [(line["resolution"], line["status"]) for line in lines] == [(32, "finalist")]
    assert all("as trained has" in line["reason"] for line in lines)
    folder = context.trainer.network_folder(best.candidate, best.phase)
    assert load_network(folder).network.architecture.resolution == best.candidate.resolution == 32
    monkeypatch.setattr(refitting, "with_fitted_classifier", None)
    again = refit(context, trained, 32.0)
    assert np.array_equal(again.losses, best.losses)
    assert (again.candidate, again.phase, again.val) == (best.candidate, best.phase, best.val)


def test_what_is_no_better_stays_as_trained(context: FitContext) -> None:
    trained = untrained(context, candidate(16))
    trained = replace(trained, losses=np.zeros_like(trained.losses))
    assert refit(context, trained, 32.0) is trained


@pytest.mark.parametrize(
    ("source", "images_seen", "fitted"),
    [("auto", 1000, ()), (None, 10, ()), ("auto", 10, ("mobilenet_v2",))],
)
def test_at_the_size_of_its_training_a_network_keeps_its_classifier(
    source: str | None, images_seen: int, fitted: tuple[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refitting, "rank_at_size", None)
    trainer = SimpleNamespace(count=lambda _: 1000, classifiers=fitted)
    trained = trained_as(candidate(56, source=source), images_seen=images_seen)
    assert refit(fake_context(trainer=trainer), trained, 56.0) is trained


@pytest.mark.parametrize("source", ["auto", None])
def test_one_size_away_val_decides(source: str | None, context: FitContext) -> None:
    """Eight pixels more can cost more than a shorter training would have."""
    trained = untrained(context, candidate(16, source=source))
    trained = having_seen(replace(trained, losses=np.zeros_like(trained.losses)), 10**6)
    assert refit(context, trained, 24.0) is trained
    trained = replace(trained, losses=np.full_like(trained.losses, 9.0))
    assert refit(context, trained, 24.0).candidate.size == 24.0


def test_one_that_has_not_seen_every_picture_gets_a_classifier(context: FitContext) -> None:
    trained = untrained(context, candidate(16))
    best = refit(context, trained, 16.0)
    assert best.val_loss < trained.val_loss
    assert best.candidate.size == 16.0


def test_a_smaller_size_ships_with_its_classifier_whatever_the_loss(context: FitContext) -> None:
    """The size of the training does not fit any more."""
    trained = untrained(context, candidate(32))
    trained = replace(trained, losses=np.zeros_like(trained.losses))
    best = refit(context, trained, 16.0)
    assert (best.candidate.size, str(best.phase)) == (16.0, "train-at-32")


@pytest.mark.parametrize(("size", "ships"), [(56.0, 56.0), (64.0, 64.0), (72.0, 72.0)])
def test_at_a_size_that_the_training_showed_no_classifier_is_fitted(
    size: float, ships: float, context: FitContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smaller one ships as it is; a larger one unless its file is surely worse on val."""
    monkeypatch.setattr(refitting, "with_fitted_classifier", None)
    trained = having_seen(untrained(context, candidate(64)), 10**6)
    worse = replace(trained, losses=np.full_like(trained.losses, 9.0))
    best = refit(context, worse, size)
    assert min(size, best.candidate.size) == ships, "what is proven first"
    better = replace(trained, losses=np.zeros_like(trained.losses))
    assert refit(context, better, size) is better
    noise = np.random.default_rng(0).normal(size=len(best.losses))
    alike = replace(trained, losses=best.losses - 0.001 + noise - noise.mean())
    again = refit(context, alike, size)
    assert min(size, again.candidate.size) == ships, "a difference that may be chance"


@pytest.mark.parametrize(
    ("size", "images_seen", "known"),
    [
        (72.0, 10**6, True),
        (64.0, 10**6, False),
        (56.0, 10**6, False),
        (80.0, 10**6, False),
        (72.0, 10, False),
    ],
)
def test_a_short_fit_ships_a_larger_size_that_its_training_showed(
    size: float, images_seen: int, known: bool
) -> None:
    context = fake_context(trainer=SimpleNamespace(count=lambda _: 1000))
    trained = trained_as(candidate(64), images_seen=images_seen)
    assert is_known_to_grow(context, trained, size) is known


def test_what_a_training_shows() -> None:
    known = family()
    assert known.knows(0.86)
    assert known.knows(1.14)
    assert not known.knows(0.8)
    assert not known.knows(1.2)
    for fixed in (family(source=None), family(axis="width"), replace(known, sizes=(64.0,))):
        assert fixed.seen_scales == ()
        assert fixed.knows(1.0)
        assert not fixed.knows(1.01)


def test_a_short_fit_has_no_time_to_try_another_classifier_at_a_smaller_size(
    context: FitContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = having_seen(untrained(context, candidate(32)), 10**6)
    fresh = having_seen(trained, 10)
    best = refit(context, fresh, 16.0, is_short=True)
    assert best.candidate.size == 16.0, "it has not seen every picture"
    monkeypatch.setattr(refitting, "rank_at_size", None)
    assert refit(context, trained, 16.0, is_short=True) is trained
    fitted = {trained.candidate.family.name: Path("fitted")}
    began = replace(context, trainer=replace(context.trainer, classifiers=fitted))
    assert refit(began, fresh, 16.0, is_short=True) is fresh
