"""What a fit ends with: the trained network at the size that fits, if its file is better there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from featherweight.data.images import load_images
from featherweight.fitting import settle as settling
from featherweight.fitting.families import Family
from featherweight.fitting.halving import Ranked
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.settle import is_known_to_grow, settle_stage
from featherweight.journal import Journal
from featherweight.measuring.platform import parse_platform
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.networks.storage import load_network, save_network
from featherweight.nn.network import build_network
from featherweight.reporting.run import Candidate
from featherweight.run_directory import open_run
from featherweight.training.pixels import PixelStore

VALUES = tuple(float(value) for value in range(16, 72, 8))


def family(*, source: str | None = "auto", knob: str = "resolution") -> Family:
    return Family(
        "mobilenet_v2", cast(Any, knob), VALUES,
        lambda value: create_architecture(
            "mobilenet_v2", width=0.25, resolution=int(value), classes=10
        ),
        source, Preprocessing(),
    )  # fmt: skip


def entry(value: float, precision: str = "fp32", **of: Any) -> Entry:
    drawn = family(**of)
    candidate = Candidate(
        name=drawn.label(value), architecture_digest=drawn.build(value).digest,
        family="mobilenet_v2", resolution=int(value), precision=precision, runtime="onnxruntime",
        status="kept", stage="shop", latency_ms=0.1,
    )  # fmt: skip
    return Entry(candidate, drawn, value)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    with open_run(tmp_path / "run", parent=tmp_path, identity={"name": "x"}, command="x") as opened:
        yield opened


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    store = PixelStore(load_images("demo"), small=True, directory=tmp_path / "cache")
    return Trainer(
        store, parse_platform("local/onnxruntime"), tmp_path / "run", seed=0, device="cpu"
    )


def untrained(trainer: Trainer, one: Entry) -> Ranked:
    network = build_network(one.family.build(one.value), seed=0).eval()
    folder = trainer.network_folder(one, "train")
    save_network(network, folder, preprocessing=Preprocessing(), classes=tuple("0123456789"))
    losses = trainer.rank(one, network, phase="train")
    return Ranked(one, "train", losses, 0.1, images_seen=64, seconds=1.0)


def test_the_better_file_ships_and_nothing_is_done_twice(
    run: Any, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = untrained(trainer, entry(16))
    ledger = Ledger(run)
    best = settle_stage(run, ledger, trained, 32.0, trainer=trainer)
    assert best.val_loss < trained.val_loss - 0.3
    assert best.val_accuracy > 0.3
    assert (best.images_seen, best.told_as) == (64, (trained.entry.title, "train"))
    assert (best.phase, best.trained_value) == ("train-at-16", 16.0)
    lines = Journal(run.path / "candidates.jsonl").read()
    assert [(line["resolution"], line["status"]) for line in lines] == [
        (32, "finalist"),
    ]  # fmt: skip
    assert all("as trained has" in line["reason"] for line in lines)
    shipped = load_network(trainer.network_folder(best.entry, best.phase)).network
    assert shipped.architecture.resolution == best.entry.candidate.resolution
    monkeypatch.setattr(settling, "with_fitted_classifier", None)
    again = settle_stage(run, ledger, trained, 32.0, trainer=trainer)
    assert np.array_equal(again.losses, best.losses)
    assert (again.entry.key, again.phase, again.val_accuracy) == (
        best.entry.key, best.phase, best.val_accuracy,
    )  # fmt: skip


def test_what_is_no_better_stays_as_trained(run: Any, trainer: Trainer) -> None:
    trained = untrained(trainer, entry(16))
    trained = replace(trained, losses=np.zeros_like(trained.losses))
    assert settle_stage(run, Ledger(run), trained, 32.0, trainer=trainer) is trained


@pytest.mark.parametrize(
    ("source", "images_seen", "fitted"),
    [("auto", 1000, ()), (None, 10, ()), ("auto", 10, ("mobilenet_v2",))],
)
def test_at_the_size_of_its_training_a_network_keeps_its_classifier(
    source: str | None, images_seen: int, fitted: tuple[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "settle", None)
    nothing = cast(Any, None)
    data = SimpleNamespace(splits={"train": range(1000)})
    store = SimpleNamespace(data=data)
    trainer = cast(Trainer, SimpleNamespace(store=store, classifiers=fitted))
    trained = Ranked(entry(56, source=source), "train", np.zeros(2), 0.5, images_seen, 1.0)
    assert settle_stage(nothing, nothing, trained, 56.0, trainer=trainer) is trained


@pytest.mark.parametrize("source", ["auto", None])
def test_one_size_away_val_decides(source: str | None, run: Any, trainer: Trainer) -> None:
    """Eight pixels more can cost more than a shorter training would have."""
    trained = untrained(trainer, entry(16, source=source))
    trained = replace(trained, losses=np.zeros_like(trained.losses), images_seen=10**6)
    assert settle_stage(run, Ledger(run), trained, 24.0, trainer=trainer) is trained
    trained = replace(trained, losses=np.full_like(trained.losses, 9.0))
    assert settle_stage(run, Ledger(run), trained, 24.0, trainer=trainer).entry.value == 24.0


def test_one_that_has_not_seen_every_picture_gets_a_classifier(run: Any, trainer: Trainer) -> None:
    trained = untrained(trainer, entry(16))
    best = settle_stage(run, Ledger(run), trained, 16.0, trainer=trainer)
    assert best.val_loss < trained.val_loss
    assert best.entry.value == 16.0


def test_a_smaller_size_ships_with_its_classifier_whatever_the_loss(
    run: Any, trainer: Trainer
) -> None:
    """The size of the training does not fit any more."""
    trained = untrained(trainer, entry(32))
    trained = replace(trained, losses=np.zeros_like(trained.losses))
    best = settle_stage(run, Ledger(run), trained, 16.0, trainer=trainer)
    assert (best.entry.value, best.phase) == (16.0, "train-at-32")


@pytest.mark.parametrize(("value", "ships"), [(56.0, 56.0), (64.0, 64.0), (72.0, 72.0)])
def test_at_a_size_that_the_training_showed_no_classifier_is_fitted(
    value: float, ships: float, run: Any, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smaller one ships as it is; a larger one unless its file is surely worse on val."""
    monkeypatch.setattr(settling, "with_fitted_classifier", None)
    trained = replace(untrained(trainer, entry(64)), images_seen=10**6)
    worse = replace(trained, losses=np.full_like(trained.losses, 9.0))
    best = settle_stage(run, Ledger(run), worse, value, trainer=trainer)
    assert min(value, best.entry.value) == ships, "what is proven first"
    better = replace(trained, losses=np.zeros_like(trained.losses))
    assert settle_stage(run, Ledger(run), better, value, trainer=trainer) is better
    noise = np.random.default_rng(0).normal(size=len(best.losses))
    alike = replace(trained, losses=best.losses - 0.001 + noise - noise.mean())
    again = settle_stage(run, Ledger(run), alike, value, trainer=trainer)
    assert min(value, again.entry.value) == ships, "a difference that may be chance"


@pytest.mark.parametrize(
    ("value", "images_seen", "known"),
    [(72.0, 10**6, True), (64.0, 10**6, False), (56.0, 10**6, False), (80.0, 10**6, False),
     (72.0, 10, False)],
)  # fmt: skip
def test_a_short_fit_ships_a_larger_size_that_its_training_showed(
    value: float, images_seen: int, known: bool, trainer: Trainer
) -> None:
    trained = Ranked(entry(64), "train", np.zeros(4), 0.1, images_seen=images_seen, seconds=1.0)
    assert is_known_to_grow(trained, value, trainer=trainer) is known


def test_what_a_training_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    known = family()
    assert known.knows(0.86)
    assert known.knows(1.14)
    assert not known.knows(0.8)
    assert not known.knows(1.2)
    for fixed in (
        family(source=None), family(knob="width"), replace(known, values=(64.0,)),
    ):  # fmt: skip
        assert fixed.seen_scales == ()
        assert fixed.knows(1.0)
        assert not fixed.knows(1.01)


def test_a_short_fit_has_no_time_to_try_another_classifier_at_a_smaller_size(
    run: Any, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = replace(untrained(trainer, entry(32)), images_seen=10**6)
    fresh = replace(trained, images_seen=10)
    best = settle_stage(run, Ledger(run), fresh, 16.0, trainer=trainer, is_short=True)
    assert best.entry.value == 16.0, "it has not seen every picture"
    monkeypatch.setattr(settling, "settle", None)
    assert settle_stage(run, Ledger(run), trained, 16.0, trainer=trainer, is_short=True) is trained
    began = replace(trainer, classifiers={trained.entry.family.name: Path("fitted")})
    assert settle_stage(run, Ledger(run), fresh, 16.0, trainer=began, is_short=True) is fresh
