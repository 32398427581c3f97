"""Where independent work runs: in this process, in others of this machine, or on a Ray cluster.

Whatever is given to an executor is a function of a module and plain, picklable arguments.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from featherweight.errors import MissingDependencyError, UsageError, WorkerLostError

__all__ = ["HERE", "HereExecutor", "check_workers", "open_executor", "width_of"]

T = TypeVar("T")

HERE = "here"
_FORMS = "here, processes=N, ray, or ray://HOST:PORT"
_PROCESSES = re.compile(r"processes=([1-9]\d{0,2})")
_RAY = re.compile(r"ray(://[^\s/]+:\d{1,5})?")
_RETRIES = 2
"""How often work is begun again whose process was lost."""


def check_workers(text: str) -> str:
    """Return the text, if it says where work can run.

    Raises:
        UsageError: it does not.
    """
    if text == HERE or _PROCESSES.fullmatch(text) or _RAY.fullmatch(text):
        return text
    raise UsageError(f"cannot read the workers {text!r}", allowed=_FORMS)


def open_executor(text: str) -> Executor:
    """Return what runs work; use it as a context manager.

    Args:
        text: `here`: one after the other, when its result is asked for; `processes=N`: in so many
            processes of this machine, which share its cores; `ray`: on a cluster of this machine,
            `ray://HOST:PORT`: on another one, which must see the same folders. Work whose process
            or machine is lost is begun again.

    Raises:
        UsageError: another text.
        MissingDependencyError: Ray is not installed.
    """
    check_workers(text)
    if text == HERE:
        return HereExecutor()
    processes = _PROCESSES.fullmatch(text)
    if processes is not None:
        return _ProcessesExecutor(int(processes[1]))
    return _RayExecutor(None if text == "ray" else text)


def width_of(executor: Executor) -> int:
    """Return how much work an executor does at the same time."""
    return int(getattr(executor, "width", 1))


class HereExecutor(Executor):
    """Runs work in this process, one after the other, when its result is asked for.

    Not before: what is cut between two pieces of work has written down the first one's result.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Return a future that does the work when it is asked."""
        return _Later(lambda: fn(*args, **kwargs))


class _Later(Future[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__()
        self._work = work

    def result(self, timeout: float | None = None) -> T:
        if not self.done():
            try:
                self.set_result(self._work())
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever asks
                self.set_exception(error)
        return super().result(timeout)


class _ProcessesExecutor(Executor):
    """A pool of fresh processes; one that dies is replaced, and what it did is begun again."""

    def __init__(self, count: int) -> None:
        self.width = count
        self._lock = threading.Lock()
        self._pool = self._open()

    def _open(self) -> ProcessPoolExecutor:
        threads = max(1, (os.cpu_count() or 1) // self.width)
        return ProcessPoolExecutor(
            self.width,
            mp_context=get_context("spawn"),
            initializer=_limit_threads,
            initargs=(threads,),
        )

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Give work to a process."""
        outer: Future[T] = Future()
        self._give(outer, lambda pool: pool.submit(fn, *args, **kwargs), lives=_RETRIES)
        return outer

    def _give(
        self,
        outer: Future[T],
        submit: Callable[[ProcessPoolExecutor], Future[T]],
        *,
        lives: int,
    ) -> None:
        pool = self._pool
        try:
            inner = submit(pool)
        except BrokenProcessPool:
            self._replace(pool)
            inner = submit(self._pool)

        def pass_on(done: Future[T]) -> None:
            error = done.exception()
            if isinstance(error, BrokenProcessPool):
                self._replace(pool)
                if lives > 0:
                    self._give(outer, submit, lives=lives - 1)
                else:
                    outer.set_exception(
                        WorkerLostError(f"a worker process was lost {_RETRIES + 1} times")
                    )
            elif error is not None:
                outer.set_exception(error)
            else:
                outer.set_result(done.result())

        inner.add_done_callback(pass_on)

    def _replace(self, broken: ProcessPoolExecutor) -> None:
        """Open another pool, once for all the work that a broken one has lost."""
        with self._lock:
            if self._pool is broken:
                self._pool = self._open()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - Executor's
        """End the processes."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


def _limit_threads(count: int) -> None:
    """Let this process use so many threads: libraries read these when they are loaded."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)


class _RayExecutor(Executor):
    """Tasks of a Ray cluster; Ray begins those anew whose machine is lost."""

    def __init__(self, address: str | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                "Ray is not installed", hint="pip install 'featherweight[ray]'"
            ) from error
        self._ray: Any = ray
        self._open = contextlib.ExitStack()
        # Of a lost worker Ray tells on standard output, which belongs to --json.
        self._open.enter_context(contextlib.redirect_stdout(sys.stderr))
        try:
            self._is_ours = not ray.is_initialized()
            if self._is_ours:
                ray.init(address=address, log_to_driver=False, include_dashboard=False)
            self.width = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        except BaseException:
            self._open.close()
            raise

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Give work to the cluster."""
        task = self._ray.remote(fn).options(max_retries=_RETRIES)
        found: Future[T] = task.remote(*args, **kwargs).future()
        return found

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - Executor's
        """Leave the cluster; one that was started here ends."""
        with self._open:
            if self._is_ours:
                self._ray.shutdown()
