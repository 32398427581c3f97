"""Which files are measured at the end, and how often."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from featherweight.fitting import prove as proving
from featherweight.fitting.families import Family
from featherweight.fitting.halving import Ranked
from featherweight.fitting.race import Entry, Trainer
from featherweight.fitting.time_plan import SamplePlan
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import build_network
from featherweight.reporting.run import Candidate

SAMPLES = SamplePlan(glance=10, confirm=10, prove=10)


class Record(SimpleNamespace):
    """A verification that can be copied."""

    def model_copy(self, *, update: dict[str, Any]) -> Record:
        """Return it with other fields."""
        return Record(**{**vars(self), **update})


@pytest.fixture
def trained() -> Ranked:
    family = Family(
        "m", "resolution", (32.0, 64.0, 96.0),
        lambda value: create_architecture(
            "mobilenet_v2", width=0.25, resolution=int(value), classes=10
        ),
        "weights", Preprocessing(),
    )  # fmt: skip
    candidate = Candidate(
        name="m:resolution=64", architecture_digest="d", family="m", resolution=64,
        precision="int8", runtime="onnxruntime", status="kept", stage="shop",
    )  # fmt: skip
    entry = Entry(candidate, family, 64.0)
    return Ranked(entry, "train", np.zeros(3), 0.9, images_seen=10, seconds=1.0)


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
    uppers_ms: tuple[float, ...],
    sizes: list[int],
    proven: bool,
    trained: Ranked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Settled at 112 pixels, trained at 104, a fit missed once, passed 104 over and shipped 80."""
    measured: list[int] = []
    journal: list[Any] = []

    def export(_: Entry, network: Any, **__: Any) -> Any:
        return SimpleNamespace(input_shape=network.architecture.input_shape[1:])

    def measure(artifact: Any, _: Entry, **__: Any) -> Any:
        upper_ms = uppers_ms[len(measured)]
        measured.append(artifact.input_shape[0])
        return SimpleNamespace(median_ms=upper_ms - 0.01, interval_ms=(upper_ms - 0.02, upper_ms))

    def verify(found: Any, *, met: bool, compared: int | None, **_: Any) -> Any:
        return SimpleNamespace(measurement=found.measurement, met=met, compared=compared)

    monkeypatch.setattr(proving, "_export", export)
    monkeypatch.setattr(proving, "_measure", measure)
    monkeypatch.setattr(proving, "_verify", verify)
    if sizes[0] == 96:  # settled there
        trained = replace(trained, entry=trained.entry.at(96.0), trained_value=64.0)
    network = build_network(trained.entry.family.build(64.0), seed=0)
    trainer = cast(Trainer, SimpleNamespace(load=lambda *_: SimpleNamespace(network=network)))
    shipped, found, nearest_ms = proving.prove(
        trained, [], trainer=trainer, value=float(sizes[0]), budget_ms=1.0, samples=SAMPLES,
        compared=300, record=journal.append,
    )  # fmt: skip
    proof: Any = found
    assert shipped is trained
    assert measured == sizes
    assert [one.interval_ms[1] for one in journal] == list(uppers_ms), "each one is recorded"
    assert (proof.met, proof.compared) == (proven, 300)
    assert nearest_ms == min(uppers_ms)
    if proven:
        assert proof.measurement.interval_ms[1] <= 1.0


def test_a_short_fit_measures_a_miss_once_and_briefly(
    trained: Ranked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two looks at 120 pixels took 45 s beside busy loops, and 112, the size trained, shipped."""
    measured: list[tuple[int, bool]] = []
    at_64_ms: list[float] = []

    def measure(artifact: Any, _: Entry, *, is_short: bool = False, **__: Any) -> Any:
        measured.append((artifact.input_shape[0], is_short))
        upper_ms = {96: 1.2, 64: at_64_ms[-1], 32: 0.8}[artifact.input_shape[0]]
        return SimpleNamespace(median_ms=upper_ms, interval_ms=(upper_ms, upper_ms))

    monkeypatch.setattr(
        proving, "_export",
        lambda _, network, **__: SimpleNamespace(input_shape=network.architecture.input_shape[1:]),
    )  # fmt: skip
    monkeypatch.setattr(proving, "_measure", measure)
    monkeypatch.setattr(proving, "_verify", lambda found, **_: found)
    network = build_network(trained.entry.family.build(64.0), seed=0)
    trainer = cast(Trainer, SimpleNamespace(load=lambda *_: SimpleNamespace(network=network)))
    for repeats, slow_ms, sizes in (
        (False, 0.9, [(96, False), (64, True), (64, False)]),
        (False, 1.1, [(96, False), (64, True), (32, True), (32, False)]),
        (True, 0.9, [(96, False), (96, False), (64, False)]),
    ):
        measured.clear()
        at_64_ms.append(slow_ms)
        journal: list[Any] = []
        _, found, _ = proving.prove(
            trained, [], trainer=trainer, value=96.0, budget_ms=1.0, compared=300,
            samples=SAMPLES.model_copy(update={"repeats": repeats}), record=journal.append,
        )  # fmt: skip
        assert measured == sizes
        assert len(journal) == len(sizes), "short ones too"
        assert cast(Any, found).measurement.interval_ms[1] <= 0.9


@pytest.mark.parametrize(("resolution", "evaluations"), [(64, 0), (32, 1)])
def test_val_is_answered_again_only_at_another_size(
    resolution: int, evaluations: int, trained: Ranked, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[int] = []
    split = SimpleNamespace(pixels=np.zeros((2, 4, 4, 3), np.uint8), labels=np.array([0, 1]))
    monkeypatch.setattr(proving, "verify_artifact", lambda *_, **__: Record(passed=True))
    monkeypatch.setattr(proving, "_difference_there", lambda *_, **__: None)
    monkeypatch.setattr(
        proving, "evaluate_network",
        lambda *_, **__: (evaluated.append(1), SimpleNamespace(accuracy=0.5))[1],
    )  # fmt: skip
    runtime = SimpleNamespace(load=lambda *_, **__: lambda pixels: pixels)
    monkeypatch.setattr(proving, "RUNTIMES", {"torch": runtime})
    artifact = SimpleNamespace(
        input_shape=(resolution, resolution, 3), preprocessing=None, runtime="torch"
    )
    shipped = proving._Try(trained, cast(Any, None), cast(Any, artifact), cast(Any, None))
    store = SimpleNamespace(held_out=lambda *_: split)
    found = proving._verify(
        shipped, trainer=cast(Trainer, SimpleNamespace(store=store, device="cpu")),
        compared=300, met=True,
    )  # fmt: skip
    assert len(evaluated) == evaluations
    assert found.val_accuracy == (0.5 if evaluations else 0.9)
    assert found.commonest == 0.5
