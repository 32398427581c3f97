"""The probe: leave-one-out ridge regression on the features of files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression, Ridge

from featherweight.data.images import load_images
from featherweight.fitting import leave_one_out as ranking
from featherweight.fitting import linear_start
from featherweight.fitting import probe as probing
from featherweight.fitting import race as racing
from featherweight.fitting.ending_time import EndingTime
from featherweight.fitting.families import Family
from featherweight.fitting.leave_one_out import leave_one_out
from featherweight.fitting.linear_start import Classifier, fit_classifier
from featherweight.fitting.moments import Moments
from featherweight.fitting.probe import FeatureReaders, Probed, most_promising, probe, survivors
from featherweight.fitting.race import Entry, Trainer, file_losses
from featherweight.fitting.stages import probe_stage, with_first_classifiers
from featherweight.fitting.time_plan import TimePlan
from featherweight.measuring.platform import parse_platform
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import Network, build_network
from featherweight.reporting.run import Candidate
from featherweight.training.pixels import PixelStore
from featherweight.training.start import save_classifier


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
    found = leave_one_out(features, labels, classes=3)
    expected = [brute_force(features, labels, penalty) for penalty in ranking._PENALTIES]
    least = min(expected, key=lambda one: one.mean())
    assert np.allclose(found.errors, least, rtol=1e-6)
    assert 1 / 3 < found.accuracy <= 1.0


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
    logits = answers(fit_classifier(*seen, classes=3), rest[0])
    assert (logits.argmax(axis=1) == rest[1]).mean() > 0.85
    assert file_losses(logits, rest[1]).mean() < 0.5 * np.log(3)


def test_it_is_the_logistic_regression_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    features, labels = drawn(generator, generator.normal(size=(4, 12)), 300, 1.5)
    own = answers(fit_classifier(features, labels, classes=4), features)
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
    assert leave_one_out(*seen, classes=10).accuracy < 0.2
    logits = answers(fit_classifier(*seen, classes=10), rest[0])
    assert file_losses(logits, rest[1]).mean() < np.log(10) + 0.2, "knows nothing, and says so"


def test_a_feature_that_is_nearly_always_0_weighs_little() -> None:
    """It tells the classes apart, and changes as soon as the network does."""
    generator = np.random.default_rng(0)
    features, labels = drawn(generator, np.eye(2), 200, 1.0)
    rare = np.where(np.arange(200) % 20 == 0, 1e-3 * (labels + 1.0), 0.0).astype(np.float32)
    found = fit_classifier(np.column_stack([features, rare]), labels, classes=2)
    moved = answers(found, np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.05]], np.float32))
    assert np.abs(moved[1] - moved[0]).max() < 1.0


def entry(name: str, macs: int, *, source: str | None = "auto") -> Entry:
    candidate = Candidate(
        name=name, architecture_digest=name * 8, family=name, resolution=16, precision="fp32",
        runtime="onnxruntime", macs=macs, status="kept", stage="shop",
    )  # fmt: skip
    family = Family(
        name, "resolution", (16.0,),
        lambda _: create_architecture("mobilenet_v2", width=0.25, resolution=16, classes=10),
        source, Preprocessing(),
    )  # fmt: skip
    return Entry(candidate, family, 16.0)


def probed(name: str, loss: float, *, macs: int = 10) -> Probed:
    noise = 0.1 * np.random.default_rng(len(name)).normal(size=500)
    return Probed(entry(name, macs), loss + noise - noise.mean(), 0.5, 0.01)


def test_what_cannot_be_told_from_the_best_goes_on_with_the_fastest() -> None:
    field = [
        probed("best", 0.3), probed("equal", 0.301), probed("worse", 0.4),
        probed("fastest", 0.5, macs=1),
    ]  # fmt: skip
    kept = [one.candidate.name for one in survivors(field, seed=0)]
    assert kept == ["best", "equal", "fastest"]


@pytest.mark.parametrize(
    ("accuracy", "loss", "chosen"),
    [(0.84, 0.3, "slow"), (0.815, 0.3, "fast"), (0.84, 0.4001, "fast"), (0.7, 0.3, "fast")],
)
def test_a_slower_network_must_be_surely_better_and_worth_its_time(
    accuracy: float, loss: float, chosen: str
) -> None:
    """Twice the multiply-adds are worth two points; a squared error alone trains nothing."""
    field = [probed("slow", loss, macs=20), probed("fast", 0.4, macs=10)]
    field[0], field[1] = replace(field[0], accuracy=accuracy), replace(field[1], accuracy=0.8)
    field.sort(key=lambda one: one.loss)
    assert most_promising(field, seed=0).candidate.name == chosen


def test_of_networks_that_train_alike_the_better_one_is_chosen() -> None:
    """0.520 leave-one-out, and 5 % more multiply-adds than one of 0.493, was left behind."""
    field = [probed("better", 0.398, macs=105), probed("fastest", 0.4, macs=100)]
    assert most_promising(field, seed=0).candidate.name == "better"


def test_without_time_to_probe_the_largest_pictures_decide() -> None:
    field = [entry("small", 1), entry("large", 3), entry("cheap", 2)]
    sizes = (64, 72, 72)
    field = [
        replace(one, candidate=one.candidate.model_copy(update={"resolution": size}))
        for one, size in zip(field, sizes, strict=True)
    ]
    noted: list[Candidate] = []
    nothing, trainer = cast(Any, None), cast(Any, object())
    kept, same = probe_stage(
        field, plan=TimePlan(total_s=120, race_s=0, asked_s=120), trainer=trainer, run=nothing,
        ledger=cast(Any, SimpleNamespace(note_candidates=noted.extend)), readers=nothing,
        moments=nothing, ending=nothing,
    )  # fmt: skip
    assert [one.candidate.name for one in kept] == ["cheap"]
    assert same is trainer
    assert [(one.name, one.status) for one in noted] == [
        ("small", "rejected"), ("large", "rejected"),
    ]  # fmt: skip
    assert "cheap fp32 sees the largest pictures" in noted[0].reason


def test_at_most_four_go_on() -> None:
    field = [probed(f"n{'x' * index}", 0.3) for index in range(6)] + [probed("fast", 0.9, macs=1)]
    kept = [one.candidate.name for one in survivors(field, seed=0)]
    assert kept == ["n", "nx", "nxx", "fast"]


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    def start(_trainer: Trainer, given: Entry, _phase: str) -> Network:
        return build_network(given.family.build(given.value), seed=0).eval()

    monkeypatch.setattr(Trainer, "start", start)
    monkeypatch.setattr(probing, "_MOST_PICTURES", 80)
    store = PixelStore(load_images("demo"), small=True, directory=tmp_path / "cache")
    return Trainer(store, parse_platform("local/onnxruntime"), tmp_path, seed=0, device="cpu")


def test_features_are_those_of_the_network(trainer: Trainer) -> None:
    features, labels, picture_s = FeatureReaders(trainer).read(entry("a", 1), count=80)
    images = trainer.store.held_out("train", 16, Preprocessing())
    rows = np.linspace(0, len(images) - 1, 80).astype(np.int64)
    network = trainer.start(entry("a", 1), "probe")
    pixels = torch.from_numpy(np.array(images.pixels[rows])).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = network.forward_features((pixels / 255 - 0.5) / 0.5).numpy()
    assert features.shape == (80, 1280)
    assert np.abs(features - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.array_equal(labels, images.labels[rows])
    assert 0.0 < picture_s < 1.0


class Journal:
    """A run directory that only remembers finished stages."""

    def __init__(self) -> None:
        self.done: dict[str, dict[str, Any]] = {}
        self.elapsed_s = 0.0

    def stage_done(self, stage: str, *, inputs: object) -> dict[str, Any] | None:
        return self.done.get(stage)

    def finish_stage(self, stage: str, *, outputs: dict[str, Any], **_: object) -> None:
        assert stage not in self.done, "a finished stage ran again"
        self.done[stage] = outputs


def test_every_candidate_is_a_stage_that_is_not_repeated(trainer: Trainer) -> None:
    run = cast(Any, Journal())
    field = [entry("a", 2), entry("b", 1)]
    moments = Moments(lambda: 0.01)
    readers = FeatureReaders(trainer)
    first = probe(field, within_s=None, readers=readers, run=run, moments=moments)
    again = probe(field, within_s=None, readers=readers, run=run, moments=moments)
    more: dict[str, Any] = {
        "trainer": trainer, "run": run, "readers": readers, "moments": moments,
    }  # fmt: skip
    assert {one.entry.candidate.name for one in first} == {"a", "b"}
    assert [one.loss for one in first] == [one.loss for one in again]
    assert len(moments.seconds) == 4
    noted: list[Candidate] = []
    more["ledger"] = cast(Any, SimpleNamespace(note_candidates=noted.extend))
    more["ending"] = SimpleNamespace(picture_s=0.0)
    plan = TimePlan(total_s=900, race_s=100, asked_s=900)
    kept, knowing = probe_stage(field, plan=plan, **more)
    assert kept == field  # the same network twice: equal, and both go on
    assert [one.stage for one in noted] == ["probe", "probe"]
    assert "leave-one-out accuracy" in noted[0].reason
    assert more["ending"].picture_s > 0.0
    assert set(knowing.classifiers) == {"a", "b"}, "those of a race"
    noted.clear()
    short = plan.model_copy(update={"asked_s": 240.0})
    decided, knowing = probe_stage(field, plan=short, **more)
    assert [one.candidate.name for one in decided] == ["b"], "no race in a short fit"
    assert knowing.classifiers == {}, "not before the size of the training is known"
    assert [one.status for one in noted].count("kept") == 1


def test_the_first_classifier_suits_the_size_of_the_training(trainer: Trainer) -> None:
    """Eight pixels more, and a classifier of before knows half as much."""
    sized = replace(
        entry("a", 1).family, values=(16.0, 24.0),
        build=lambda value: create_architecture(
            "mobilenet_v2", width=0.25, resolution=int(value), classes=10
        ),
    )  # fmt: skip
    small = replace(entry("a", 1), family=sized)
    run, plan = cast(Any, Journal()), TimePlan(total_s=900, race_s=100, asked_s=900)
    ending = EndingTime(train=60, val=10, test=10, proof_s=1.0)
    more: dict[str, Any] = {
        "run": run, "readers": FeatureReaders(trainer), "plan": plan, "ending": ending,
    }  # fmt: skip
    files = []
    for one in (small, small.at(24.0), small):
        knowing = with_first_classifiers([one], trainer=trainer, **more)
        files.append(knowing.classifiers["a"])
    assert files[0] == files[2] != files[1]
    assert len(run.done) == 2, "a finished stage is not repeated"
    assert ending.export_s > 0.0
    assert ending.picture_s != 0.001, "as seen at the size of the training"
    features, labels, _ = FeatureReaders(trainer).read(small.at(24.0), count=4000)
    kept = load_file(files[1])
    answers = features @ kept["weight"].numpy().T + kept["bias"].numpy()
    assert (answers.argmax(axis=1) == labels).mean() > 0.8
    fresh = [entry("c", 1, source=None)]
    assert with_first_classifiers(fresh, trainer=trainer, **more).classifiers == {}


def test_little_time_means_few_pictures_the_same_for_all(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "_FEWEST_PICTURES", 50)
    run = Journal()
    field = [entry("a", 2), entry("b", 1)]
    probed = probe(
        field, readers=FeatureReaders(trainer), run=cast(Any, run), within_s=1e-6,
        moments=Moments(lambda: 0.01),
    )  # fmt: skip
    assert [len(one.losses) for one in probed] == [50, 50]
    assert run.done["probe-pictures"]["pictures"] == 50


def test_a_training_starts_with_the_solution(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the real start
    save_classifier(tmp_path / "one.safetensors", torch.ones(10, 1280), torch.arange(10.0))
    monkeypatch.setattr(racing, "load_pretrained", lambda drawn, **_: build_network(drawn, seed=0))
    one = entry("a", 1)
    before = trainer.start(one, "train").get_parameter("classifier.bias")
    knowing = replace(trainer, classifiers={"a": tmp_path / "one.safetensors"})
    after = knowing.start(one, "train")
    assert not torch.equal(before, torch.arange(10.0))
    assert torch.equal(after.get_parameter("classifier.bias"), torch.arange(10.0))
    assert torch.equal(after.get_parameter("classifier.weight"), torch.ones(10, 1280))
    recipe = knowing.recipe(one, time_s=60.0, epochs=None, distillation=False)
    assert recipe.least_peak_steps is not None, "a few steps keep what the classifier knows"


def test_without_weights_nothing_is_probed(trainer: Trainer) -> None:
    fresh = [entry("a", 2, source=None), entry("b", 1, source=None)]
    more: dict[str, Any] = {"run": cast(Any, None), "within_s": None, "moments": Moments()}
    assert probe(fresh, readers=FeatureReaders(trainer), **more) == []
    assert probe([], readers=FeatureReaders(trainer), **more) == []
