"""Read a labelled picture data set from a folder, Parquet files or the built-in demo."""

from __future__ import annotations

import hashlib
import logging
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featherweight.data.dataset import (
    SPLITS,
    Candidate,
    Found,
    ImageData,
    ImageSplit,
    Inspection,
    Problem,
)
from featherweight.data.decode import inspect_pictures
from featherweight.data.demo import find_demo_pictures
from featherweight.data.folders import ALLOWED_LAYOUTS, find_folder_pictures
from featherweight.data.parquet import find_parquet_pictures, parquet_files
from featherweight.data.splits import arrange_splits
from featherweight.errors import DataError

__all__ = ["MAX_BROKEN_SHARE", "ImageData", "ImageSplit", "Problem", "load_images"]

logger = logging.getLogger(__name__)

MAX_BROKEN_SHARE = 0.5
"""Beyond this share of broken pictures something else is wrong: an error, not a warning."""


def load_images(source: str | Path, *, seed: int = 0) -> ImageData:
    """Read a data set: find the pictures, decode each one once to see that it can be, split them.

    Args:
        source: "demo" (8x8 digits; write ./demo for a folder of that name), a folder of class
            folders, with or without train/val/test above them, a .parquet file, or a folder of
            train*/val*/test*.parquet.
        seed: draws the splits that the data does not have.

    Returns:
        The data; broken pictures are left out and listed in `skipped`.

    Raises:
        DataError: the source is absent, holds no labelled pictures, or cannot be split.
    """
    found = _find(source)
    inspections = list(inspect_pictures([candidate.source for candidate in found.candidates]))
    broken = [
        Problem(kind="broken", path=candidate.name, detail=inspection.error)
        for candidate, inspection in zip(found.candidates, inspections, strict=True)
        if inspection.error is not None
    ]
    if len(broken) > MAX_BROKEN_SHARE * len(inspections):
        raise DataError(
            f"{len(broken)} of {len(inspections)} pictures are broken, "
            f"first {broken[0].path}: {broken[0].detail}",
            allowed=f"up to {MAX_BROKEN_SHARE:.0%}",
            hint="copy or download the data again",
        )
    if broken:
        logger.warning("%d broken pictures are skipped, first %s", len(broken), broken[0].path)
    good = [
        (candidate, inspection)
        for candidate, inspection in zip(found.candidates, inspections, strict=True)
        if inspection.error is None
    ]
    return _assemble(found, good=good, broken=broken, seed=seed)


def _find(source: str | Path) -> Found:
    """Choose the reader that understands `source`."""
    if source == "demo":
        return find_demo_pictures()
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"no such file or folder: {path}", allowed=ALLOWED_LAYOUTS)
    if path.is_dir():
        files = parquet_files(path)
        return find_parquet_pictures(path, files=files) if files else find_folder_pictures(path)
    if path.suffix.lower() != ".parquet":
        raise DataError(f"{path} is a file but not Parquet", allowed=ALLOWED_LAYOUTS)
    return find_parquet_pictures(path, files={path: "all"})


def _assemble(
    found: Found,
    *,
    good: Sequence[tuple[Candidate, Inspection]],
    broken: Sequence[Problem],
    seed: int,
) -> ImageData:
    """Split the good pictures and freeze everything."""
    labels = [candidate.label for candidate, _ in good]
    splits = arrange_splits(
        labels,
        given=[candidate.split for candidate, _ in good],
        digests=[inspection.digest for _, inspection in good],
        seed=seed,
    )
    used = set(labels)
    classes = tuple(name for name in found.classes if name in used)
    unused = [
        Problem(kind="empty_class", path=name, detail="a declared class without usable pictures")
        for name in found.classes
        if name not in used
    ]
    index = {name: position for position, name in enumerate(classes)}
    parts: dict[str, ImageSplit] = {}
    for split in SPLITS:
        members = [item for item, name in zip(good, splits, strict=True) if name == split]
        numbers = np.array([index[candidate.label] for candidate, _ in members], dtype=np.int64)
        numbers.flags.writeable = False
        parts[split] = ImageSplit(
            paths_or_bytes=tuple(candidate.source for candidate, _ in members),
            labels=numbers,
            names=tuple(candidate.name for candidate, _ in members),
            inspections=tuple(inspection for _, inspection in members),
        )
    sides = [min(inspection.width, inspection.height) for _, inspection in good]
    return ImageData(
        name=found.name,
        classes=classes,
        splits=parts,
        channels=3,
        fingerprint=_fingerprint(classes, parts),
        skipped=(*broken, *found.problems, *unused),
        typical_size=int(statistics.median(sides)),
    )


def _fingerprint(classes: Sequence[str], splits: dict[str, ImageSplit]) -> str:
    """Digest what a run depends on; where the folder lies does not count."""
    digest = hashlib.sha256(repr(tuple(classes)).encode("utf-8", "surrogateescape"))
    for name, split in splits.items():
        for path, label, seen in zip(split.names, split.labels, split.inspections, strict=True):
            line = f"{name}\0{path}\0{label}\0{seen.digest}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
