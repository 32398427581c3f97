"""Networks are timed before they are trained, each as a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeMachine, measurement

from featherweight.exporting.platforms import parse_platform
from featherweight.fitting.time_plan import SamplePlan
from featherweight.measuring import bench as benching
from featherweight.measuring.bench import Bench, Untrained, time_untrained
from featherweight.measuring.measurement import Measurement
from featherweight.networks.resolve import create_architecture
from featherweight.runtimes.artifact import Artifact, digest_files

SMALL = create_architecture("convnet", width=0.125, resolution=16, classes=4)
PLATFORM = parse_platform("local/onnxruntime")


def test_networks_that_differ_only_in_name_have_files_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Widths of 0.3 and 0.31 round to the same channels."""

    def measure(
        artifacts: Sequence[Artifact], *, names: Sequence[str], **_: Any
    ) -> list[Measurement]:
        assert len({artifact.directory for artifact in artifacts}) == len(artifacts)
        for artifact in artifacts:
            assert digest_files(Path(artifact.directory), artifact.files)[1] == artifact.sha256
        return [measurement(name, [1.0]) for name in names]

    monkeypatch.setattr(benching, "measure_artifacts", measure)
    wanted = [Untrained(name, SMALL.changed(name=name), "fp32") for name in ("one", "other")]
    wanted.append(Untrained("int8", SMALL, "int8"))
    found = time_untrained(wanted, platform=PLATFORM, samples=1, max_s_each=1.0)
    assert [found[index].network for index in range(3)] == ["one", "other", "int8"]


def test_a_network_takes_the_median_of_its_processes_and_the_interval_of_all(
    tmp_path: Path,
) -> None:
    slower = {1: 1.0, 2: 3.0, 3: 2.0}
    machine = FakeMachine(
        fixed_ms=1.0, fp32_gmacs=1e9, int8_gmacs=1e9, slower=lambda process, _: slower[process]
    )
    bench = Bench[Untrained](
        machine,
        folder=tmp_path,
        samples=SamplePlan(glance=1, confirm=1, prove=1, margin=0.9),
        purpose="test",
    )
    one = Untrained("one", SMALL, "fp32")
    bench.measure([one])
    bench.measure([one])
    assert machine.processes == 1, "it is known"
    bench.remeasure([one])
    assert bench.measure_alone(one) == pytest.approx(2.0)
    latency = bench.latency(one)
    assert latency.median_ms == pytest.approx(2.0)
    assert latency.interval_ms == pytest.approx((1.0, 3.0))
    assert bench.fits(one, budget_ms=3.3)
    assert not bench.fits(one, budget_ms=2.5), "its slower moments are over the budget"
    assert not bench.fits(one, budget_ms=2.1), "no margin is left"
