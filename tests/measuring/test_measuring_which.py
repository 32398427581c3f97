"""Which networks fit: predicted within a family, measured where it matters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from featherweight.architecture import Architecture
from featherweight.cli.app import run
from featherweight.devices.device import DeviceInfo
from featherweight.errors import UsageError
from featherweight.exporting.platforms import Platform
from featherweight.measuring import which
from featherweight.measuring.measurement import Measurement
from featherweight.measuring.which import Fitting, which_networks
from featherweight.profiling.profile import profile

INFO = DeviceInfo(cpu="fake", cores=1, os="fake", arch="fake")
ON = ["local/onnxruntime:precision=fp32"]


class Clock:
    """A device whose time is linear in multiply-adds, slower for depthwise networks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, slow: str = "mobilenet_v1") -> None:
        self.asked: list[str] = []
        self.slow = slow
        monkeypatch.setattr(which, "_measure", self.measure)

    def ms(self, name: str, architecture: Architecture) -> float:
        macs = profile(architecture).macs or 0
        return 0.1 + macs / 1e8 * (5.0 if name.startswith(self.slow) else 1.0)

    def measure(
        self, wanted: Sequence[tuple[str, Architecture]], platform: Platform, samples: int
    ) -> list[Measurement | None]:
        self.asked += [name for name, _ in wanted]
        return [
            None
            if name.startswith("shufflenet_v1_g8")
            else Measurement(
                network=name,
                platform=str(platform),
                device_info=INFO,
                runtime_version="1",
                artifact_sha256="0",
                samples_ms=(self.ms(name, architecture),) * 5,
                warm_up_runs=1,
                started="2026-01-01T00:00:00+00:00",
            )
            for name, architecture in wanted
        ]


@pytest.fixture(autouse=True)
def nothing_is_calibrated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(tmp_path))


def by_name(found: list[Fitting]) -> dict[str, Fitting]:
    return {one.network: one for one in found}


def test_the_most_accurate_that_fits_comes_first_and_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    found = which_networks(ON, latency_ms=3.5)
    points = which._points("")
    true_ms = {p.name: clock.ms(p.name, p.architecture) for p in points}
    fitting = [p for p in points if true_ms[p.name] <= 3.5 and "g8" not in p.name]
    best = max(fitting, key=lambda p: (p.top1, -true_ms[p.name]))
    assert found[0].network == best.name
    assert found[0].fits
    assert found[0].best
    # Every point of the true frontier was found, though far from everything was measured.
    frontier = {
        p.name
        for p in fitting
        if not any(o.top1 >= p.top1 and true_ms[o.name] < true_ms[p.name] for o in fitting)
    }
    assert len(frontier) >= 5
    assert {one.network for one in found if one.fits and one.best} >= frontier
    assert len(set(clock.asked)) < 0.7 * len(points)


def test_a_calibrated_platform_is_asked_for_less(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    plain = which_networks(ON, latency_ms=3.5)
    without = len(set(clock.asked))
    clock.asked.clear()
    monkeypatch.setattr(
        which,
        "_from_table",
        lambda points, _: {p.name: 1.03 * clock.ms(p.name, p.architecture) for p in points},
    )
    found = which_networks(ON, latency_ms=3.5)
    assert found[0].network == plain[0].network
    best = {one.network for one in plain if one.fits and one.best}
    assert {one.network for one in found if one.fits and one.best} >= best
    assert len(set(clock.asked)) < without
    told = by_name(found)[plain[0].network]
    assert told.predicted_ms == pytest.approx(1.03 * (told.median_ms or 0.0))


def test_a_stale_table_is_said_and_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stale(_: Platform) -> None:
        raise UsageError("the table is stale", hint="renew it")

    Clock(monkeypatch)
    monkeypatch.setattr(which, "find_table", stale)
    assert which_networks(ON, latency_ms=3.5)[0].fits
    assert "the table is stale" in caplog.text


def test_what_is_too_slow_is_predicted_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    found = by_name(which_networks(ON, latency_ms=1.0))
    slow = found["mobilenet_v2:width=1.4"]
    assert slow.median_ms is None
    assert not slow.fits
    assert slow.predicted_ms == pytest.approx(5.9, rel=0.25)
    assert "mobilenet_v2:width=1.4" not in clock.asked


def test_what_a_runtime_cannot_hold_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    assert "shufflenet_v1_g8" not in by_name(which_networks(ON, latency_ms=50.0))


def test_without_a_precision_both_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    found = which_networks(["local/onnxruntime"], latency_ms=3.0, pattern="mobilenet_v3")
    assert {one.platform.rpartition("=")[2] for one in found} == {"fp32", "int8"}
    assert all(one.network.startswith("mobilenet_v3") for one in found)


def test_one_near_the_budget_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    which_networks(ON, latency_ms=3.2, pattern="mobilenet_v2")
    assert clock.asked.count("mobilenet_v2") == 2, "3.11 ms of 3.2"


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Clock(monkeypatch)
    assert run(["models", "--on", ON[0], "--latency", "3.5ms", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert set(listed[0]) == {
        "network",
        "platform",
        "top1",
        "source",
        "params",
        "macs",
        "predicted_ms",
        "median_ms",
        "interval_ms",
        "fits",
        "best",
    }
    assert listed[0]["source"]
    assert run(["models", "--on", ON[0], "--latency", "3.5ms"]) == 0
    assert listed[0]["network"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--on", ON[0]], "--on and --latency belong together"),
        (["--latency", "5ms"], "--on and --latency belong together"),
        (["--on", ON[0], "--latency", "5"], "5"),
        (["nonsense", "--on", ON[0], "--latency", "5ms"], "no network with a published accuracy"),
    ],
)
def test_wrong_use_is_one_line(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", *flags]) == 2
    assert said in capsys.readouterr().err
