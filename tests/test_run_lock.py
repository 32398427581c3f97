"""The lock of a run directory: what it never damages, and the time it remembers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from featherweight import run_lock
from featherweight.errors import FailedError, RunDirectoryError
from featherweight.records import write_bytes
from featherweight.run_directory import RunDirectory, open_run
from featherweight.run_lock import RunLock, is_locked, take_lock


class Clock:
    """Seconds that only the test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run_lock, "_clock", clock)
    return clock


def start(folder: Path) -> RunDirectory:
    return open_run(folder, identity={"seed": 0}, command="fit")


def heartbeat(run: RunDirectory) -> None:
    """What the thread does every second."""
    run._lock._note(run._lock.elapsed_s)


@pytest.mark.parametrize("linked", [os.symlink, os.link])
def test_a_lock_that_is_a_link_damages_nothing(linked: object, tmp_path: Path) -> None:
    precious = tmp_path / "thesis.tex"
    precious.write_text("years of work\n")
    (tmp_path / "run").mkdir()
    linked(precious, tmp_path / "run" / "lock")  # type: ignore[operator]
    with pytest.raises(RunDirectoryError, match="lock"):
        start(tmp_path / "run")
    assert precious.read_text() == "years of work\n"
    assert not is_locked(tmp_path / "run")


@pytest.mark.parametrize("kind", ["pipe", "folder", "text"])
def test_a_lock_that_is_something_else_is_refused(kind: str, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    if kind == "pipe":
        os.mkfifo(lock)
    elif kind == "folder":
        lock.mkdir()
    else:
        lock.write_text("not a lock")
    with pytest.raises(RunDirectoryError, match="lock"):
        take_lock(tmp_path)
    assert not is_locked(tmp_path)
    assert kind != "text" or lock.read_text() == "not a lock"


@pytest.mark.parametrize("note", ["", "1234\n", "77 3.5".ljust(31) + "\n"])
def test_the_lock_of_any_earlier_run_is_taken(note: str, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(note)
    lock = take_lock(tmp_path)
    assert is_locked(tmp_path)
    assert lock.before == (None if not note else (77, 3.5) if "." in note else (1234, 0.0))
    lock.release()
    lock.release()
    assert not is_locked(tmp_path)
    assert (tmp_path / "lock").read_text().split() == [str(os.getpid()), "0.0"]


def test_a_killed_attempt_counts_up_to_its_last_second(tmp_path: Path, clock: Clock) -> None:
    killed = start(tmp_path / "run")
    clock.now_s += 14.0
    heartbeat(killed)  # run.yaml is not written anew
    clock.now_s += 0.9
    killed.close()
    with start(tmp_path / "run") as run:
        assert run.elapsed_s == pytest.approx(14.0)
        clock.now_s += 2.0
        assert run.elapsed_s == pytest.approx(16.0)
    with start(tmp_path / "run") as run:
        assert [attempt.elapsed_s for attempt in run.attempts] == pytest.approx([14.0, 2.0, 0.0])


def test_beats_come_every_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_lock._BEAT_S <= 1.0
    monkeypatch.setattr(run_lock, "_BEAT_S", 0.001)
    lock = take_lock(tmp_path)
    while (tmp_path / "lock").read_text().split()[1] == "0.0":
        pass
    lock.release()
    assert not lock._beats.is_alive()


def test_a_directory_that_was_removed_is_not_made_again(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    shutil.rmtree(run.path)
    for write in (
        run.heartbeat,
        lambda: run.finish_stage("look", inputs={}, outputs={}, seconds=1.0),
        lambda: run.finish({"verdict": "met"}),
        lambda: write_bytes(run.path / "artifacts" / "shop" / "model.onnx", b"x"),
    ):
        with pytest.raises(FailedError, match="was removed or replaced") as caught:
            write()
        assert "\n" not in str(caught.value)
    assert not run.path.exists()
    run.close()
    with start(tmp_path / "run") as again:  # let go: nobody is in the way of a new run
        again.heartbeat()


def test_a_directory_that_was_replaced_is_left_alone(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.path.rename(tmp_path / "away")
    run.path.mkdir()
    (run.path / "lock").write_text("1\n")  # of another process
    with pytest.raises(FailedError, match="was removed or replaced"):
        run.heartbeat()
    assert [path.name for path in run.path.iterdir()] == ["lock"]
    run.close()


def test_a_lock_deleted_while_it_was_taken_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, deleted = run_lock.fcntl.flock, []

    def delete_first(descriptor: int, how: int) -> None:
        if not deleted:
            deleted.append(1)
            (tmp_path / "lock").unlink()
        flock(descriptor, how)

    monkeypatch.setattr(run_lock.fcntl, "flock", delete_first)
    lock: RunLock = take_lock(tmp_path)
    assert is_locked(tmp_path)
    lock.release()
