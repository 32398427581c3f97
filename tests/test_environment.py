"""A run that goes on with other versions says so, and keeps what it had."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from featherweight import environment
from featherweight.environment import note_environment


def read(path: Path) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(path.read_text())
    return plain


def test_the_same_environment_is_not_worth_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "environment.json"
    note_environment(path)
    first = read(path)
    note_environment(path)
    assert read(path) == first
    assert not caplog.records


def test_other_versions_are_named_and_the_old_ones_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "environment.json"
    original = environment._version
    for torch in ("2.9.0", "2.10.0", "2.11.0"):
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            patch.setattr(
                environment,
                "_version",
                lambda name, t=torch: t if name == "torch" else original(name),
            )
            caplog.clear()
            note_environment(path)
    (record,) = caplog.records
    assert "torch 2.10.0 (now 2.11.0)" in record.getMessage()
    assert "numpy" not in record.getMessage()
    found = read(path)
    assert found["versions"]["torch"] == "2.11.0"
    assert [one["versions"]["torch"] for one in found["before"]] == ["2.9.0", "2.10.0"]
    assert "before" not in found["before"][1]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"versions": 3}'])
def test_a_damaged_file_is_written_anew(content: str, tmp_path: Path) -> None:
    path = tmp_path / "environment.json"
    path.write_text(content)
    note_environment(path)
    assert read(path)["versions"]["numpy"]
