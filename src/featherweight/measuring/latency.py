"""Measure the latency of exported files in a fresh process."""

from __future__ import annotations

import json
import logging
import re
import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from featherweight.devices.device import CompletedRun, Device
from featherweight.devices.known import find_device
from featherweight.errors import DeviceError, DeviceUnreachableError, UsageError
from featherweight.exporting.platforms import Platform
from featherweight.measuring.measurement import Measurement
from featherweight.measuring.native import answer_of_programs
from featherweight.registry import unknown_name
from featherweight.runtimes.artifact import ARTIFACT_FILE, Artifact, check_files
from featherweight.runtimes.runtime import RUNTIMES

__all__ = ["answer_of_device", "measure_artifacts", "no_python"]

logger = logging.getLogger(__name__)

_WORKER = Path(__file__).with_name("worker.py")
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_FILES_OF_ONE_NETWORK = 2
_START_S = 120.0
_LOAD_S_EACH = 20.0
_CANNOT_START = (126, 127)
"""What a shell ends with where a program is not there or may not be run."""
_ABSENT = re.compile(r"No module named '([\w.]+)'")
_ATTEMPTS = 3
"""A wireless device may be gone for some seconds: what was cut is measured from the start."""
_WAIT_S = 5.0


def measure_artifacts(
    artifacts: Sequence[Artifact],
    *,
    platform: Platform,
    names: Sequence[str],
    samples: int = 100,
    max_s_each: float = 5.0,
    seed: int = 0,
    repeat_disturbed: bool = True,
) -> list[Measurement]:
    """Measure artifacts, interleaved, in one fresh process.

    Each is warmed up to steady state, then all take turns, one sample each, in shuffled rounds.
    Those that something disturbed (`Measurement.disturbed`) are measured once more in
    another process, and the quieter measurement of the two is kept.

    Absolute times are valid only on a quiet machine; see `Measurement`.

    Args:
        artifacts: exported for the runtime and precision of `platform`.
        platform: where and how they run.
        names: network names, one per artifact.
        samples: samples per artifact, fewer where `max_s_each` does not allow them (at least 5).
        max_s_each: seconds for warm-up and samples of each artifact, without loading and a
            repetition.
        seed: of the order of the turns and of the input picture.
        repeat_disturbed: whether disturbed measurements are taken once more.

    Returns:
        one measurement per artifact, in the order given.

    Raises:
        UsageError: unknown runtime or device, an artifact of another runtime or precision, a
            file that is missing or is not what was exported, or numbers out of range.
        DeviceError: the measuring process could not be started, crashed or did not end.
    """
    _check(artifacts, platform=platform, names=names, samples=samples, max_s_each=max_s_each)
    if not artifacts:
        return []

    def measure(chosen: Sequence[int]) -> list[Measurement]:
        return _measure_once(
            [artifacts[index] for index in chosen],
            platform=platform,
            names=[names[index] for index in chosen],
            samples=samples,
            max_s_each=max_s_each,
            seed=seed,
        )

    measurements = measure(range(len(artifacts)))
    disturbed = [index for index, one in enumerate(measurements) if one.disturbed]
    if disturbed and repeat_disturbed:
        logger.info("%d of %d disturbed: measuring again", len(disturbed), len(measurements))
        for index, again in zip(disturbed, measure(disturbed), strict=True):
            measurements[index] = min(measurements[index], again, key=lambda one: one.noise)
    return measurements


def _check(
    artifacts: Sequence[Artifact],
    *,
    platform: Platform,
    names: Sequence[str],
    samples: int,
    max_s_each: float,
) -> None:
    """Refuse what cannot be measured before a process is started."""
    if len(names) != len(artifacts):
        raise UsageError(f"{len(names)} names were given for {len(artifacts)} artifacts")
    if samples < 1:
        raise UsageError(f"cannot take samples={samples}", allowed="1 or more")
    if max_s_each <= 0:
        raise UsageError(f"cannot measure for max_s_each={max_s_each}", allowed="above 0")
    if platform.runtime not in RUNTIMES:
        raise unknown_name("runtime", platform.runtime, RUNTIMES)
    for name, artifact in zip(names, artifacts, strict=True):
        if (artifact.runtime, artifact.precision) != (platform.runtime, platform.precision):
            raise UsageError(
                f"the artifact of {name!r} is {artifact.runtime} {artifact.precision}, "
                f"the platform is {platform}",
                hint="export the network for that platform",
            )
        check_files(artifact)


def _measure_once(
    artifacts: Sequence[Artifact],
    *,
    platform: Platform,
    names: Sequence[str],
    samples: int,
    max_s_each: float,
    seed: int,
) -> list[Measurement]:
    """Measure all of them in one process and believe what it says."""
    device = find_device(platform.device)
    # What lies behind a detector's file is numpy, which the worker alone does not know.
    in_parts = any(len(one.files) > _FILES_OF_ONE_NETWORK for one in artifacts)
    job = {
        "runtime": f"installed:{platform.runtime}" if in_parts else platform.runtime,
        "precision": platform.precision,
        "num_threads": platform.num_threads,
        "samples": samples,
        "max_s_each": max_s_each,
        "seed": seed,
        "cpus": None,
    }
    info = device.info()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    answer = answer_of_device(
        device,
        artifacts,
        job,
        timeout_s=_START_S + len(artifacts) * (_LOAD_S_EACH + 3 * max_s_each),
    )
    shares = [share for share in answer["foreign_cpu_share"].values() if share is not None]
    return [
        Measurement(
            network=name,
            platform=str(platform),
            device_info=info,
            runtime_version=answer["runtime_version"],
            artifact_sha256=artifact.sha256,
            samples_ms=tuple(answer["samples_ms"][index]),
            retaken_samples=answer["retaken_samples"][index],
            warm_up_runs=answer["warm_up_runs"][index],
            started=started,
            foreign_cpu_share=max(shares, default=None),
            runs_per_sample=answer["runs_per_sample"][index],
            involuntary_switches=answer["involuntary_switches"],
            clock_change=answer.get("clock_change"),
        )
        for index, (name, artifact) in enumerate(zip(names, artifacts, strict=True))
    ]


def answer_of_device(
    device: Device,
    artifacts: Sequence[Artifact],
    job: dict[str, Any],
    *,
    timeout_s: float,
    program: Path = _WORKER,
) -> dict[str, Any]:
    """Run the worker on a device, again where the connection was cut; return what it says.

    Args:
        device: where.
        artifacts: what it loads.
        job: for the worker, without `networks`.
        timeout_s: for one attempt.
        program: what runs instead of the worker and answers in its way.

    Raises:
        DeviceError: the worker could not be started, crashed or did not end, or the connection
            was cut again and again.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with device.exclusive():
                return _run_worker(device, artifacts, job, timeout_s=timeout_s, program=program)
        except DeviceUnreachableError as cut:
            if attempt == _ATTEMPTS:
                raise
            logger.warning("%s: trying again in %.0f s", cut.message, _WAIT_S)
            time.sleep(_WAIT_S)
    raise AssertionError("the last attempt returns or raises")


def _run_worker(
    device: Device,
    artifacts: Sequence[Artifact],
    job: dict[str, Any],
    *,
    timeout_s: float,
    program: Path,
) -> dict[str, Any]:
    """Bring the files, run the worker, take the files away."""
    pushed: list[str] = []
    try:
        for artifact in artifacts:
            folder = Path(artifact.directory)
            # Runtimes of a featherweight that is installed there read artifact.json.
            described = [ARTIFACT_FILE] if (folder / ARTIFACT_FILE).is_file() else []
            pushed.append(device.push([*artifact.files, *described], folder))
        if device.python is None:
            return answer_of_programs(device, artifacts, pushed, job, timeout_s=timeout_s)
        home = device.push([program.name], program.parent)
        pushed.append(home)
        networks = [
            {
                "directory": folder,
                "files": list(artifact.files),
                "input_shape": list(artifact.input_shape),
                "outputs": [one.name for one in artifact.outputs],
            }
            for folder, artifact in zip(pushed, artifacts, strict=False)
        ]
        # -P: Python would put the worker's directory first, where platform.py hides the standard
        # one. On a device the worker is alone there, and Python may be older than 3.11.
        flags = ["-P"] if Path(home) == program.parent else []
        done = device.run(
            [device.python, *flags, f"{home}/{program.name}"],
            timeout_s=timeout_s,
            stdin=json.dumps({**job, "networks": networks}),
            environment=dict.fromkeys(_THREAD_VARIABLES, str(job["num_threads"])),
        )
    finally:
        device.remove(pushed)
    return _answer(done, device=device)


def no_python(device: Device, reason: str) -> DeviceError:
    """Return the error for a device whose Python cannot be started; `reason` is what it said."""
    return DeviceError(
        f"cannot start Python on the device {device.url!r}: {reason}",
        hint="install Python 3.8 or newer there, or name it: device add NAME URL --python PATH",
    )


def _answer(done: CompletedRun, *, device: Device) -> dict[str, Any]:
    """Return the worker's answer, or raise with the last thing it said."""
    said = [line for line in done.stderr.splitlines() if line.strip()]
    reason = said[-1].strip() if said else f"exit code {done.returncode}"
    failed = f"the measuring process on the device {device.url!r}"
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise DeviceError(
            f"{failed} was killed by {name}",
            hint="it may have run out of memory: measure fewer networks at once",
        )
    if done.returncode in _CANNOT_START:
        raise no_python(device, reason)
    if done.returncode != 0:
        absent = _ABSENT.search(reason)
        raise DeviceError(
            f"{failed} failed: {reason}",
            hint=None
            if absent is None
            else f"on the device: {device.python} -m pip install {absent[1].partition('.')[0]}",
        )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise DeviceError(f"{failed} gave no readable answer ({done.stdout[:80]!r})") from error
    return answer
