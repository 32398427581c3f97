"""A phone over adb: a stand-in for adb, and transcripts of the program that times there."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest
from adb_stand_in import RECORDED, plug_in

from featherweight.cli.app import run
from featherweight.devices.adb import AdbDevice
from featherweight.errors import DeviceError, DeviceUnreachableError, UsageError
from featherweight.measuring.native import read_run_ms

NETWORK = "mobilenet_v2:width=0.35,resolution=64,classes=10"
LARGER = "mobilenet_v2:width=0.75,resolution=64,classes=10"


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return plug_in(tmp_path, monkeypatch)


@pytest.mark.parametrize("url", ["adb://", "adb://PHONE1", "adb://192.168.1.7:5555"])
def test_urls_that_can_be_read(url: str) -> None:
    assert AdbDevice(url).url == url


@pytest.mark.parametrize("url", ["adb://-s", "adb://a b", "adb://x;rm", "adb:PHONE1"])
def test_urls_that_cannot(url: str) -> None:
    with pytest.raises(UsageError, match="allowed: adb://SERIAL"):
        AdbDevice(url)


def test_the_facts_are_those_of_the_phone(phone: Path) -> None:
    found = AdbDevice("adb://PHONE1").info()
    assert found.cpu == "Maker Phone 7 SM0000"
    assert found.os == "Android 15"
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.int8_pairs_saturate is False


def test_files_go_there_and_away_again(phone: Path, tmp_path: Path) -> None:
    device = AdbDevice("adb://PHONE1")
    (tmp_path / "model.tflite").write_bytes(b"x" * 1000)
    folder = device.push(["model.tflite"], tmp_path)
    copied = phone / "data" / folder.removeprefix("/data/local/tmp/") / "model.tflite"
    assert copied.read_bytes() == b"x" * 1000
    device.remove([folder, "/data/local/tmp/benchmark_model"])
    assert not copied.exists()
    assert (phone / "data" / "benchmark_model").exists(), "only what push made is deleted"
    with pytest.raises(UsageError, match=r"other\.tflite does not exist"):
        device.push(["other.tflite"], tmp_path)


def test_a_recorded_transcript_is_read() -> None:
    assert read_run_ms(RECORDED) == pytest.approx(33.2094)
    newer = RECORDED.replace("std=450", "std=450 p5=32700 median=33150 p95=33990")
    assert read_run_ms(newer) == pytest.approx(33.150), "the median where it is told"
    cut = RECORDED.split("Running benchmark for at least 50")[0]
    assert read_run_ms(cut) is None, "the warm-up is no measurement"


def test_networks_are_timed_in_turns(phone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on = "adb://PHONE1/litert:threads=2"
    assert run(["measure", NETWORK, LARGER, "--on", on, "--json"]) == 0
    small, large = json.loads(capsys.readouterr().out)
    assert small["platform"] == "adb://PHONE1/litert:threads=2,precision=fp32"
    assert small["device_info"]["cpu"] == "Maker Phone 7 SM0000"
    assert 0.2 < small["median_ms"] < large["median_ms"] < 20
    assert small["runs_per_sample"] > 1
    assert len(small["samples_ms"]) >= 5
    calls = (phone / "calls").read_text().splitlines()
    graphs = [call.split()[0] for call in calls[2:]]
    assert len({*graphs}) == 2
    assert any(a != b for a, b in itertools.pairwise(graphs)), "they take turns"
    assert all("--num_threads=2" in call for call in calls)
    assert not list((phone / "data" / "featherweight").glob("*")), "nothing is left there"


@pytest.mark.slow
def test_a_phone_can_be_checked(phone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["device", "check", "adb://PHONE1", "--runtime", "litert", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert found["python"] is None
    assert [one["difference"] for one in found["measured"]] == [None, None]
    assert run(["device", "check", "adb://PHONE1", "--runtime", "litert"]) == 0
    assert "its answers are not told" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--on", "adb://OTHER/litert"], 4, "error: device 'OTHER' not found"),
        (["--on", "adb://PHONE1/onnxruntime"], 2, "onnxruntime cannot be timed on adb://PHONE1"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], code: int, said: str, phone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["measure", NETWORK, *arguments]) == code
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(error) == 1
    assert said in error[0]


def test_a_missing_program_says_where_it_is_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plug_in(tmp_path, monkeypatch, program=False)
    assert run(["measure", NETWORK, "--on", "adb://PHONE1/litert"]) == 4
    said = capsys.readouterr().err
    assert "/data/local/tmp/benchmark_model is not on the device" in said
    assert "adb push benchmark_model" in said


def test_a_full_phone_and_a_pulled_cable_are_told(phone: Path, tmp_path: Path) -> None:
    device = AdbDevice("adb://PHONE1")
    (tmp_path / "model.tflite").write_bytes(b"x")
    (phone / "full").touch()
    with pytest.raises(DeviceError, match="No space left on device"):
        device.push(["model.tflite"], tmp_path)
    (phone / "unplugged").touch()
    with pytest.raises(DeviceUnreachableError, match="not found"):
        device.info()


def test_without_adb_the_tools_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="install Android's platform-tools"):
        AdbDevice("adb://").info()
