"""The probe: leave-one-out ridge regression on the features of files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from featherweight.data.images import load_images
from featherweight.fitting import probe as probing
from featherweight.fitting.families import Family
from featherweight.fitting.probe import Probed, leave_one_out, probe, survivors
from featherweight.fitting.race import Entry, Trainer
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
    errors, accuracy = leave_one_out(features, labels, classes=3)
    expected = [brute_force(features, labels, penalty) for penalty in probing._PENALTIES]
    least = min(expected, key=lambda one: one.mean())
    assert np.allclose(errors, least, rtol=1e-6)
    assert 1 / 3 < accuracy <= 1.0


def test_features_without_information_are_near_chance() -> None:
    generator = np.random.default_rng(0)
    _, accuracy = leave_one_out(
        generator.normal(size=(600, 20)), generator.integers(0, 10, 600), classes=10
    )
    assert accuracy < 0.2


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
    return Probed(entry(name, macs), loss + noise - noise.mean(), 0.5)


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
    features, labels = probing._file_features(entry("a", 1), trainer=trainer)
    images = trainer.store.held_out("train", 16, Preprocessing())
    rows = np.linspace(0, len(images) - 1, 80).astype(np.int64)
    network = trainer.start(entry("a", 1), "probe")
    pixels = torch.from_numpy(np.array(images.pixels[rows])).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = network.forward_features((pixels / 255 - 0.5) / 0.5).numpy()
    assert features.shape == (80, 1280)
    assert np.abs(features - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.array_equal(labels, images.labels[rows])


class Journal:
    """A run directory that only remembers finished stages."""

    def __init__(self) -> None:
        self.done: dict[str, dict[str, Any]] = {}

    def stage_done(self, stage: str, *, inputs: object) -> dict[str, Any] | None:
        return self.done.get(stage)

    def finish_stage(self, stage: str, *, outputs: dict[str, Any], **_: object) -> None:
        assert stage not in self.done, "a finished stage ran again"
        self.done[stage] = outputs


def test_every_candidate_is_a_stage_that_is_not_repeated(trainer: Trainer) -> None:
    run = cast(Any, Journal())
    field = [entry("a", 2), entry("b", 1)]
    first = probe(field, trainer=trainer, run=run)
    again = probe(field, trainer=trainer, run=run)
    assert {one.entry.candidate.name for one in first} == {"a", "b"}
    assert [one.loss for one in first] == [one.loss for one in again]
    noted: list[Candidate] = []
    ledger = cast(Any, SimpleNamespace(note_candidates=noted.extend))
    plan = TimePlan(total_s=900, race_s=100, prove_s=60, asked_s=900)
    kept = probe_stage(field, trainer=trainer, run=run, ledger=ledger, plan=plan)
    assert kept == field  # the same network twice: equal, and both go on
    assert [one.stage for one in noted] == ["probe", "probe"]
    assert "leave-one-out accuracy" in noted[0].reason
    noted.clear()
    short = plan.model_copy(update={"asked_s": 599.0})
    decided = probe_stage(field, trainer=trainer, run=run, ledger=ledger, plan=short)
    assert decided == [first[0].entry], "no race in a short fit"
    assert [one.status for one in noted].count("kept") == 1
    noted.clear()
    shorter = plan.model_copy(update={"asked_s": 60.0})
    assert probe_stage(field, trainer=trainer, run=run, ledger=ledger, plan=shorter) == field
    assert noted == []


def test_without_weights_or_choice_nothing_is_probed(trainer: Trainer) -> None:
    fresh = [entry("a", 2, source=None), entry("b", 1, source=None)]
    assert probe(fresh, trainer=trainer, run=cast(Any, None)) == []
    assert probe([entry("a", 2)], trainer=trainer, run=cast(Any, None)) == []
