"""Freed memory is kept while training, and given back afterwards."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

SCRIPT = """
import json, resource
from featherweight.training.memory import memory_kept

BYTES, TURNS = 80 * 2**20, 6
PAGE = resource.getpagesize()

def share():
    # of the pages that the kernel would hand out if every block were mapped anew
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(TURNS):
        block = bytearray(BYTES)
        block[::PAGE] = b"x" * len(block[::PAGE])
        del block
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (TURNS * BYTES // PAGE)

found = {"before": share()}
with memory_kept():
    with memory_kept():
        share()
    found["inside"] = share()
found["after"] = share()
print(json.dumps(found))
"""


def shares(**environment: str) -> dict[str, float]:
    """Measure in a fresh process: what other tests have freed would serve the blocks here."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        env={**clean, **environment},
    )
    return dict(json.loads(done.stdout))


def test_memory_is_kept_until_the_outermost_end() -> None:
    found = shares()
    assert found["before"] > 0.9, "the kernel hands out every block anew"
    assert found["inside"] < 0.5, "kept, also after the inner end"
    assert found["after"] > 0.9, "as before"


def test_a_user_who_has_told_malloc_what_to_do_is_obeyed() -> None:
    assert shares(MALLOC_MMAP_MAX_="65536")["inside"] > 0.9
