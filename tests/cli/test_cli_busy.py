"""Threads sleep at barriers where others use the machine, and only there."""

from __future__ import annotations

import os
import sys

import pytest

from featherweight.cli import busy


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("share", "policy"), [(0.9, "PASSIVE"), (0.1, None), (None, None)])
def test_threads_sleep_where_others_work(
    share: float | None, policy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy, "foreign_cpu_share", lambda _: share)
    busy.share_the_machine()
    assert os.environ.get("OMP_WAIT_POLICY") == policy


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_what_the_user_has_set_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy, "foreign_cpu_share", lambda _: 0.9)
    monkeypatch.setenv(name, "1")
    busy.share_the_machine()
    assert os.environ.get("OMP_WAIT_POLICY") in (None, "1")


def test_once_torch_is_loaded_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy, "foreign_cpu_share", lambda _: 0.9)
    monkeypatch.setitem(sys.modules, "torch", os)
    busy.share_the_machine()
    assert "OMP_WAIT_POLICY" not in os.environ
