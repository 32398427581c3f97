"""Predicted latencies, on an imagined device whose times are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherweight.architecture import Architecture
from featherweight.cli.app import run
from featherweight.devices.device import DeviceInfo
from featherweight.errors import DeviceError
from featherweight.exporting.platforms import Platform, parse_platform
from featherweight.layers import layers
from featherweight.measuring import calibrate as calibrating
from featherweight.measuring.calibrate import calibrate
from featherweight.measuring.features import DESCRIPTORS, TERMS, kind_of, work_of
from featherweight.measuring.measurement import Measurement
from featherweight.measuring.prediction import fit_predictor
from featherweight.measuring.sampling import sample_networks
from featherweight.measuring.table import find_table, keep_table
from featherweight.networks.resolve import resolve_architecture
from featherweight.profiling.profile import profile
from featherweight.runtimes.runtime import RUNTIMES
from featherweight.zoo.model import MODELS

INFO = DeviceInfo(cpu="imagined", cores=1, os="none", arch="none")


def imagined_ms(architecture: Architecture) -> float:
    """Multiply-adds and bytes, dearer where channels are few: no sum of our terms exactly."""
    total = 0.02
    for layer in profile(architecture).layers:
        macs, moved = layer.macs or 0, layer.memory_access_bytes or 0
        narrow = 1.0 + 8.0 / layer.output_shape[0]
        total += 1e-8 * macs * narrow + 2e-8 * moved + 0.001
    return total


def measured(drawn: Sequence[tuple[str, Architecture]], platform: Platform) -> list[Measurement]:
    return [
        Measurement(
            network=name,
            platform=str(platform),
            device_info=INFO,
            runtime_version=RUNTIMES[platform.runtime].version(),
            artifact_sha256="",
            samples_ms=(imagined_ms(architecture),),
            warm_up_runs=1,
            started="2026-01-01T00:00:00+00:00",
        )
        for name, architecture in drawn
    ]


@pytest.fixture
def imagined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def time_sampled(
        drawn: Sequence[tuple[str, Architecture]], *, platform: Platform, seed: int
    ) -> list[Measurement]:
        return measured(drawn, platform)

    monkeypatch.setattr(calibrating, "time_sampled", time_sampled)
    monkeypatch.setattr(calibrating, "_NETWORKS", 240)
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(tmp_path))


def test_draws_are_repeatable_distinct_and_of_every_network() -> None:
    drawn = sample_networks(2 * len(MODELS), seed=0)
    assert [name for name, _ in drawn] == [n for n, _ in sample_networks(2 * len(MODELS), seed=0)]
    names = {name for name, _ in drawn}
    assert len(names) == 2 * len(MODELS)
    assert {name.partition(":")[0] for name in names} == set(MODELS)
    assert all(4e6 <= (profile(one).macs or 0) <= 7e8 for _, one in drawn)
    others = {name for name, _ in sample_networks(40, seed=0, without=frozenset(names))}
    assert not names & others


def test_every_layer_of_the_zoo_has_a_cost() -> None:
    for name in MODELS:
        architecture = MODELS[name].build()
        work = work_of(architecture)
        assert work.descriptors.shape == (len(work.kinds), len(DESCRIPTORS))
        terms = work.terms.sum(axis=0)
        assert (work.terms >= 0).all()
        weights = 2 ** work.descriptors[0, DESCRIPTORS.index("network_weights")]
        assert weights == pytest.approx(profile(architecture).params, rel=0.06), name
        asked = dict(zip(TERMS, terms, strict=True))
        macs = sum(value for term, value in asked.items() if term.endswith(".macs"))
        assert macs == pytest.approx(profile(architecture).macs), name
        kinds = {kind_of(layer) for layer in layers(architecture)}
        assert all(f"{kind}.calls" in asked for kind in kinds), name


def test_relu_is_part_of_the_layer_before_it_and_hard_swish_is_not() -> None:
    terms = work_of(resolve_architecture("mobilenet_v3_large")).terms.sum(axis=0)
    asked = dict(zip(TERMS, terms, strict=True))
    assert asked["relu.calls"] == 0
    assert asked["hard_swish.calls"] > 5
    assert asked["depthwise.outputs_5x5"] > 0
    assert asked["squeeze.calls"] > 10, "squeeze-and-excitation works on one place"


def test_networks_and_widths_never_timed_are_predicted() -> None:
    known = [one for _, one in sample_networks(120, seed=0)]
    new = [one for _, one in sample_networks(60, seed=1)]
    predictor = fit_predictor(known, [imagined_ms(one) for one in known])
    truth = np.array([imagined_ms(one) for one in new])
    found = predictor.predict(new)
    errors = np.abs(np.array([one.median_ms for one in found]) / truth - 1.0)
    assert errors.mean() < 0.03
    assert (errors < 0.1).mean() > 0.95
    inside = [one.low_ms <= ms <= one.high_ms for one, ms in zip(found, truth, strict=True)]
    assert 0.75 <= np.mean(inside) <= 1.0


def test_what_is_like_nothing_measured_has_a_wide_interval() -> None:
    """On a device whose times no sum of costs explains, so that likeness is what tells."""
    known = [one for name, one in sample_networks(160, seed=0) if "vgg" not in name]

    def wavy_ms(one: Architecture) -> float:
        return imagined_ms(one) * (1.0 + 0.3 * np.sin(np.log(profile(one).macs or 1)))

    predictor = fit_predictor(known, [wavy_ms(one) for one in known])
    near, far = predictor.predict(
        [known[0], resolve_architecture("vgg16:width=3,resolution=96,classes=10")]
    )
    widths = [np.log(one.high_ms / one.low_ms) for one in (near, far)]
    assert widths[1] > 1.3 * widths[0]


def test_a_platform_is_learnt_kept_and_shared(
    imagined: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared"
    arguments = ["device", "calibrate", "local/onnxruntime", "--share", str(shared), "--json"]
    assert run(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["platform"].rpartition("=")[2] for one in found] == ["fp32", "int8"]
    assert all(one["entries"] == 240 and one["held_out"]["networks"] == 48 for one in found)
    assert all(one["held_out"]["mape"] < 0.03 for one in found)
    network = "mobilenet_v2:width=0.85,resolution=200"
    asked = ["measure", network, "--predicted", "--on", "local/onnxruntime", "--json"]
    assert run(asked) == 0
    predictions = json.loads(capsys.readouterr().out)
    truth = imagined_ms(resolve_architecture(network))
    assert [one["median_ms"] for one in predictions] == [pytest.approx(truth, rel=0.1)] * 2
    (file,) = shared.glob("*fp32*.json")
    assert run(["measure", network, "--table", str(file)]) == 0
    said = capsys.readouterr().out
    assert "predicted" in said
    assert "90 %" in said


def test_a_stale_table_is_refused_with_the_command_that_renews_it(
    imagined: None, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "local/onnxruntime:threads=1,precision=fp32"
    (table,) = calibrate(text)
    assert find_table(parse_platform(text)) == table
    older = table.fingerprint.model_copy(update={"runtime_version": "1.0"})
    keep_table(table.model_copy(update={"fingerprint": older}))
    assert run(["measure", "mobilenet_v2", "--predicted", "--on", text]) == 2
    said = capsys.readouterr().err
    assert "stale: runtime_version was '1.0'" in said
    assert f"featherweight device calibrate {text}" in said


def test_what_was_never_calibrated_says_how(
    imagined: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["measure", "mobilenet_v2", "--predicted"]) == 2
    said = capsys.readouterr().err
    assert "was never calibrated" in said
    assert "device calibrate local/onnxruntime:threads=1" in said


def test_a_damaged_table_is_named(
    imagined: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "shared.json"
    file.write_text('{"schema_version": 1, "platform": "x"}')
    assert run(["measure", "mobilenet_v2", "--table", str(file)]) == 2
    assert "shared.json" in capsys.readouterr().err


def test_a_device_that_is_too_slow_is_told(imagined: None) -> None:
    with pytest.raises(DeviceError, match="give it more --time"):
        calibrate("local/onnxruntime:threads=1,precision=fp32", time_s=0.0)


def test_a_table_of_a_busy_machine_is_refused(
    imagined: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(drawn: Any, *, platform: Platform, seed: int) -> list[Measurement]:
        return [
            one.model_copy(update={"foreign_cpu_share": 0.5 if k % 3 == 0 else 0.0})
            for k, one in enumerate(measured(drawn, platform))
        ]

    monkeypatch.setattr(calibrating, "time_sampled", busy)
    text = "local/onnxruntime:threads=1,precision=fp32"
    with pytest.raises(DeviceError, match=r"3[0-9]% of the measurements"):
        calibrate(text)
    assert find_table(parse_platform(text)) is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--predicted", "--sustained", "60s"], "--sustained was given together with --predicted"),
        (["--predicted", "--picture", "x.jpg"], "--picture was given together with --predicted"),
        (
            ["--table", "t.json", "--on", "local/onnxruntime"],
            "--on was given together with --table",
        ),
    ],
)
def test_what_a_prediction_would_ignore_is_refused(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["measure", "mobilenet_v2", *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_file_is_no_folder_for_copies(
    imagined: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    arguments = ["device", "calibrate", "local/onnxruntime", "--share", str(tmp_path / "file")]
    assert run(arguments) == 2
    assert "is a file" in capsys.readouterr().err
