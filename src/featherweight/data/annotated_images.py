"""Annotated pictures in the form in which every command takes data."""

from __future__ import annotations

import hashlib
import logging
import statistics
from pathlib import Path

import numpy as np

from featherweight.data.annotations import AnnotatedPicture, load_annotations
from featherweight.data.dataset import ImageData, ImageSplit, Inspection, Problem
from featherweight.data.decode import inspect_pictures
from featherweight.detection.average_precision import Truth
from featherweight.detection.table import DETECTION, pack_truths, truths_of
from featherweight.errors import DataError
from featherweight.readable import readable

__all__ = ["load_annotated_images"]

logger = logging.getLogger(__name__)


def load_annotated_images(source: str | Path, *, seed: int, quiet: bool) -> ImageData:
    """Read pictures with boxes, decode each once to see that it can be, split them.

    Targets are those of `pack_truths`; crowds and difficult objects are neither learnt nor to be
    found.

    Args:
        source: as for `load_annotations`.
        seed: draws the splits that the data does not have.
        quiet: do not warn of what is not used; it is in `skipped` all the same.

    Raises:
        DataError: as `load_annotations`, or no picture of a split can be decoded.
    """
    found = load_annotations(source, seed=seed)
    problems = [Problem(kind=one.kind, path=one.where, detail=one.text) for one in found.problems]
    left_out = sum(one.left_out for one in found.problems)
    parts, sides = {}, []
    digest = hashlib.sha256(found.fingerprint.encode())
    for split, pictures in found.splits.items():
        good: list[tuple[AnnotatedPicture, Inspection]] = []
        for one, seen in zip(
            pictures, inspect_pictures([one.path for one in pictures]), strict=True
        ):
            if seen.error is None:
                good.append((one, seen))
                continue
            left_out += 1
            detail = f"{seen.error}: left out"
            problems.append(Problem(kind="broken", path=one.name, detail=detail))
        if not good:
            raise DataError(f"no picture of {split} can be decoded", hint=problems[-1].detail)
        parts[split] = _split(good)
        if not any((~one.crowd).any() for one in truths_of(parts[split].targets)):
            raise DataError(
                f"the {split} pictures of {found.name} have no boxes to find",
                allowed="objects that are not all crowds or difficult ones",
                hint="annotate them, or take them away: a split that is missing is cut from train",
            )
        sides += [min(seen.width, seen.height) for _, seen in good]
        digest.update("".join(seen.digest for _, seen in good).encode())
    if left_out and not quiet:
        first = readable(f"{problems[0].path}: {problems[0].detail}")
        logger.warning("%d boxes or pictures are not used, first %s", left_out, first)
    return ImageData(
        name=found.name,
        classes=found.classes,
        splits=parts,
        channels=3,
        fingerprint=digest.hexdigest(),
        skipped=tuple(problems),
        typical_size=int(statistics.median(sides)),
        task=DETECTION,
    )


def _split(good: list[tuple[AnnotatedPicture, Inspection]]) -> ImageSplit:
    truths = [
        Truth(one.boxes / np.array([*one.size, *one.size]), one.labels, one.crowd | one.difficult)
        for one, _ in good
    ]
    targets = pack_truths(truths)
    targets.flags.writeable = False
    return ImageSplit(
        paths_or_bytes=tuple(one.path for one, _ in good),
        targets=targets,
        names=tuple(one.name for one, _ in good),
        inspections=tuple(seen for _, seen in good),
    )
