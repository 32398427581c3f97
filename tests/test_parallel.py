"""Independent work runs here, in processes or on Ray; what a lost process did is done again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from featherweight.errors import FailedError, UsageError
from featherweight.parallel import HereExecutor, check_workers, open_executor, width_of


def double(value: int) -> int:
    return 2 * value


def refuse(value: int) -> int:
    raise UsageError(f"no {value}", allowed="another", hint="ask otherwise")


def die_first(marker: str, value: int) -> int:
    """Die like a process that the system kills, unless the marker says that one did."""
    path = Path(marker)
    if not path.exists():
        path.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * value


def die(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def process_id(_: int) -> tuple[int, str | None]:
    return os.getpid(), os.environ.get("OMP_NUM_THREADS")


def test_here_nothing_happens_before_it_is_asked_for() -> None:
    done: list[int] = []
    with open_executor("here") as executor:
        assert isinstance(executor, HereExecutor)
        assert width_of(executor) == 1
        futures = [executor.submit(done.append, value) for value in (1, 2)]
        assert done == []
        futures[1].result()
        assert done == [2]
        futures[1].result()
        assert done == [2], "once"
        with pytest.raises(UsageError, match="no 3"):
            executor.submit(refuse, 3).result()


def test_processes_share_the_cores_and_bring_errors_back() -> None:
    with open_executor("processes=2") as executor:
        assert width_of(executor) == 2
        assert [f.result(60) for f in [executor.submit(double, k) for k in range(5)]] == [
            0,
            2,
            4,
            6,
            8,
        ]
        number, threads = executor.submit(process_id, 0).result(60)
        assert number != os.getpid()
        assert threads == str(max(1, (os.cpu_count() or 1) // 2))
        with pytest.raises(UsageError, match="no 3") as caught:
            executor.submit(refuse, 3).result(60)
        assert caught.value.hint == "ask otherwise"


def test_what_a_lost_process_did_is_done_again(tmp_path: Path) -> None:
    marker = tmp_path / "died"
    with open_executor("processes=2") as executor:
        futures = [executor.submit(die_first, str(marker), value) for value in range(4)]
        assert [future.result(60) for future in futures] == [0, 2, 4, 6]
    assert marker.exists()


def test_work_that_kills_every_process_ends() -> None:
    with open_executor("processes=1") as executor, pytest.raises(FailedError, match="3 times"):
        executor.submit(die, 0).result(60)


@pytest.mark.slow
def test_ray_does_what_a_lost_worker_did_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    # Workers load the functions of this file by its name.
    folders = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    marker = tmp_path / "died"
    with open_executor("ray") as executor:
        assert width_of(executor) >= 1
        futures = [executor.submit(die_first, str(marker), value) for value in range(3)]
        assert [future.result(120) for future in futures] == [0, 2, 4]
    assert marker.exists()


@pytest.mark.parametrize("text", ["", "there", "processes", "processes=0", "ray:", "ray://host"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="processes=N"):
        check_workers(text)
