"""The probe: leave-one-out ridge regression on the features of files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from featherweight.data.images import load_images
from featherweight.fitting import linear_start
from featherweight.fitting import probe as probing
from featherweight.fitting import race as racing
from featherweight.fitting.families import Family
from featherweight.fitting.linear_start import Ridge as LinearStart
from featherweight.fitting.linear_start import solve_ridge
from featherweight.fitting.moments import Moments
from featherweight.fitting.probe import Probed, probe, survivors
from featherweight.fitting.race import Entry, Trainer, file_losses
from featherweight.fitting.stages import probe_stage
from featherweight.fitting.time_plan import TimePlan
from featherweight.measuring.platform import parse_platform
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import Network, build_network
from featherweight.reporting.run import Candidate
from featherweight.training.pixels import PixelStore


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
    found = solve_ridge((features, labels), (features, labels), classes=3)
    expected = [brute_force(features, labels, penalty) for penalty in linear_start._PENALTIES]
    least = min(expected, key=lambda one: one.mean())
    assert np.allclose(found.errors, least, rtol=1e-6)
    assert 1 / 3 < found.accuracy <= 1.0


def test_the_solution_is_a_classifier_of_the_features_as_they_are() -> None:
    """Not of scaled ones: it is put into a network. Its logits are as sure as they may be."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 300)
    features = 5.0 + 0.1 * (np.eye(3)[labels] + 0.4 * generator.normal(size=(300, 3)))
    seen, rest = (features[:200], labels[:200]), (features[200:], labels[200:])
    found = solve_ridge(seen, rest, classes=3)
    features, labels = rest
    logits = features @ found.weight.T + found.bias
    assert (logits.argmax(axis=1) == labels).mean() > 0.85
    loss = file_losses(logits, labels).mean()
    assert loss < 0.5 * np.log(3)
    assert all(file_losses(k * logits, labels).mean() > 0.99 * loss for k in (0.25, 4.0))


def test_features_without_information_are_near_chance() -> None:
    generator = np.random.default_rng(0)
    seen = generator.normal(size=(600, 20)), generator.integers(0, 10, 600)
    rest = generator.normal(size=(300, 20)), generator.integers(0, 10, 300)
    found = solve_ridge(seen, rest, classes=10)
    assert found.accuracy < 0.2
    logits = generator.normal(size=(600, 20)) @ found.weight.T + found.bias
    assert np.abs(logits - logits.mean()).max() < 3.0, "knows nothing, and says so"


def test_pictures_taken_in_a_row_do_not_make_a_classifier_too_sure() -> None:
    """Each picture has a twin: leaving one out says nothing about others, val does."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(5, 60))

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = generator.integers(0, 5, count)
        return centres[labels] + 4.0 * generator.normal(size=(count, 60)), labels

    once, val, unseen = drawn(60), drawn(300), drawn(600)
    twins = np.concatenate([once[0], once[0] + 1e-3]), np.concatenate([once[1], once[1]])
    found = solve_ridge(twins, val, classes=5)
    fooled = solve_ridge(twins, twins, classes=5)
    assert found.accuracy > 0.95, "leaving one out is fooled"
    honest, sure = (
        file_losses(unseen[0] @ one.weight.T + one.bias, unseen[1]).mean()
        for one in (found, fooled)
    )
    assert honest < np.log(5) < sure - 0.5


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
    return Probed(entry(name, macs), loss + noise - noise.mean(), 0.5, 0.01, Path(name))


def test_what_cannot_be_told_from_the_best_goes_on_with_the_fastest() -> None:
    field = [
        probed("best", 0.3), probed("equal", 0.301), probed("worse", 0.4),
        probed("fastest", 0.5, macs=1),
    ]  # fmt: skip
    kept = [one.candidate.name for one in survivors(field, seed=0)]
    assert kept == ["best", "equal", "fastest"]


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
    (features, labels), val, picture_s = probing._file_features(
        entry("a", 1), trainer=trainer, count=80
    )
    assert val[0].shape == (80, 1280)
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
    more: dict[str, Any] = {"trainer": trainer, "run": run, "moments": moments}
    first = probe(field, within_s=None, **more)
    again = probe(field, within_s=None, **more)
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
    assert knowing.classifiers == {}, "a long training learns its own classifier"
    noted.clear()
    short = plan.model_copy(update={"asked_s": 240.0})
    decided, knowing = probe_stage(field, plan=short, **more)
    assert set(knowing.classifiers) == {"a", "b"}
    assert decided == [first[0].entry], "no race in a short fit"
    assert [one.status for one in noted].count("kept") == 1


def test_little_time_means_few_pictures_the_same_for_all(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "_FEWEST_PICTURES", 50)
    run = Journal()
    field = [entry("a", 2), entry("b", 1)]
    probed = probe(
        field, trainer=trainer, run=cast(Any, run), within_s=1e-6, moments=Moments(lambda: 0.01)
    )
    assert [len(one.losses) for one in probed] == [50, 50]
    assert run.done["probe-pictures"]["pictures"] == 50


def test_a_training_starts_with_the_solution(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the real start
    found = LinearStart(np.ones((10, 1280), np.float32), np.arange(10, dtype=np.float32),
                        np.zeros(1), 0.5)  # fmt: skip
    linear_start.keep_classifier(tmp_path / "one.safetensors", found)
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
    assert probe(fresh, trainer=trainer, **more) == []
    assert probe([], trainer=trainer, **more) == []
