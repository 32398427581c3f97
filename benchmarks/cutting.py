"""What benchmarks share that cut a command with kill -9 and continue it.

Each starts itself again as a child, in which no clock chooses anything: times come from the
multiply-adds of the files (`tests/fakes.py`), and trainings compute in one form.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from featherweight.journal import Journal

__all__ = ["Moment", "begun", "cut", "ended", "play_clocks", "stages", "with_ray"]

Moment = Callable[[Path], bool]
"""Whether a run directory has come so far."""

STILL_S = 0.3
"""From the moment to the kill: it hits the middle of what was begun."""


def play_clocks() -> None:
    """Let multiply-adds tell the time of files, and trainings compute in one form."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    import torch
    from fakes import PlayedDevice

    from featherweight.fitting import context
    from featherweight.measuring import latency
    from featherweight.training.compute import Compute

    class FineDevice(PlayedDevice):
        fixed_ms = 0.001

    class OneForm(dict[str, Compute]):
        def get(self, _name: object, _default: object = None) -> Compute:  # type: ignore[override]
            return Compute(torch.device("cpu"))

    def open_trainer(*given: Any, **named: Any) -> Any:
        return replace(plain(*given, **named), forms=OneForm())

    plain = context.open_trainer
    context.open_trainer = open_trainer
    latency.answer_of_device = FineDevice()


def begun(script: str, words: Sequence[str]) -> subprocess.Popen[str]:
    """Start a command in a child of a script."""
    return subprocess.Popen(
        [sys.executable, script, "--child", *words],
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(script: str, words: Sequence[str]) -> dict[str, Any]:
    """Run a command to the end; return its answer."""
    return _answer(begun(script, words))


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    printed, log = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"exit code {process.returncode}: {log[-2000:]}")
    return dict(json.loads(printed)) if printed.strip().startswith("{") else {}


def cut(script: str, words: Sequence[str], run: Path, moment: Moment) -> bool:
    """Start a run and kill it at a moment; return whether it was still running then."""
    process = begun(script, words)
    while not moment(run):
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    time.sleep(STILL_S)
    alive = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return alive


def with_ray(script: str, words: Sequence[str], task: str) -> tuple[dict[str, Any], bool]:
    """Run with two workers of Ray and kill one at its task; return the answer, and if it was."""
    process, killed = begun(script, [*words, "--workers", "ray"]), False
    while process.poll() is None:
        killed = killed or _kill_one(f"ray::{task}")
        time.sleep(0.05)
    return _answer(process), killed


def _kill_one(name: str) -> bool:
    """Kill the first process of a name; return whether there was one."""
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if status.read_bytes().startswith(name.encode()):
                os.kill(int(status.parent.name), signal.SIGKILL)
                return True
    return False


def stages(run: Path) -> list[str]:
    """Return the finished stages of a run."""
    path = run / "stages.jsonl"
    return [line["stage"] for line in Journal(path).read()] if path.exists() else []
