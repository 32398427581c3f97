"""What the tests of data share: a folder of pictures in one line, and what the log said."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def plant() -> Callable[..., Path]:
    """Return a function that fills folders: plant(root, {"train/cat": 5}) -> root."""
    generator = np.random.default_rng(0)

    def fill(root: Path, layout: dict[str, int]) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        for folder, count in layout.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / folder / f"{number}.png")
        return root

    return fill


@pytest.fixture
def said() -> Iterator[list[str]]:
    """Collect the warnings of the package, also where a command has taken over its log."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, handler = logging.getLogger("featherweight.data"), Collector(logging.WARNING)
    log.addHandler(handler)
    yield lines
    log.removeHandler(handler)
