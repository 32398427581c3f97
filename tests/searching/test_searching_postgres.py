"""A study in a real PostgreSQL server."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from featherweight.errors import FailedError, UsageError
from featherweight.searching.sampler import SAMPLERS, Fate
from featherweight.searching.space import SPACES, Point, SpaceSettings
from featherweight.searching.study import Study, open_study

pytestmark = pytest.mark.system("pg_virtualenv")
SPACE = SPACES["nas_bench_macro"](SpaceSettings((3, 32, 32), 10))


class Server:
    """A cluster of its own, which goes when the process does."""

    def __init__(self, folder: Path) -> None:
        told = folder / "address"
        script = f"env | grep ^PG > {told}.part && mv {told}.part {told} && exec sleep 300"
        self.process = subprocess.Popen(
            ["pg_virtualenv", "sh", "-c", script], start_new_session=True, cwd="/"
        )
        end = time.monotonic() + 60
        while not told.exists():
            assert self.process.poll() is None, "pg_virtualenv ended"
            assert time.monotonic() < end, "PostgreSQL did not start in a minute"
            time.sleep(0.1)
        env = dict(line.split("=", 1) for line in told.read_text().splitlines())
        login = f"{env['PGUSER']}:{env['PGPASSWORD']}"
        self.url = f"postgresql://{login}@{env['PGHOST']}:{env['PGPORT']}/{env['PGDATABASE']}"

    def stop(self) -> None:
        """End the command inside; pg_virtualenv then drops the cluster."""
        if self.process.poll() is None:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            for child in children.read_text().split():
                os.kill(int(child), signal.SIGTERM)
            self.process.wait(timeout=60)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


def go_on(study: Study, *, trials: int) -> list[Point]:
    """Take the study to so many trials; return the points."""
    sampler = SAMPLERS["predictor"](SPACE)
    known = {SPACE.key(one.point) for one in study.trials()}

    def judge(point: Point) -> Fate:
        return "known" if SPACE.key(point) in known else "new"

    while len(study.trials()) < trials:
        trial = study.next(sampler, seed=0, judge=judge)
        known.add(SPACE.key(trial.point))
        reward = sum(trial.point) / 16
        study.finish(trial, "trained", reward=reward, notes={"latency_ms": 1.0})
    return [one.point for one in study.trials()]


@pytest.mark.slow
def test_a_study_goes_on_in_postgresql_as_in_a_file(server: Server, tmp_path: Path) -> None:
    with contextlib.closing(_open(f"sqlite:///{tmp_path}/study.db")) as in_file:
        expected = go_on(in_file, trials=17)
    with contextlib.closing(_open(server.url)) as begun:
        go_on(begun, trials=7)
    with contextlib.closing(_open(server.url)) as again:
        assert go_on(again, trials=17) == expected
        assert [one.notes["latency_ms"] for one in again.trials()] == [1.0] * 17
    with pytest.raises(UsageError, match="of another space or other data"):
        _open(server.url, identity="b")
    with contextlib.closing(_open(server.url)) as again:
        server.stop()
        with pytest.raises(FailedError, match="the database of the study does not answer") as told:
            go_on(again, trials=18)
    assert "\n" not in told.value.message
    with pytest.raises(FailedError, match="the database of the study does not answer"):
        _open(server.url)


def _open(url: str, *, identity: str = "a") -> Study:
    return open_study(url, SPACE, name="one", identity=identity)
