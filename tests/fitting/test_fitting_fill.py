"""Where the budget is not used up, a larger parent is shrunk; it ships only if it learns more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featherweight.architecture import Architecture
from featherweight.data.images import load_images
from featherweight.devices.device import DeviceInfo
from featherweight.errors import DivergedError, UnsupportedError
from featherweight.fitting import fill, shrinking, steps
from featherweight.fitting.families import Family
from featherweight.fitting.fill import fill_stage, parent_value
from featherweight.fitting.halving import Length, Ranked
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.shrinking import training_batches
from featherweight.fitting.time_plan import TimePlan
from featherweight.journal import Journal
from featherweight.measuring.measurement import Measurement
from featherweight.measuring.platform import parse_platform
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.networks.storage import load_network, save_network
from featherweight.nn.network import Network, build_network
from featherweight.profiling.profile import profile
from featherweight.reporting.run import Candidate
from featherweight.run_directory import RunDirectory, open_run
from featherweight.training.pixels import PixelStore

SIZES = (32.0, 40.0, 48.0, 56.0, 64.0, 80.0)
BUDGET_MS = 4.0
INFO = DeviceInfo(cpu="fake", cores=1, memory_bytes=None, os="fake", arch="fake", governor=None)


def draw(resolution: float) -> Architecture:
    return create_architecture(
        "mobilenet_v2", width=0.5, resolution=int(resolution), classes=10, form="standard"
    )


def milliseconds(architecture: Architecture) -> float:
    """Return what the clock of these tests shows: time grows with the multiply-adds."""
    return 0.1 + (profile(architecture).macs or 0) / 1.1e6


def winner(value: float, *, latency_ms: float | None = None) -> Entry:
    architecture = draw(value)
    family = Family("mobilenet_v2:width=0.5", "resolution", SIZES, draw, "auto", Preprocessing())
    candidate = Candidate(
        name=family.label(value), architecture_digest=architecture.digest, family=family.name,
        resolution=architecture.resolution, precision="fp32", runtime="onnxruntime",
        latency_ms=latency_ms or milliseconds(architecture), status="kept", stage="size",
        macs=profile(architecture).macs,
    )  # fmt: skip
    return Entry(candidate, family, value)


def test_the_parent_is_the_largest_within_reach() -> None:
    macs = {value: profile(draw(value)).macs or 0 for value in SIZES}
    budget_ms = 1.0
    found = parent_value(winner(40.0, latency_ms=0.8), budget_ms=budget_ms)
    assert found is not None
    assert found > 40.0
    assert macs[found] <= 1.6 * budget_ms / 0.8 * macs[40.0]
    assert all(macs[v] > 2.0 * macs[40.0] for v in SIZES if v > found)


def test_a_used_budget_is_not_filled() -> None:
    assert parent_value(winner(40.0, latency_ms=0.86), budget_ms=1.0) is None
    assert parent_value(winner(80.0, latency_ms=0.5), budget_ms=1.0) is None, "nothing larger"
    plain = winner(40.0, latency_ms=0.5)
    convnet = Family(
        "convnet", "resolution", SIZES,
        lambda r: create_architecture("convnet", resolution=int(r), classes=10), None,
        Preprocessing(),
    )  # fmt: skip
    assert parent_value(Entry(plain.candidate, convnet, 40.0), budget_ms=1.0) is None


def test_short_fits_and_small_pictures_have_no_time_for_it() -> None:
    def fill_s(time_s: float | None, *, small: bool) -> float:
        epochs = 1 if time_s is None else None
        settings = FitSettings(data="d", latency_ms=1, platform="p", time_s=time_s, epochs=epochs)
        return TimePlan.of(settings, spent_s=0.0, small=small).fill_s

    assert fill_s(600.0, small=False) == 0.0
    assert fill_s(1800.0, small=True) == 0.0
    assert fill_s(None, small=False) == 0.0
    assert fill_s(1200.0, small=False) == pytest.approx(180.0)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    with open_run(tmp_path / "run", parent=tmp_path, identity={"name": "x"}, command="x") as found:
        yield found


@pytest.fixture
def trainer(run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    original = Trainer.start

    def start(self: Trainer, entry: Entry, phase: str) -> Network:
        if entry.family.start is not None:
            return original(self, entry, phase)
        return build_network(entry.family.build(entry.value), seed=0).eval()

    def time_architectures(
        wanted: Any, _folder: Path, *, platform: Any, samples: int, seed: int
    ) -> list[Measurement]:
        return [measured(platform, milliseconds(one), samples=samples) for _, one, _ in wanted]

    monkeypatch.setattr(Trainer, "start", start)
    monkeypatch.setattr(shrinking, "_PICTURES", 64)
    monkeypatch.setattr(shrinking, "time_architectures", time_architectures)
    monkeypatch.setattr(steps, "time_architectures", time_architectures)
    monkeypatch.setattr("featherweight.fitting.stages.time_architectures", time_architectures)
    store = PixelStore(load_images("demo"), small=False, directory=tmp_path / "cache")
    return Trainer(store, parse_platform("local/onnxruntime"), run.path, seed=0, device="cpu")


def measured(platform: Any, milliseconds: float, *, samples: int) -> Measurement:
    return Measurement(
        network="x", platform=str(platform), device_info=INFO, runtime_version="0",
        artifact_sha256="0", samples_ms=(milliseconds,) * samples, warm_up_runs=1,
        started="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def fill_with(
    losses: dict[str, float],
    run: RunDirectory,
    trainer: Trainer,
    monkeypatch: pytest.MonkeyPatch,
    *,
    time_s: float = 1200,
    training_s: float = 72.0,
) -> tuple[Entry, list[Ranked], list[str]]:
    """Fill with trainings that only save where they start; losses by `as it was` or `shrunk`.

    The second shrunk network is `stepped`.
    """
    trained: list[str] = []

    def train_stage(entry: Entry, phase: str, *, length: Length, **_: Any) -> Ranked:
        assert (phase, length.time_s) == ("fill", pytest.approx(training_s))
        trained.append(entry.candidate.name)
        save_network(
            trainer.start(entry, phase), trainer.network_folder(entry, phase),
            preprocessing=entry.family.preprocessing, classes=trainer.store.data.classes,
        )  # fmt: skip
        kind = ("as it was", "shrunk", "stepped")[len(trained) - 1]
        if kind not in losses:
            raise DivergedError("loss is nan")
        loss = losses[kind]
        noise = np.random.default_rng(0).normal(0, 0.01, 200)
        return Ranked(entry, phase, loss + noise, 0.8, images_seen=1, seconds=1.0)

    monkeypatch.setattr(fill, "train_stage", train_stage)
    settings = FitSettings(
        data="demo", latency_ms=BUDGET_MS, platform="local/onnxruntime", time_s=time_s
    )
    plan = TimePlan.of(settings, spent_s=0.0, small=False)
    chosen, tried = fill_stage(
        run, Ledger(run), winner(40.0, latency_ms=0.7 * BUDGET_MS), trainer=trainer,
        settings=settings, plan=plan,
    )  # fmt: skip
    return chosen, tried, trained


def test_a_shrunk_parent_that_learns_more_is_trained(run, trainer, monkeypatch):
    losses = {"as it was": 0.5, "shrunk": 0.4}
    chosen, tried, _ = fill_with(losses, run, trainer, monkeypatch)
    assert [one.phase for one in tried] == ["fill", "fill"]
    assert chosen is tried[1].entry
    assert chosen.candidate.latency_ms is not None
    assert 0.9 * BUDGET_MS * 0.9 <= chosen.candidate.latency_ms <= BUDGET_MS
    assert chosen.candidate.resolution > 40
    start = load_network(chosen.family.start)
    assert start.network.architecture.digest == chosen.candidate.architecture_digest
    assert trainer.start(chosen, "train").architecture == start.network.architecture
    parent = chosen.family.build(chosen.value)
    assert (profile(parent).macs or 0) < (profile(draw(chosen.value)).macs or 0)
    noted = list(Journal(run.path / "candidates.jsonl").read())
    assert all("difference -0.1" in line["reason"] for line in noted[-2:])


@pytest.mark.parametrize("loss", [0.5, 0.6])
def test_no_clear_gain_keeps_the_winner(loss, run, trainer, monkeypatch):
    chosen, tried, _ = fill_with({"as it was": 0.5, "shrunk": loss}, run, trainer, monkeypatch)
    assert chosen.candidate.name == "mobilenet_v2:width=0.5,resolution=40"
    assert len(tried) == 2


def test_a_fit_goes_on_where_nothing_can_be_shrunk(run, trainer, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise UnsupportedError("channels that are moved cannot be sliced")

    monkeypatch.setattr(shrinking, "shrink_network", refuse)
    chosen, tried, _ = fill_with({"as it was": 0.5}, run, trainer, monkeypatch)
    assert chosen.candidate.name == "mobilenet_v2:width=0.5,resolution=40"
    assert len(tried) == 1


def test_a_shrunk_network_that_diverges_is_out(run, trainer, monkeypatch):
    chosen, tried, trained = fill_with({"as it was": 0.5}, run, trainer, monkeypatch)
    assert len(trained) == 2, "the shrunk one was tried"
    assert chosen.candidate.name == "mobilenet_v2:width=0.5,resolution=40"
    assert len(tried) == 1


def test_a_cut_after_the_search_does_not_search_again(run, trainer, monkeypatch):
    losses = {"as it was": 0.5, "shrunk": 0.4}
    first, _, _ = fill_with(losses, run, trainer, monkeypatch)

    def searched(*_: Any, **__: Any) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(fill, "shrink_parent", searched)
    second, _, _ = fill_with(losses, run, trainer, monkeypatch)
    assert second.candidate == first.candidate
    assert second.value == first.value


LONG = {"time_s": 7200, "training_s": 0.22 * 0.15 * 7200}


def test_long_fits_also_adapt_step_by_step(run, trainer, monkeypatch):
    monkeypatch.setattr(steps, "_PICTURES", 96)
    losses = {"as it was": 0.5, "shrunk": 0.45, "stepped": 0.4}
    chosen, tried, trained = fill_with(losses, run, trainer, monkeypatch, **LONG)
    assert len(trained) == len(tried) == 3
    assert chosen is tried[2].entry
    assert chosen.candidate.latency_ms is not None
    assert chosen.candidate.latency_ms <= BUDGET_MS
    assert chosen.candidate.architecture_digest != tried[1].entry.candidate.architecture_digest
    start = load_network(chosen.family.start).network
    assert start.architecture.digest == chosen.candidate.architecture_digest
    done = run.stage_done("fill-steps", inputs={"winner": winner(40.0).key})
    assert done is not None
    assert [step["median_ms"] for step in done["steps"]] == sorted(
        (step["median_ms"] for step in done["steps"]), reverse=True
    )

    def searched(*_: Any, **__: Any) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(fill, "adapt_parent", searched)
    second, _, _ = fill_with(losses, run, trainer, monkeypatch, **LONG)
    assert second.candidate == chosen.candidate


def test_steps_that_end_above_the_budget_are_not_trained(run, trainer, monkeypatch):
    monkeypatch.setattr(steps, "_PICTURES", 96)
    monkeypatch.setattr(fill, "_STEPS_SHARE", 0.0)
    losses = {"as it was": 0.5, "shrunk": 0.4}
    chosen, tried, _ = fill_with(losses, run, trainer, monkeypatch, **LONG)
    assert len(tried) == 2
    assert chosen is tried[1].entry


def test_a_short_fine_tuning_learns(run, trainer):
    entry = winner(32.0)
    batches = list(training_batches(trainer, entry, resolution=32, pictures=128))
    network = build_network(draw(32.0), seed=0).eval()
    steps.tune_briefly(network, batches)
    before = steps.mean_loss(network, batches)
    for _ in range(5):
        steps.tune_briefly(network, batches)
    assert steps.mean_loss(network, batches) < before
    drawn = build_network(draw(32.0), seed=0).state_dict()
    kept = [name for name in drawn if name.endswith(("running_mean", "running_var"))]
    assert all(torch.equal(drawn[name], network.state_dict()[name]) for name in kept)


@pytest.mark.parametrize("whole", [True, False])
def test_norms_keep_their_statistics_where_these_fit_the_weights(trainer, whole):
    entry = winner(32.0)
    entry = replace(entry, family=replace(entry.family, whole=whole))
    recipe = trainer.recipe(entry, time_s=None, epochs=2, distillation=False)
    assert recipe.keep_norm_statistics is whole
