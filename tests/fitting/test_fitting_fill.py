"""Where the budget is not used up, a larger parent is shrunk; it ships only if it learns more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import fake_context, measured, measurement
from fakes import trained as trained_as

from featherweight.adapting import by_knapsack
from featherweight.adapting.proposals import judged, tune_briefly
from featherweight.architecture import Architecture
from featherweight.budget import Budget
from featherweight.data.images import load_images
from featherweight.errors import DivergedError, UnsupportedError
from featherweight.exporting.platforms import parse_platform
from featherweight.fitting.candidate import Candidate, Measured, Phase, Trained, Training
from featherweight.fitting.context import FitContext
from featherweight.fitting.family import Family
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.policy import DEFAULT_POLICY
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages import fill as filling
from featherweight.fitting.stages.fill import fill, parent_size, training_pictures
from featherweight.fitting.time_plan import TimePlan
from featherweight.fitting.train_candidate import Length
from featherweight.fitting.trainer import Trainer
from featherweight.journal import Journal
from featherweight.measuring.bench import Untrained
from featherweight.measuring.measurement import Measurement
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.networks.storage import load_network
from featherweight.nn.network import Network, build_network
from featherweight.profiling.profile import profile
from featherweight.run_directory import RunDirectory, open_run
from featherweight.training.pixels import PixelStore

SIZES = (32.0, 40.0, 48.0, 56.0, 64.0, 80.0)
BUDGET_MS = 4.0
POLICY = DEFAULT_POLICY.fill
TRAIN = Phase(kind="train")


def draw(resolution: float) -> Architecture:
    return create_architecture(
        "mobilenet_v2", width=0.5, resolution=int(resolution), classes=10, form="standard"
    )


FAMILY = Family(
    "mobilenet_v2:width=0.5",
    "resolution",
    SIZES,
    draw,
    "auto",
    Preprocessing(),
    weights_of="mobilenet_v2",
)


def milliseconds(architecture: Architecture) -> float:
    """Return what the clock of these tests shows: time grows with the multiply-adds."""
    return 0.1 + (profile(architecture).macs or 0) / 1.1e6


def time_networks(wanted: Sequence[Untrained], _folder: Path, samples: int) -> list[Measurement]:
    return [measurement(one.label, [milliseconds(one.architecture)] * samples) for one in wanted]


def winner(size: float, *, latency_ms: float | None = None) -> Measured:
    return measured(Candidate(FAMILY, size, "fp32"), latency_ms or milliseconds(draw(size)))


def test_the_parent_is_the_largest_within_reach() -> None:
    macs = {size: profile(draw(size)).macs or 0 for size in SIZES}
    budget = Budget(latency_ms=1.0)
    found = parent_size(winner(40.0, latency_ms=0.8), budget=budget, policy=POLICY)
    assert found is not None
    assert found > 40.0
    assert macs[found] <= 1.6 * 1.0 / 0.8 * macs[40.0]
    assert all(macs[size] > 2.0 * macs[40.0] for size in SIZES if size > found)


def test_a_used_budget_is_not_filled() -> None:
    def parent(one: Measured) -> float | None:
        return parent_size(one, budget=Budget(latency_ms=1.0), policy=POLICY)

    assert parent(winner(40.0, latency_ms=0.86)) is None
    assert parent(winner(80.0, latency_ms=0.5)) is None, "nothing larger"
    held_back = Candidate(FAMILY, 40.0, "fp32", max_size=40.0)
    assert parent(measured(held_back, 0.5)) is None, "no time for more"
    convnet = replace(
        FAMILY, build=lambda r: create_architecture("convnet", resolution=int(r), classes=10)
    )
    assert parent(measured(Candidate(convnet, 40.0, "fp32"), 0.5)) is None


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

    def start(self: Trainer, candidate: Candidate, phase: Phase) -> Network:
        if candidate.family.start is not None:
            return original(self, candidate, phase)
        return build_network(candidate.architecture, seed=0).eval()

    monkeypatch.setattr(Trainer, "start", start)
    store = PixelStore(load_images("demo"), small=False, directory=tmp_path / "cache")
    return Trainer(store, parse_platform("local/onnxruntime"), run.path, seed=0, device="cpu")


def context_of(
    run: RunDirectory, trainer: Trainer, *, time_s: float = 1200, **policy: Any
) -> FitContext:
    settings = FitSettings(
        data="demo", latency_ms=BUDGET_MS, platform="local/onnxruntime", time_s=time_s
    )
    few = replace(POLICY, **{"pictures": 64, "step_pictures": 96, **policy})
    return fake_context(
        run=run,
        settings=settings,
        trainer=trainer,
        measure=time_networks,
        ledger=Ledger(run, runtime="onnxruntime"),
        policy=replace(DEFAULT_POLICY, fill=few),
    )


def fill_with(
    losses: dict[str, float],
    context: FitContext,
    monkeypatch: pytest.MonkeyPatch,
    *,
    training_s: float = 72.0,
) -> tuple[Measured, list[Trained], list[str]]:
    """Fill with trainings that only save where they start; losses by `as it was` or `shrunk`.

    The second shrunk network is `stepped`.
    """
    ran: list[str] = []
    trainer = context.trainer

    def train_candidate(_: object, one: Candidate, phase: Phase, *, length: Length) -> Training:
        assert (str(phase), length.time_s) == ("fill", pytest.approx(training_s))
        ran.append(one.label)
        trainer.save(trainer.start(one, phase), one, folder=trainer.network_folder(one, phase))
        kind = ("as it was", "shrunk", "stepped")[len(ran) - 1]
        if kind not in losses:
            raise DivergedError("loss is nan")
        noise = np.random.default_rng(0).normal(0, 0.01, 200)
        return trained_as(one, losses[kind] + noise, phase=phase).training

    monkeypatch.setattr(filling, "train_candidate", train_candidate)
    chosen, tried = fill(context, winner(40.0, latency_ms=0.7 * BUDGET_MS))
    return chosen, tried, ran


def test_a_shrunk_parent_that_learns_more_is_trained(run, trainer, monkeypatch):
    losses = {"as it was": 0.5, "shrunk": 0.4}
    chosen, tried, _ = fill_with(losses, context_of(run, trainer), monkeypatch)
    assert [str(one.phase) for one in tried] == ["fill", "fill"]
    assert chosen is tried[1].measured
    one = chosen.candidate
    assert 0.9 * BUDGET_MS * 0.9 <= chosen.latency.median_ms <= BUDGET_MS
    assert one.resolution > 40
    assert one.family.weights_of == "mobilenet_v2"
    start = load_network(one.family.start)
    assert start.network.architecture.digest == one.architecture.digest
    assert trainer.start(one, TRAIN).architecture == start.network.architecture
    assert one.macs < (profile(draw(one.size)).macs or 0)
    assert "-shrunk-" in one.label
    assert f"resolution={one.size:g}" in one.label
    noted = list(Journal(run.path / "candidates.jsonl").read())
    assert all("difference -0.1" in line["reason"] for line in noted[-2:])


@pytest.mark.parametrize("loss", [0.5, 0.6])
def test_no_clear_gain_keeps_the_winner(loss, run, trainer, monkeypatch):
    losses = {"as it was": 0.5, "shrunk": loss}
    chosen, tried, _ = fill_with(losses, context_of(run, trainer), monkeypatch)
    assert chosen.candidate.label == "mobilenet_v2:width=0.5,resolution=40"
    assert len(tried) == 2


def test_a_fit_goes_on_where_nothing_can_be_shrunk(run, trainer, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise UnsupportedError("channels that are moved cannot be sliced")

    monkeypatch.setattr(by_knapsack, "apply", refuse)
    chosen, tried, _ = fill_with({"as it was": 0.5}, context_of(run, trainer), monkeypatch)
    assert chosen.candidate.label == "mobilenet_v2:width=0.5,resolution=40"
    assert len(tried) == 1


def test_a_shrunk_network_that_diverges_is_out(run, trainer, monkeypatch):
    chosen, tried, ran = fill_with({"as it was": 0.5}, context_of(run, trainer), monkeypatch)
    assert len(ran) == 2, "the shrunk one was tried"
    assert chosen.candidate.label == "mobilenet_v2:width=0.5,resolution=40"
    assert len(tried) == 1


def searched(*_: Any, **__: Any) -> None:
    raise AssertionError("searched again")


def test_a_cut_after_the_search_does_not_search_again(run, trainer, monkeypatch):
    losses, context = {"as it was": 0.5, "shrunk": 0.4}, context_of(run, trainer)
    first, _, _ = fill_with(losses, context, monkeypatch)
    monkeypatch.setattr(filling, "shrink_by_knapsack", searched)
    second, _, _ = fill_with(losses, context, monkeypatch)
    assert second.candidate.key == first.candidate.key
    assert second.latency == first.latency


LONG_S = 7200
LONG = {"training_s": 0.22 * 0.15 * LONG_S}


@pytest.mark.slow
def test_long_fits_also_adapt_step_by_step(run, trainer, monkeypatch):
    losses = {"as it was": 0.5, "shrunk": 0.45, "stepped": 0.4}
    context = context_of(run, trainer, time_s=LONG_S)
    chosen, tried, ran = fill_with(losses, context, monkeypatch, **LONG)
    assert len(ran) == len(tried) == 3
    assert chosen is tried[2].measured
    assert chosen.latency.median_ms <= BUDGET_MS
    assert chosen.candidate.key != tried[1].candidate.key
    start = load_network(chosen.candidate.family.start).network
    assert start.architecture.digest == chosen.candidate.architecture.digest
    done = run.stage_done("fill-steps", inputs={"winner": winner(40.0).candidate.key})
    assert done is not None
    times = [step["latency"]["median_ms"] for step in done["steps"]]
    assert times == sorted(times, reverse=True)
    monkeypatch.setattr(filling, "netadapt", searched)
    second, _, _ = fill_with(losses, context, monkeypatch, **LONG)
    assert second.candidate.key == chosen.candidate.key


def test_steps_that_end_above_the_budget_are_not_trained(run, trainer, monkeypatch):
    monkeypatch.setattr(filling, "FILL_STEPS_SHARE", 0.0)
    losses, context = {"as it was": 0.5, "shrunk": 0.4}, context_of(run, trainer, time_s=LONG_S)
    chosen, tried, _ = fill_with(losses, context, monkeypatch, **LONG)
    assert len(tried) == 2
    assert chosen is tried[1].measured


def test_a_short_fine_tuning_learns(run, trainer):
    pictures = training_pictures(trainer, winner(32.0).candidate, pictures=128)
    network = build_network(draw(32.0), seed=0).eval()
    tune_briefly(network, pictures)
    before = judged(network, pictures).losses.mean()
    for _ in range(5):
        tune_briefly(network, pictures)
    assert judged(network, pictures).losses.mean() < before
    drawn = build_network(draw(32.0), seed=0).state_dict()
    kept = [name for name in drawn if name.endswith(("running_mean", "running_var"))]
    assert all(torch.equal(drawn[name], network.state_dict()[name]) for name in kept)


def test_a_short_fine_tuning_bounds_its_steps(run, trainer):
    """Whatever the length of gradients: no step is longer than rate / (1 - momentum)."""
    pictures = training_pictures(trainer, winner(32.0).candidate, pictures=32)
    network = build_network(draw(32.0), seed=0).eval()
    with torch.no_grad():
        network.get_parameter("classifier.weight").mul_(1000.0)
    before = [one.detach().clone() for one in network.parameters()]
    tune_briefly(network, pictures)
    after = [one.detach() for one in network.parameters()]
    moved = [(new - old).norm() for new, old in zip(after, before, strict=True)]
    assert 0.0 < float(torch.stack(moved).norm()) < 2e-3 * (1.0 + 1e-3)


@pytest.mark.parametrize("unsliced", [True, False])
def test_norms_keep_their_statistics_where_these_fit_the_weights(trainer, unsliced):
    family = replace(FAMILY, weights_unsliced=unsliced)
    one = Candidate(family, 32.0, "fp32")
    recipe = trainer.recipe(one, time_s=None, epochs=2, distillation=False)
    assert recipe.keep_norm_statistics is unsliced
