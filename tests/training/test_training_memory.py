"""Freed memory is kept while training, and given back afterwards."""

from __future__ import annotations

import platform
import resource

import numpy as np
import pytest

from featherweight.training.memory import memory_kept

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

MEGABYTES, TURNS = 80, 6
PAGES_EACH = MEGABYTES * 2**20 // resource.getpagesize()


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX"):
        monkeypatch.delenv(name, raising=False)


def faults() -> int:
    """Return how many pages the kernel hands out while a block is filled and freed in turns."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(TURNS):
        block = bytearray(MEGABYTES * 2**20)  # not numpy: it asks for huge pages
        np.frombuffer(block, dtype=np.uint8)[:: resource.getpagesize()] = 1
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_memory_is_kept_until_the_outermost_end() -> None:
    assert faults() >= 0.9 * TURNS * PAGES_EACH, "the kernel hands out every block anew"
    with memory_kept():
        with memory_kept():
            faults()
        assert faults() < 0.5 * TURNS * PAGES_EACH, "the inner end gives nothing back"
    assert faults() >= 0.9 * TURNS * PAGES_EACH, "as before"


def test_a_user_who_has_told_malloc_what_to_do_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "100")
    with memory_kept():
        assert faults() >= 0.9 * TURNS * PAGES_EACH
