"""Keep freed memory while training: the C library gives large blocks back to the system at once.

glibc maps every block above 32 MB anew and unmaps it when it is freed: each layer of each step
then waits for the kernel to hand out zeroed pages. EfficientNet-Lite1 at 224 pixels, batch 64,
two cores: a step took 4.6 s in float32 and 2.3 s in bfloat16, of which 4.3 and 0.5 s in the
kernel; with the memory kept 1.9 and 1.8 s (benchmarks/training_memory.py).
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["memory_kept"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Names of glibc's mallopt(3)."""
_NEVER = -1
_USUAL_MAPPINGS = 65_536
_USUAL_MAPPED_BYTES = 32 * 2**20
"""glibc moves its thresholds with what is freed, up to these; setting one ends that."""
_USUAL_TRIMMED_BYTES = 64 * 2**20

_lock = threading.Lock()
_users = 0


@contextmanager
def memory_kept() -> Iterator[None]:
    """Let this process keep what it frees until the outermost `with` ends.

    Does nothing where the C library is not glibc, or where the user has told it what to do
    (MALLOC_... in the environment). More memory than before is held meanwhile: about the peak,
    all the time.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _users  # noqa: PLW0603 - the C library has one state per process
    with _lock:
        _users += 1
        if _users == 1:
            library = ctypes.CDLL(None)
            library.mallopt(_MMAP_MAX, 0)
            library.mallopt(_TRIM_THRESHOLD, _NEVER)


def _leave() -> None:
    global _users  # noqa: PLW0603
    with _lock:
        _users -= 1
        if _users == 0:
            library = ctypes.CDLL(None)
            library.mallopt(_MMAP_MAX, _USUAL_MAPPINGS)
            library.mallopt(_MMAP_THRESHOLD, _USUAL_MAPPED_BYTES)
            library.mallopt(_TRIM_THRESHOLD, _USUAL_TRIMMED_BYTES)
            library.malloc_trim(0)
