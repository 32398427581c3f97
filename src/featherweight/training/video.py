"""Answer a film frame by frame, and draw the boxes into a copy; opencv reads and writes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featherweight.data.drawing import draw_objects
from featherweight.errors import DataError, FailedError, MissingDependencyError

__all__ = ["VIDEO_SUFFIXES", "answer_video"]

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
_FRAMES_PER_S = 25.0
"""Of a file that does not say."""


def answer_video(
    path: Path,
    answer: Callable[[Image.Image], list[dict[str, Any]]],
    *,
    classes: Sequence[str],
    drawn: Path | None,
) -> dict[str, Any]:
    """Return the objects of every frame, and write the film with their boxes.

    Args:
        path: the film.
        answer: one frame in RGB -> its objects, boxes in pixels.
        classes: names, for the colours.
        drawn: the MP4 file to draw to; `None` = none.

    Returns:
        `image` (the path), `frames` (`time_s` and `objects` of each), `frames_per_s` (with decoding
        and drawing), `drawn` (the film) and `error`: why it ended early, if it did.

    Raises:
        MissingDependencyError: opencv is not installed.
        DataError: not a single frame can be read.
        FailedError: the drawn film cannot be written.
    """
    cv2 = _opencv()
    film = cv2.VideoCapture(str(path))
    rate = film.get(cv2.CAP_PROP_FPS) or _FRAMES_PER_S
    promised = int(film.get(cv2.CAP_PROP_FRAME_COUNT))
    frames: list[dict[str, Any]] = []
    writer, started = None, time.monotonic()
    try:
        while True:
            read, pixels = film.read()
            if not read:
                break
            image = Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
            objects = answer(image)
            frames.append({"time_s": len(frames) / rate, "objects": objects})
            if drawn is not None:
                writer = writer or _writer(cv2, drawn, rate, image.size)
                shown = np.asarray(draw_objects(image, objects, classes))
                writer.write(cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))
    finally:
        film.release()
        if writer is not None:
            writer.release()
    if not frames:
        raise DataError(f"no frame of {path} can be read", allowed="a film that opencv reads")
    seconds = time.monotonic() - started
    early = f"it ends after {len(frames)} of {promised} frames" if len(frames) < promised else None
    return {
        "image": str(path),
        "frames": frames,
        "frames_per_s": len(frames) / max(seconds, 1e-9),
        "drawn": None if drawn is None else str(drawn),
        "error": early,
    }


def _writer(cv2: Any, path: Path, rate: float, size: tuple[int, int]) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    if not writer.isOpened():
        raise FailedError(f"cannot write the film {path}", hint="is the folder writable?")
    return writer


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError(
            "films are read by opencv, which is not installed",
            hint="pip install 'featherweight[video]'",
        ) from error
    return cv2
