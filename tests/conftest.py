"""What every test may use: golden files, and system programs that may be missing."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

GOLDEN = Path(__file__).parent / "golden"
LARGEST_GOLDEN_BYTES = 50_000
LARGE = re.compile(
    r"lite[1-4]$|v[34]_(conv_)?(large|medium)|shufflenet_v1_g[1248]|shufflenet_v2_(164|50)"
    r"|snet(146|535)|ghost_resnet56|mnasnet_b1|(035|050|075|125|130|140|1[._]3|1[._]5|2[._]0)$"
)
"""Networks with smaller ones of the same blocks: what computes with them is a slow test."""
COMPUTING = {"adapting", "contracts", "exporting", "networks", "oracles", "runtimes"}
"""Folders whose tests make networks, and do not only count them."""


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep decoded pictures of tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERWEIGHT_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard() -> Iterator[None]:
    """A script's background jobs ignore SIGINT, and so would every program that tests start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def log_of_a_new_process() -> None:
    """Undo what a command before did to the log: this test may read it."""
    log = logging.getLogger("featherweight")
    log.propagate = True
    log.setLevel(logging.NOTSET)
    log.handlers.clear()


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 50 digits a class: a fit of it is like one of the demo, and shorter."""
    digits, counts = load_digits(), Counter[int]()
    folder = tmp_path_factory.mktemp("few")
    for index, (scan, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        counts[digit] += 1
        if counts[digit] <= 50:
            (folder / str(digit)).mkdir(exist_ok=True)
            picture = Image.fromarray(np.rint(scan * 15.9375).astype(np.uint8))
            picture.save(folder / str(digit) / f"{index}.png")
    return folder


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Return a check that a text equals `tests/golden/<name>`; `make golden` rewrites the file."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        assert len(text.encode()) <= LARGEST_GOLDEN_BYTES, f"{name} is too large to be read"
        if os.environ.get("FEATHERWEIGHT_GOLDEN") == "rewrite":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"no golden file {name}: run `make golden` and read the difference"
        assert text == path.read_text(encoding="utf-8")

    return check


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cases of large networks as slow ones."""
    for item in items:
        case = getattr(item, "callspec", None)
        words = [] if case is None else re.split(r"[\s-]", case.id)
        if item.path.parent.name in COMPUTING and any(map(LARGE.search, words)):
            item.add_marker(pytest.mark.slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test by the name of the program it misses; where programs are promised, fail."""
    for marker in item.iter_markers("system"):
        for program in marker.args:
            if shutil.which(program) is not None:
                continue
            if os.environ.get("FEATHERWEIGHT_REQUIRE_SYSTEM") == "1":
                pytest.fail(f"the program {program!r} is missing: run `make system`")
            pytest.skip(f"the program {program!r} is missing: `make system` installs it")
