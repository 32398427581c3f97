"""The probe: leave-one-out ridge regression on the features of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from fakes import MemoryLedger, MemoryRun, fake_context, measured, small_family
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression, Ridge

from featherweight.data.images import load_images
from featherweight.exporting.platforms import parse_platform
from featherweight.fitting import leave_one_out as ranking
from featherweight.fitting import linear_start
from featherweight.fitting.candidate import Candidate, Measured, Phase
from featherweight.fitting.context import FitContext
from featherweight.fitting.ending_time import EndingTime
from featherweight.fitting.feature_readers import FeatureReaders
from featherweight.fitting.leave_one_out import leave_one_out
from featherweight.fitting.linear_start import Classifier, fit_classifier
from featherweight.fitting.policy import DEFAULT_POLICY
from featherweight.fitting.stages.probe import (
    Probed,
    most_promising,
    probe,
    probe_all,
    survivors,
    with_first_classifiers,
)
from featherweight.fitting.time_plan import TimePlan
from featherweight.fitting.trainer import Trainer
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import Network, build_network
from featherweight.tasks.classification import cross_entropy
from featherweight.training import job as training
from featherweight.training.objective import OBJECTIVES
from featherweight.training.pixels import PixelStore
from featherweight.training.start import save_classifier

POLICY = DEFAULT_POLICY.probe
TRAIN = Phase(kind="train")


def brute_force(features: np.ndarray, labels: np.ndarray, penalty: float) -> np.ndarray:
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    targets = np.eye(labels.max() + 1)[labels]
    alpha = penalty * np.clip(np.linalg.eigvalsh(scaled @ scaled.T), 0.0, None).mean()
    errors = []
    for left_out in range(len(labels)):
        rest = np.arange(len(labels)) != left_out
        model = Ridge(alpha=alpha).fit(scaled[rest], targets[rest])
        errors.append(
            ((model.predict(scaled[left_out : left_out + 1]) - targets[left_out]) ** 2).sum()
        )
    return np.array(errors)


@pytest.mark.parametrize("width", [4, 60])
def test_the_closed_form_is_leaving_out_one_by_one(width: int) -> None:
    generator = np.random.default_rng(width)
    labels = generator.integers(0, 3, 40)
    labels[:3] = [0, 1, 2]
    centres = generator.normal(size=(3, width))
    features = centres[labels] + generator.normal(size=(40, width))
    found = leave_one_out(features, np.eye(3)[labels])
    expected = [brute_force(features, labels, penalty) for penalty in ranking._PENALTIES]
    least = min(expected, key=lambda one: one.mean())
    assert np.allclose(found.errors, least, rtol=1e-6)
    assert 1 / 3 < (found.answers.argmax(axis=1) == labels).mean() <= 1.0


LEARNS = OBJECTIVES["classification"]


def drawn(
    generator: np.random.Generator, centres: np.ndarray, count: int, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    labels = generator.integers(0, len(centres), count)
    features = centres[labels] + noise * generator.normal(size=(count, centres.shape[1]))
    return features.astype(np.float32), labels


def answers(classifier: Classifier, features: np.ndarray) -> np.ndarray:
    return features @ classifier.weight.numpy().T + classifier.bias.numpy()


def test_the_solution_is_a_classifier_of_the_features_as_they_are() -> None:
    """Not of standardised ones: it is put into a network."""
    generator = np.random.default_rng(0)
    seen, rest = (
        (5.0 + 0.1 * features, labels)
        for features, labels in (drawn(generator, np.eye(3), count, 0.4) for count in (200, 100))
    )
    logits = answers(fit_classifier(*seen, outputs=3, objective=LEARNS), rest[0])
    assert (logits.argmax(axis=1) == rest[1]).mean() > 0.85
    assert cross_entropy(logits, rest[1]).mean() < 0.5 * np.log(3)


def test_it_is_the_logistic_regression_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    features, labels = drawn(generator, generator.normal(size=(4, 12)), 300, 1.5)
    own = answers(fit_classifier(features, labels, outputs=4, objective=LEARNS), features)
    spread = features.std(axis=0)
    spread = spread + linear_start._LEAST_SPREAD * spread.mean()
    scaled = (features - features.mean(axis=0)) / spread
    strength = 2 * linear_start._PENALTY * len(scaled)
    theirs = LogisticRegression(C=1 / strength, max_iter=1000, tol=1e-8).fit(scaled, labels)
    probabilities = np.exp(own) / np.exp(own).sum(axis=1, keepdims=True)
    assert np.abs(probabilities - theirs.predict_proba(scaled)).max() < 0.01


def test_features_without_information_are_near_chance() -> None:
    generator = np.random.default_rng(0)
    seen, rest = (drawn(generator, np.zeros((10, 20)), count, 1.0) for count in (600, 300))
    found = leave_one_out(seen[0], np.eye(10)[seen[1]])
    assert (found.answers.argmax(axis=1) == seen[1]).mean() < 0.2
    logits = answers(fit_classifier(*seen, outputs=10, objective=LEARNS), rest[0])
    assert cross_entropy(logits, rest[1]).mean() < np.log(10) + 0.2, "knows nothing, and says so"


def test_a_feature_that_is_nearly_always_0_weighs_little() -> None:
    """It tells the classes apart, and changes as soon as the network does."""
    generator = np.random.default_rng(0)
    features, labels = drawn(generator, np.eye(2), 200, 1.0)
    rare = np.where(np.arange(200) % 20 == 0, 1e-3 * (labels + 1.0), 0.0).astype(np.float32)
    found = fit_classifier(np.column_stack([features, rare]), labels, outputs=2, objective=LEARNS)
    moved = answers(found, np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.05]], np.float32))
    assert np.abs(moved[1] - moved[0]).max() < 1.0


def candidate(name: str, *, source: str | None = "auto") -> Candidate:
    return Candidate(small_family(name, source=source), 16.0, "fp32")


def probed(name: str, loss: float, *, accuracy: float = 0.5) -> Probed:
    noise = 0.1 * np.random.default_rng(len(name)).normal(size=500)
    return Probed(measured(candidate(name)), loss + noise - noise.mean(), accuracy, 0.01)


@pytest.fixture
def macs(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Multiply-adds of a network, by its name; 10 of those that are not named."""
    named: dict[str, int] = {}
    monkeypatch.setattr(
        "featherweight.fitting.candidate._count_macs",
        lambda family, _: named.get(family.name, 10),
    )
    return named


def names(kept: Sequence[Measured]) -> list[str]:
    return [one.candidate.family.name for one in kept]


def test_what_cannot_be_told_from_the_best_goes_on_with_the_fastest(macs: dict[str, int]) -> None:
    macs["fastest"] = 1
    field = [
        probed("best", 0.3),
        probed("equal", 0.301),
        probed("worse", 0.4),
        probed("fastest", 0.5),
    ]
    kept = survivors(field, policy=POLICY, seed=0)
    assert names(kept) == ["best", "equal", "fastest"]


@pytest.mark.parametrize(
    ("accuracy", "loss", "chosen"),
    [(0.84, 0.3, "slow"), (0.815, 0.3, "fast"), (0.84, 0.4001, "fast"), (0.7, 0.3, "fast")],
)
def test_a_slower_network_must_be_surely_better_and_worth_its_time(
    accuracy: float, loss: float, chosen: str, macs: dict[str, int]
) -> None:
    """Twice the multiply-adds are worth two points; a squared error alone trains nothing."""
    macs["slow"] = 20
    field = [probed("slow", loss, accuracy=accuracy), probed("fast", 0.4, accuracy=0.8)]
    field.sort(key=lambda one: one.loss)
    assert names([most_promising(field, policy=POLICY, seed=0)]) == [chosen]


def test_of_networks_that_train_alike_the_better_one_is_chosen(macs: dict[str, int]) -> None:
    """0.520 leave-one-out, and 5 % more multiply-adds than one of 0.493, was left behind."""
    macs.update(better=105, fastest=100)
    field = [probed("better", 0.398), probed("fastest", 0.4)]
    assert names([most_promising(field, policy=POLICY, seed=0)]) == ["better"]


def test_without_time_to_probe_the_largest_pictures_decide(macs: dict[str, int]) -> None:
    macs.update(small=1, large=3, cheap=2)
    field = [
        measured(Candidate(small_family(name, sizes=(16.0, 64.0, 72.0)), size, "fp32"))
        for name, size in (("small", 64.0), ("large", 72.0), ("cheap", 72.0))
    ]
    ledger = MemoryLedger()
    context = fake_context(plan=TimePlan(total_s=120, race_s=0, asked_s=120), ledger=ledger)
    kept, same = probe(context, field)
    assert names(kept) == ["cheap"]
    assert same is context
    assert [row[:2] for row in ledger.rows] == [
        ("small:resolution=64", "rejected"),
        ("large:resolution=72", "rejected"),
    ]
    assert "cheap:resolution=72 fp32 sees the largest pictures" in ledger.rows[0][2]


def test_at_most_four_go_on(macs: dict[str, int]) -> None:
    macs["fast"] = 1
    field = [probed(f"n{'x' * index}", 0.3) for index in range(6)] + [probed("fast", 0.9)]
    assert names(survivors(field, policy=POLICY, seed=0)) == ["n", "nx", "nxx", "fast"]


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    def start(_trainer: Trainer, given: Candidate, _phase: Phase) -> Network:
        return build_network(given.architecture, seed=0).eval()

    monkeypatch.setattr(Trainer, "start", start)
    store = PixelStore(load_images("demo"), small=True, directory=tmp_path / "cache")
    return Trainer(store, parse_platform("local/onnxruntime"), tmp_path, seed=0, device="cpu")


def probing(trainer: Trainer, plan: TimePlan, **policy: int) -> FitContext:
    """Return a context that probes with few pictures."""
    few = replace(POLICY, **{"most_pictures": 80, **policy})
    return fake_context(
        run=MemoryRun(trainer.folder),
        trainer=trainer,
        readers=FeatureReaders(trainer),
        plan=plan,
        policy=replace(DEFAULT_POLICY, probe=few),
        ending=EndingTime(train=60, val=10, test=10, proof_s=1.0),
    )


LONG = TimePlan(total_s=900, race_s=100, asked_s=900)


def test_features_are_those_of_the_network(trainer: Trainer) -> None:
    one = candidate("a")
    features, labels, picture_s = FeatureReaders(trainer).read(one, count=80)
    images = trainer.store.held_out("train", 16, Preprocessing())
    rows = np.linspace(0, len(images) - 1, 80).astype(np.int64)
    network = trainer.start(one, TRAIN)
    pixels = torch.from_numpy(np.array(images.pixels[rows])).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = network.forward_features((pixels / 255 - 0.5) / 0.5).numpy()
    assert features.shape == (80, 1280)
    assert np.abs(features - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.array_equal(labels, images.targets[rows])
    assert 0.0 < picture_s < 1.0


def test_every_candidate_is_a_stage_that_is_not_repeated(trainer: Trainer) -> None:
    field = [measured(Candidate(small_family(name), 16.0, "fp32")) for name in ("a", "b")]
    context = probing(trainer, LONG)
    first = probe_all(context, field)
    count = len(cast(MemoryRun, context.run).done)
    again = probe_all(context, field)
    assert len(cast(MemoryRun, context.run).done) == count
    assert set(names([one.measured for one in first])) == {"a", "b"}
    assert [one.loss for one in first] == [one.loss for one in again]
    assert len(context.moments.seconds) == 4
    kept, knowing = probe(context, field)
    assert kept == field  # the same network twice: equal, and both go on
    rows = cast(MemoryLedger, context.ledger).rows
    assert [row[3] for row in rows] == ["probe", "probe"]
    assert "leave-one-out accuracy" in rows[0][2]
    assert context.ending.picture_s > 0.0
    assert set(knowing.trainer.classifiers) == {"a", "b"}, "those of a race"


def test_in_a_short_fit_one_goes_on(trainer: Trainer, macs: dict[str, int]) -> None:
    macs.update(a=20, b=10)
    field = [measured(candidate(name)) for name in ("a", "b")]
    context = probing(trainer, LONG.model_copy(update={"asked_s": 240.0}))
    kept, knowing = probe(context, field)
    assert names(kept) == ["b"], "no race in a short fit"
    assert knowing.trainer.classifiers == {}, "not before the size of the training is known"
    rows = cast(MemoryLedger, context.ledger).rows
    assert [row[1] for row in rows].count("kept") == 1


@pytest.mark.slow
def test_the_first_classifier_suits_the_size_of_the_training(trainer: Trainer) -> None:
    """Eight pixels more, and a classifier of before knows half as much."""
    small = Candidate(small_family("a", sizes=(16.0, 24.0)), 16.0, "fp32")
    context = probing(trainer, LONG)
    files = []
    for one in (small, small.at(24.0), small):
        files.append(with_first_classifiers(context, [one]).trainer.classifiers["a"])
    assert files[0] == files[2] != files[1]
    assert len(cast(MemoryRun, context.run).done) == 2, "a finished stage is not repeated"
    assert context.ending.export_s > 0.0
    assert context.ending.picture_s != 0.001, "as seen at the size of the training"
    features, labels, _ = FeatureReaders(trainer).read(small.at(24.0), count=4000)
    kept = load_file(files[1])
    answered = features @ kept["weight"].numpy().T + kept["bias"].numpy()
    assert (answered.argmax(axis=1) == labels).mean() > 0.8
    fresh = [candidate("c", source=None)]
    assert with_first_classifiers(context, fresh).trainer.classifiers == {}


def test_little_time_means_few_pictures_the_same_for_all(trainer: Trainer) -> None:
    plan = LONG.model_copy(update={"probe_s": 1e-6})
    context = probing(trainer, plan, fewest_pictures=50)
    found = probe_all(context, [measured(candidate(name)) for name in ("a", "b")])
    assert [len(one.losses) for one in found] == [50, 50]
    assert cast(MemoryRun, context.run).done["probe-pictures"]["pictures"] == 50


def test_a_training_starts_with_the_solution(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the real start
    save_classifier(tmp_path / "one.safetensors", torch.ones(10, 1280), torch.arange(10.0))
    monkeypatch.setattr(
        training, "load_pretrained", lambda drawn, **_: build_network(drawn, seed=0)
    )
    one = candidate("a")
    before = trainer.start(one, TRAIN).get_parameter("classifier.bias")
    knowing = replace(trainer, classifiers={"a": tmp_path / "one.safetensors"})
    after = knowing.start(one, TRAIN)
    assert not torch.equal(before, torch.arange(10.0))
    assert torch.equal(after.get_parameter("classifier.bias"), torch.arange(10.0))
    assert torch.equal(after.get_parameter("classifier.weight"), torch.ones(10, 1280))
    recipe = knowing.recipe(one, time_s=60.0, epochs=None, distillation=False)
    assert recipe.least_peak_steps is not None, "a few steps keep what the classifier knows"
    trained = replace(one, family=replace(one.family, start=tmp_path))
    recipes = [
        trainer.recipe(which, time_s=60.0, epochs=None, distillation=True)
        for which in (one, trained)
    ]
    assert [recipe.least_peak_steps is None for recipe in recipes] == [True, False]


def test_without_weights_nothing_is_probed(trainer: Trainer) -> None:
    fresh = [measured(candidate(name, source=None)) for name in ("a", "b")]
    context = probing(trainer, LONG)
    assert probe_all(context, fresh) == []
    assert probe_all(context, []) == []
