"""Which files are measured at the end, and how often."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import MemoryLedger, fake_context, measured, on_val, small_family
from fakes import trained as trained_as

from featherweight.fitting.candidate import Candidate, Trained
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages import prove as proving
from featherweight.fitting.stages.prove import Prover
from featherweight.fitting.time_plan import SamplePlan
from featherweight.nn.network import build_network
from featherweight.tasks.task import TASKS

SAMPLES = SamplePlan(glance=10, confirm=10, prove=10)


class Verified(SimpleNamespace):
    """A verification that can be copied."""

    def model_copy(self, *, update: dict[str, Any]) -> Verified:
        """Return it with other fields."""
        return Verified(**{**vars(self), **update})


def at_64() -> Candidate:
    return Candidate(small_family("m", sizes=(32.0, 64.0, 96.0), source="weights"), 64.0, "int8")


def trained(size: float = 64.0) -> Trained:
    """Trained at 64 pixels, ships at `size`."""
    as_trained = trained_as(at_64(), accuracy=0.9)
    if size == 64.0:
        return as_trained
    shipped = measured(at_64().at(size))
    return Trained(
        shipped, as_trained.training, as_trained.phase, as_trained.losses, as_trained.val
    )


class FakeTrainer:
    """Loads the network, and exports files that are only sizes."""

    def __init__(self) -> None:
        self.network = build_network(at_64().architecture, seed=0)

    def load(self, *_: Any) -> Any:
        return SimpleNamespace(network=self.network)


def prover(
    monkeypatch: pytest.MonkeyPatch,
    uppers_ms: Callable[[int, int], float],
    *,
    largest: float,
    samples: SamplePlan = SAMPLES,
) -> tuple[Prover, Any]:
    """Return a prover, and what it measures and notes.

    `uppers_ms` says the upper end of a measurement by its number and the side of the pictures.
    """
    ledger = MemoryLedger()
    settings = FitSettings(data="d", latency_ms=1.0, platform="p")
    context = fake_context(settings=settings, ledger=ledger, trainer=FakeTrainer(), samples=samples)
    taken: list[tuple[int, bool]] = []

    def measure(self: Prover, artifact: Any, _: Candidate, *, is_short: bool = False) -> Any:
        side = artifact.input_shape[0]
        upper_ms = uppers_ms(len(taken), side)
        taken.append((side, is_short))
        found = SimpleNamespace(median_ms=upper_ms - 0.01, interval_ms=(upper_ms - 0.02, upper_ms))
        ledger.note_measurements([found], purpose="prove")  # type: ignore[list-item]
        return found

    def verify(self: Prover, found: Any, *, met: bool) -> Any:
        return SimpleNamespace(measurement=found.measurement, met=met, compared=self._compared)

    monkeypatch.setattr(
        Prover,
        "_export",
        lambda self, _, network: SimpleNamespace(input_shape=network.architecture.input_shape[1:]),
    )
    monkeypatch.setattr(Prover, "_measure", measure)
    monkeypatch.setattr(Prover, "_verify", verify)
    made = Prover(context, largest=largest, compared=300)
    return made, SimpleNamespace(taken=taken, ledger=ledger)


@pytest.mark.parametrize(
    ("uppers_ms", "sizes", "proven"),
    [
        ((0.9,), [64], True),
        ((1.2, 0.98), [64, 64], True),
        ((1.2, 1.1, 0.9), [64, 64, 32], True),
        ((1.3, 0.9), [64, 32], True),
        ((1.2, 1.1, 1.05), [64, 64, 32], False),
        ((3.0, 0.9), [96, 64], True),
        ((3.0, 2.0, 0.9), [96, 64, 32], True),
        ((1.2, 0.98), [96, 96], True),
    ],
)
def test_a_file_that_just_misses_is_measured_again_then_smaller_ones_the_trained_size_first(
    uppers_ms: tuple[float, ...], sizes: list[int], proven: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settled at 112 pixels, trained at 104, a fit missed once, passed 104 over and shipped 80."""
    one = trained(float(sizes[0]))
    made, seen = prover(monkeypatch, lambda number, _: uppers_ms[number], largest=float(sizes[0]))
    shipped, found, nearest_ms = made.prove(one, [])
    proof: Any = found
    assert shipped is one
    assert [side for side, _ in seen.taken] == sizes
    recorded = [measurement.interval_ms[1] for measurement in seen.ledger.measurements]
    assert recorded == list(uppers_ms), "each one is recorded"
    assert (proof.met, proof.compared) == (proven, 300)
    assert nearest_ms == min(uppers_ms)
    if proven:
        assert proof.measurement.interval_ms[1] <= 1.0


@pytest.mark.parametrize(
    ("repeats", "at_64_ms", "sizes"),
    [
        (False, 0.9, [(96, False), (64, True), (64, False)]),
        (False, 1.1, [(96, False), (64, True), (32, True), (32, False)]),
        (True, 0.9, [(96, False), (96, False), (64, False)]),
    ],
)
def test_a_short_fit_measures_a_miss_once_and_briefly(
    repeats: bool,
    at_64_ms: float,
    sizes: list[tuple[int, bool]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two looks at 120 pixels took 45 s beside busy loops, and 112, the size trained, shipped."""
    made, seen = prover(
        monkeypatch,
        lambda _, side: {96: 1.2, 64: at_64_ms, 32: 0.8}[side],
        largest=96.0,
        samples=SAMPLES.model_copy(update={"repeats": repeats}),
    )
    _, proof, _ = made.prove(trained(), [])
    assert seen.taken == sizes
    assert len(seen.ledger.measurements) == len(sizes), "short ones too"
    assert proof.measurement.interval_ms[1] <= 0.9


@pytest.mark.parametrize(("resolution", "evaluations"), [(64, 0), (32, 1)])
def test_val_is_answered_again_only_at_another_size(
    resolution: int, evaluations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[int] = []
    split = SimpleNamespace(pixels=np.zeros((2, 4, 4, 3), np.uint8), targets=np.array([0, 1]))
    monkeypatch.setattr(proving, "verify_artifact", lambda *_, **__: Verified(passed=True))
    monkeypatch.setattr(proving, "_difference_there", lambda *_, **__: None)
    monkeypatch.setattr(
        proving, "evaluate_on_val", lambda *_: (evaluated.append(1), on_val(0.5))[1]
    )
    artifact: Any = SimpleNamespace(
        input_shape=(resolution, resolution, 3), preprocessing=None, runtime="torch"
    )
    nothing: Any = None
    shipped = proving._Try(trained(), nothing, artifact, nothing)
    trainer = SimpleNamespace(
        store=SimpleNamespace(held_out=lambda *_: split), task=TASKS["classification"]
    )
    found = Prover(fake_context(trainer=trainer), largest=64.0, compared=300)._verify(
        shipped, met=True
    )
    assert len(evaluated) == evaluations
    assert found.val_accuracy == (0.5 if evaluations else 0.9)
    assert found.commonest == 0.5
