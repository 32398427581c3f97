"""Many pictures, answered by copies of a file in threads: each answer stays with its picture."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherweight.exporting.platforms import parse_platform
from featherweight.measuring.bench import export_untrained
from featherweight.networks.resolve import create_architecture
from featherweight.runtimes import answers
from featherweight.runtimes.answers import load_answers
from featherweight.runtimes.artifact import Artifact
from featherweight.runtimes.runtime import RUNTIMES

ARCHITECTURE = create_architecture("mobilenet_v2", width=0.25, resolution=32, classes=10)


def export(runtime: str, out: Path) -> Artifact:
    return export_untrained(ARCHITECTURE, platform=parse_platform(f"local/{runtime}"), out=out)


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if RUNTIMES[name].runs_in_threads])
def test_every_picture_gets_its_own_answer(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_cores", lambda: 3)
    artifact = export(runtime, tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (101, 32, 32, 3), dtype=np.uint8)
    one = RUNTIMES[runtime].load(artifact, num_threads=1)
    expected = np.concatenate([one(images[k : k + 1])["logits"] for k in range(len(images))])
    answer = load_answers(artifact)
    assert np.abs(answer(images)["logits"] - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(answer(images[:1])["logits"] - expected[:1]).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("in_threads", [True, False])
def test_only_runtimes_that_allow_it_answer_in_threads(
    in_threads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ExecuTorch's threads belong to the process; torch sets their number at every call."""
    artifact = export("onnxruntime", tmp_path)
    seen: set[int] = set()
    meeting = threading.Barrier(2)

    class Fake:
        runs_in_threads = in_threads

        def load(self, _: Artifact, *, num_threads: int) -> Any:
            assert num_threads == 1

            def predict(image: np.ndarray) -> dict[str, np.ndarray]:
                if in_threads and threading.get_ident() not in seen:
                    meeting.wait(timeout=10)
                seen.add(threading.get_ident())
                return {"logits": np.full((1, 3), image.mean(), dtype=np.float32)}

            return predict

    monkeypatch.setattr(answers, "RUNTIMES", {"onnxruntime": Fake()})
    monkeypatch.setattr(answers, "_cores", lambda: 2)
    images = np.arange(64, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    assert load_answers(artifact)(images)["logits"][:, 0].tolist() == list(range(64))
    assert len(seen) == (2 if in_threads else 1)


def test_there_are_no_more_copies_than_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    assert answers._cores() == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert answers._cores() == answers._MOST_COPIES
