"""Measuring real files in a fresh process, and what may go wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from featherweight.devices.device import DEVICES, CompletedRun, DeviceInfo
from featherweight.errors import DeviceError, DeviceUnreachableError, UsageError
from featherweight.exporting.platforms import Platform
from featherweight.measuring import latency
from featherweight.measuring.latency import measure_artifacts
from featherweight.networks.preprocessing import Preprocessing
from featherweight.runtimes.artifact import Artifact, digest_files, write_artifact

PLATFORM = Platform(device="local", runtime="onnxruntime")


def describe(directory: Path, *, size: int) -> Artifact:
    size_bytes, sha256 = digest_files(directory, ("model.onnx",))
    artifact = Artifact(
        runtime="onnxruntime",
        precision="fp32",
        files=("model.onnx",),
        directory=str(directory),
        input_shape=(size, size, 3),
        preprocessing=Preprocessing(),
        labels=("a", "b"),
        size_bytes=size_bytes,
        sha256=sha256,
        architecture_digest="0" * 64,
    )
    write_artifact(artifact)
    return artifact


def network(directory: Path, *, size: int = 16, convolutions: int = 1) -> Artifact:
    """`convolutions` 3x3 convolutions of 16 channels on a uint8 picture."""
    directory.mkdir()
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["map0"], perm=[0, 3, 1, 2]),
    ]
    weights = []
    for index in range(convolutions):
        shape = (16, 16 if index else 3, 3, 3)
        values = generator.standard_normal(shape).astype(np.float32) / 12
        weights.append(numpy_helper.from_array(values, f"weight{index}"))
        inputs = [f"map{index}", f"weight{index}"]
        output = "logits" if index + 1 == convolutions else f"map{index + 1}"
        nodes.append(helper.make_node("Conv", inputs, [output], pads=[1] * 4))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, size, size, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, directory / "model.onnx")
    return describe(directory, size=size)


def broken(directory: Path) -> Artifact:
    directory.mkdir()
    (directory / "model.onnx").write_bytes(b"not a network")
    return describe(directory, size=16)


def test_four_times_the_work_takes_longer(tmp_path: Path) -> None:
    deep = network(tmp_path / "deep", size=64, convolutions=4)
    flat = network(tmp_path / "flat", size=64)
    start = time.monotonic()
    one, two = measure_artifacts(
        [deep, flat], platform=PLATFORM, names=["deep", "flat"], samples=30, max_s_each=0.5
    )
    assert time.monotonic() - start < 20
    assert (one.network, two.network) == ("deep", "flat")
    assert (one.artifact_sha256, two.artifact_sha256) == (deep.sha256, flat.sha256)
    assert one.platform == "local/onnxruntime:threads=1,precision=fp32"
    assert 0.01 < two.median_ms < one.median_ms < 100
    assert one.median_ms > 1.8 * two.median_ms
    assert 5 <= len(one.samples_ms) <= 30
    assert one.warm_up_runs >= 4
    assert one.device_info == DEVICES["local"].info()
    assert one.foreign_cpu_share is None or 0 <= one.foreign_cpu_share <= 1


def test_a_fast_network_runs_several_times_per_sample(tmp_path: Path) -> None:
    (one,) = latency._measure_once(
        [network(tmp_path / "net", size=4)],
        platform=PLATFORM,
        names=["net"],
        samples=20,
        max_s_each=0.5,
        seed=0,
    )
    assert one.runs_per_sample >= 2
    assert len(one.samples_ms) == 20
    assert one.median_ms < 0.5, "samples are per run"


def test_another_runtime_is_looked_up_in_the_package_beside_the_worker(tmp_path: Path) -> None:
    job = {
        "runtime": "no-such-runtime",
        "num_threads": 1,
        "networks": [{"directory": str(tmp_path), "files": [], "input_shape": [4, 4, 3]}],
        "samples": 1,
        "max_s_each": 0.1,
        "seed": 0,
        "cpus": None,
    }
    done = DEVICES["local"].run(
        [DEVICES["local"].python, "-P", str(latency._WORKER)], timeout_s=60, stdin=json.dumps(job)
    )
    assert done.returncode == 1
    assert "no runtime named 'no-such-runtime'" in done.stderr.splitlines()[-1]
    assert done.stdout == ""


def test_a_crash_is_a_device_error_with_the_last_line(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="measuring process on the device 'local' failed") as e:
        measure_artifacts([broken(tmp_path / "net")], platform=PLATFORM, names=["net"])
    assert "model.onnx" in str(e.value)
    assert "\n" not in str(e.value)


def test_missing_and_changed_files_are_named(tmp_path: Path) -> None:
    artifact = network(tmp_path / "net")
    path = tmp_path / "net" / "model.onnx"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UsageError, match="sha256"):
        measure_artifacts([artifact], platform=PLATFORM, names=["net"])
    path.unlink()
    with pytest.raises(UsageError, match=r"model\.onnx cannot be read"):
        measure_artifacts([artifact], platform=PLATFORM, names=["net"])


def test_bad_requests_are_refused_before_a_process_starts(tmp_path: Path) -> None:
    artifact = network(tmp_path / "net")
    unknown = Platform(device="local", runtime="onxruntime")
    with pytest.raises(UsageError, match="did you mean 'onnxruntime'"):
        measure_artifacts([artifact], platform=unknown, names=["net"])
    int8 = PLATFORM.with_precision("int8")
    with pytest.raises(UsageError, match=r"'net' is onnxruntime fp32, the platform is .*int8"):
        measure_artifacts([artifact], platform=int8, names=["net"])
    with pytest.raises(UsageError, match="2 names were given for 1 artifacts"):
        measure_artifacts([artifact], platform=PLATFORM, names=["net", "net"])
    with pytest.raises(UsageError, match="samples=0"):
        measure_artifacts([artifact], platform=PLATFORM, names=["net"], samples=0)
    with pytest.raises(UsageError, match="max_s_each=0"):
        measure_artifacts([artifact], platform=PLATFORM, names=["net"], max_s_each=0)
    assert measure_artifacts([], platform=PLATFORM, names=[]) == []


class ScriptedDevice:
    """Answers with what it was told to, one result per run."""

    url = "scripted"
    python = "python"

    def __init__(self, *results: CompletedRun | DeviceError) -> None:
        self.results = list(results)
        self.removed: list[list[str]] = []
        self.jobs: list[dict[str, object]] = []
        self.environments: list[Mapping[str, str]] = []

    def info(self) -> DeviceInfo:
        return DeviceInfo(cpu="none", cores=1, os="none", arch="none")

    def push(self, files: Sequence[str], directory: Path) -> str:
        return str(directory)

    def remove(self, directories: Sequence[str]) -> None:
        self.removed.append(list(directories))

    def exclusive(self) -> AbstractContextManager[None]:
        return nullcontext()

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> CompletedRun:
        self.jobs.append(json.loads(stdin))
        self.environments.append(environment or {})
        result = self.results.pop(0)
        if isinstance(result, DeviceError):
            raise result
        return result


def answer(*samples: list[float], share: float | None) -> CompletedRun:
    plain = {
        "runtime_version": "1",
        "samples_ms": samples,
        "retaken_samples": [0] * len(samples),
        "warm_up_runs": [3] * len(samples),
        "runs_per_sample": [1] * len(samples),
        "foreign_cpu_share": {"machine": share, "pinned": None},
        "involuntary_switches": 0,
    }
    return CompletedRun(0, json.dumps(plain), "")


def measure_scripted(
    device: ScriptedDevice, artifacts: list[Artifact], monkeypatch: pytest.MonkeyPatch
) -> list[float]:
    monkeypatch.setattr(latency, "find_device", lambda _: device)
    names = [f"net{index}" for index in range(len(artifacts))]
    return [one.median_ms for one in measure_artifacts(artifacts, platform=PLATFORM, names=names)]


def test_a_disturbed_measurement_is_repeated_and_the_quieter_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets = [network(tmp_path / "a"), network(tmp_path / "b")]
    device = ScriptedDevice(answer([9.0], [9.0], share=0.9), answer([1.0], [2.0], share=0.0))
    assert measure_scripted(device, nets, monkeypatch) == [1.0, 2.0]
    assert device.environments[0]["OMP_NUM_THREADS"] == "1"
    # Worse the second time: the first stays; and there is no third time.
    device = ScriptedDevice(answer([1.0], [2.0], share=0.2), answer([9.0], [9.0], share=0.9))
    assert measure_scripted(device, nets, monkeypatch) == [1.0, 2.0]
    # A quiet one is not repeated.
    device = ScriptedDevice(answer([1.0], [2.0], share=0.0))
    assert measure_scripted(device, nets, monkeypatch) == [1.0, 2.0]


def test_only_what_was_disturbed_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets = [network(tmp_path / "a"), network(tmp_path / "b", size=8)]
    device = ScriptedDevice(
        answer([1.0, 1.0], [1.0, 9.0], share=0.0), answer([2.0, 2.0], share=0.0)
    )
    assert measure_scripted(device, nets, monkeypatch) == [1.0, 2.0]
    assert [len(job["networks"]) for job in device.jobs] == [2, 1]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (CompletedRun(-9, "", ""), "killed by SIGKILL"),
        (CompletedRun(2, "", "first\nlast words\n\n"), "failed: last words"),
        (CompletedRun(2, "", ""), "failed: exit code 2"),
        (CompletedRun(0, "hello", ""), "no readable answer"),
    ],
)
def test_failures_of_the_process_are_device_errors(
    result: CompletedRun, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeviceError, match=said):
        measure_scripted(ScriptedDevice(result), [network(tmp_path / "a")], monkeypatch)


def test_a_cut_connection_is_tried_again_and_then_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "_WAIT_S", 0.0)
    net = network(tmp_path / "a")
    cut = DeviceUnreachableError("no connection")
    device = ScriptedDevice(cut, answer([1.0], share=0.0))
    assert measure_scripted(device, [net], monkeypatch) == [1.0]
    assert len(device.removed) == 2, "files are taken away after every attempt"
    device = ScriptedDevice(*[cut] * 9)
    with pytest.raises(DeviceUnreachableError, match="no connection"):
        measure_scripted(device, [net], monkeypatch)
    assert len(device.jobs) == latency._ATTEMPTS
    # What is not a cut is not tried again.
    device = ScriptedDevice(DeviceError("ran past"), answer([1.0], share=0.0))
    with pytest.raises(DeviceError, match="ran past"):
        measure_scripted(device, [net], monkeypatch)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (CompletedRun(127, "", "sh: 1: python3: not found\n"), "cannot start Python .*not found"),
        (
            CompletedRun(1, "", "ModuleNotFoundError: No module named 'onnxruntime'\n"),
            "No module named 'onnxruntime'; on the device: python -m pip install onnxruntime",
        ),
    ],
)
def test_what_the_device_lacks_is_said(
    result: CompletedRun, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeviceError, match=expected):
        measure_scripted(ScriptedDevice(result), [network(tmp_path / "a")], monkeypatch)
