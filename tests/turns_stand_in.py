"""A device for `TurnsTimer` whose samples are what a function says of each network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from featherweight.advising import turns
from featherweight.architecture import Architecture
from featherweight.devices.device import DeviceInfo
from featherweight.errors import UnsupportedError
from featherweight.measuring.layer_times import NodeTime
from featherweight.measuring.measurement import Measurement

__all__ = ["Take", "stand_in_for_turns"]

Take = Callable[[Sequence[Architecture], int], Sequence[Sequence[float]]]
"""(networks that take turns, samples of each) -> the samples."""


def stand_in_for_turns(
    monkeypatch: pytest.MonkeyPatch,
    take: Take,
    *,
    refuses: Callable[[Architecture], bool] = lambda _: False,
    nodes: Callable[[], list[NodeTime]] = lambda: [NodeTime("stem", "Conv", 1.0)],
) -> None:
    """Let networks be their own files, and `take` time them."""

    def write(architecture: Architecture, **_: Any) -> Architecture:
        if refuses(architecture):
            raise UnsupportedError("no")
        return architecture

    def measure(files: Sequence[Architecture], *, samples: int, **_: Any) -> list[Measurement]:
        return [
            Measurement(
                network=one.name,
                platform="-",
                device_info=DeviceInfo(cpu="fake", cores=1, os="fake", arch="fake"),
                runtime_version="1",
                artifact_sha256="0",
                samples_ms=tuple(own),
                warm_up_runs=1,
                started="2026-01-01T00:00:00+00:00",
            )
            for one, own in zip(files, take(files, samples), strict=True)
        ]

    monkeypatch.setattr(turns, "export_untrained", write)
    monkeypatch.setattr(turns, "measure_artifacts", measure)
    monkeypatch.setattr(turns, "node_times", lambda *_: [nodes()])
